package clients

import (
	"fmt"
	"strings"
	"testing"
)

// TestIETFClient runs tus-js-client in the two forms of the IETF's resumable
// uploads that it speaks: interop versions 5 and 6.
func TestIETFClient(t *testing.T) { // R05
	b := start(t)
	for _, protocol := range []string{"ietf-draft-03", "ietf-draft-05"} {
		for _, c := range []struct {
			name  string
			size  int64
			chunk int64
			cuts  []int64
			slack int64 // bytes that may be sent twice, and TLS
		}{
			{"in one request", 12 * mib, 0, nil, mib},
			{"empty file", 0, 0, nil, mib},
			{"in chunks", 12 * mib, 5 * mib, nil, mib},
			// What a cut loses is what lay in the buffers of the sockets.
			{"cut once", 25_000_000, 0, []int64{9_000_000}, 8 * mib},
			{"in chunks, cut twice", 25_000_000, 4 * mib, []int64{9_000_000, 18_000_000}, 16 * mib},
		} {
			t.Run(protocol+" "+c.name, func(t *testing.T) {
				file, sum := content(t, c.size)
				p := proxy(t, b, c.cuts...)
				path := protocol + "/照片 " + c.name + ".jpg"
				r := tus(t, b, tusSettings{
					Endpoint: fmt.Sprintf("https://127.0.0.1:%d/v1/uploads", p.Port()), File: file, Token: b.Token,
					Path: path, Chunk: c.chunk, SHA256: sum, Protocol: protocol,
				})
				if !r.OK {
					t.Fatalf("tus-js-client gave up: %+v", r)
				}
				if p.Cuts() != len(c.cuts) || r.Retries < len(c.cuts) {
					t.Errorf("%d cuts and %d retries, want %d", p.Cuts(), r.Retries, len(c.cuts))
				}
				sent := p.Sent()
				t.Logf("%d bytes were sent for a file of %d", sent, c.size)
				if sent > c.size+c.slack {
					t.Errorf("%d bytes were sent for a file of %d: it did not resume", sent, c.size)
				}
				if r.SHA256 != sum {
					t.Errorf("the box says it stored %q, sent was %s", r.SHA256, sum)
				}
				mustHave(t, b, path, sum)
			})
		}
		t.Run(protocol+" wrong hash", func(t *testing.T) {
			file, _ := content(t, mib)
			_, other := content(t, 10)
			path := protocol + "/wrong.bin"
			r := tus(t, b, tusSettings{Endpoint: b.URL + "/v1/uploads", File: file, Token: b.Token, Path: path, SHA256: other, Protocol: protocol})
			if r.OK || r.Status/100 != 4 || !strings.Contains(r.Body, `"hint"`) {
				t.Errorf("the wrong hash must be refused with a problem that says what to do: %+v", r)
			}
			mustNotHave(t, b, path)
		})
	}
}

// TestCurlIETF: a client that knows nothing of 104 is not disturbed by one.
func TestCurlIETF(t *testing.T) { // R05
	b := start(t)
	for _, http := range []string{"--http1.1", "--http2"} {
		file, sum := content(t, 3*mib)
		r := curl(t, b, http, "-H", "Authorization: Bearer "+b.Token, "-H", "Upload-Complete: ?1", "-H", "Upload-Draft-Interop-Version: 8",
			"-H", `Content-Disposition: inline; filename="`+http+`.mp4"`, "-H", "Content-Type: video/mp4", "-H", "Expect: 100-continue",
			"--data-binary", "@"+file, b.URL+"/v1/uploads?source=other")
		if r.status != 201 || !strings.Contains(r.body, sum) {
			t.Errorf("%s: %+v", http, r)
		}
		mustHave(t, b, http+".mp4", sum)
		if http == "--http2" {
			continue // this curl loses an answer that comes before its body was sent (also that of PUT)
		}
		again := curl(t, b, http, "-H", "Authorization: Bearer "+b.Token, "-H", "Upload-Complete: ?1", "-H", digest(sum), "-H", "Expect: 100-continue",
			"--expect100-timeout", "20", "--data-binary", "@"+file, b.URL+"/v1/uploads?source=other&path=again")
		if again.status != 200 || again.uploaded != 0 || !strings.Contains(again.body, `"known"`) {
			t.Errorf("%s, again: %+v", http, again)
		}
	}
}

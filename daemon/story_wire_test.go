package daemon_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// Requests that no decent client sends, written by hand. Whatever the box makes
// of them, it keeps nothing that is not whole, has no fault of its own, and goes
// on to serve others.
func TestBadHTTPKeepsNothing(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	host := hostOf(t, b)
	begin := "PUT /v1/files/bad.jpg?source=album HTTP/1.1\r\n"
	sign := "Authorization: Bearer " + ada.Token + "\r\n"
	known := "Host: " + host + "\r\n" + sign
	half := strings.Repeat("x", 500)
	for what, request := range map[string]string{
		"half of the body":                   begin + known + "Content-Length: 1000\r\n\r\n" + half,
		"none of the body":                   begin + known + "Content-Length: 1000\r\n\r\n",
		"two lengths":                        begin + known + "Content-Length: 500\r\nContent-Length: 400\r\n\r\n" + half,
		"two lengths in one":                 begin + known + "Content-Length: 500, 400\r\n\r\n" + half,
		"a length and chunks, cut":           begin + known + "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n" + half,
		"chunks without an end":              begin + known + "Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + half + "\r\n",
		"a chunk that is shorter than said":  begin + known + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + half + "\r\n0\r\n\r\n",
		"a chunk of no size":                 begin + known + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + half + "\r\n0\r\n\r\n",
		"a chunk of a negative size":         begin + known + "Transfer-Encoding: chunked\r\n\r\n-1f4\r\n" + half + "\r\n0\r\n\r\n",
		"a chunk larger than numbers":        begin + known + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + half + "\r\n0\r\n\r\n",
		"an encoding that nobody knows":      begin + known + "Transfer-Encoding: gzip, chunked\r\n\r\n1f4\r\n" + half + "\r\n0\r\n\r\n",
		"no host":                            begin + sign + "Content-Length: 500\r\n\r\n" + half,
		"another host":                       begin + "Host: evil.example\r\n" + sign + "Content-Length: 500\r\n\r\n" + half,
		"another host in the address":        "PUT https://evil.example/v1/files/bad.jpg?source=album HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"two hosts":                          begin + known + "Host: evil.example\r\nContent-Length: 500\r\n\r\n" + half,
		"two tokens":                         begin + known + "Authorization: Bearer x\r\nContent-Length: 500\r\n\r\n" + half,
		"a header without an end":            begin + known + "X: " + strings.Repeat("x", 64<<10) + "\r\nContent-Length: 500\r\n\r\n" + half,
		"a header with a space":              begin + known + "Content-Length : 500\r\n\r\n" + half,
		"a range":                            begin + known + "Content-Range: bytes 0-499/1000\r\nContent-Length: 500\r\n\r\n" + half,
		"compressed":                         begin + known + "Content-Encoding: gzip\r\nContent-Length: 500\r\n\r\n" + half,
		"a digest that is none":              begin + known + "Repr-Digest: sha-256=:AAAA:\r\nContent-Length: 500\r\n\r\n" + half,
		"another site's page":                begin + known + "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\nContent-Length: 500\r\n\r\n" + half,
		"a parameter twice":                  "PUT /v1/files/bad.jpg?source=album&source=other HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"a parameter that is misspelt":       "PUT /v1/files/bad.jpg?source=album&mtme=1 HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"a time before cameras":              "PUT /v1/files/bad.jpg?source=album&mtime=-5 HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"a time after everything":            "PUT /v1/files/bad.jpg?source=album&mtime=99999999999999 HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"a device that is somebody's number": "PUT /v1/files/bad.jpg?source=album&device=1 HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"a folder's address":                 "PUT /v1/files/bad/?source=album HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"no name":                            "PUT /v1/files/?source=album HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"an encoded slash":                   "PUT /v1/files/a%2Fbad.jpg?source=album HTTP/1.1\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"a version of nobody":                "PUT /v1/files/bad.jpg?source=album HTTP/3.7\r\n" + known + "Content-Length: 500\r\n\r\n" + half,
		"no HTTP at all":                     strings.Repeat("\x00\xff", 4000),
	} {
		c, ok := raw(t, b).(*tls.Conn)
		if !ok {
			t.Fatal("no TLS")
		}
		// The box may answer and close before all is written.
		_, _ = io.WriteString(c, request)
		_ = c.CloseWrite() // the end of what this client has to say
		answer, _ := io.ReadAll(c)
		status := 0
		if _, err := fmt.Sscanf(string(answer), "HTTP/1.1 %d ", &status); err != nil && len(answer) > 0 {
			t.Errorf("%s: %.200q", what, answer)
		}
		if status/100 == 2 || status == http.StatusInternalServerError {
			t.Errorf("%s: %.200q", what, answer)
		}
		c.Close()
	}
	var me struct{ Usage struct{ Items, Bytes int64 } }
	ask(ada, "GET", "/v1/me", "").is(t, "me", 200, "").into(t, &me)
	if me.Usage.Items != 0 || me.Usage.Bytes != 0 {
		t.Errorf("something of it was kept: %+v", me)
	}
	var status struct{ Uploads, Blobs int64 }
	b.Local("GET", "/local/status", nil, &status)
	if status.Blobs != 0 || status.Uploads != 0 {
		t.Errorf("%+v", status)
	}
	good := ask(ada, "PUT", "/v1/files/good.jpg?source=album", half)
	good.is(t, "a decent request after all that", 201, "")
}

// What follows a body on the same connection is the next request, signed in as
// it says itself, and never part of the file.
func TestTheEndOfOneBodyIsTheBeginningOfTheNextRequest(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	c := raw(t, b)
	body := strings.Repeat("x", 1000)
	fmt.Fprintf(c, "PUT /v1/files/a.jpg?source=album HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n%s"+
		"DELETE /v1/files/a.jpg HTTP/1.1\r\nHost: %s\r\n\r\n", hostOf(t, b), ada.Token, body, hostOf(t, b))
	answers, err := io.ReadAll(io.LimitReader(c, 1<<10))
	if err != nil && len(answers) == 0 {
		t.Fatal(err)
	}
	if s := string(answers); !strings.HasPrefix(s, "HTTP/1.1 201 ") || !strings.Contains(s, "HTTP/1.1 401 ") {
		t.Errorf("%s", s)
	}
	if r := ask(ada, "GET", "/v1/files/a.jpg", ""); string(r.body) != body {
		t.Errorf("%d bytes were kept of 1000", len(r.body))
	}
}

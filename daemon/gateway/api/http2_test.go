package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// The same over HTTP/2, where a body has no connection of its own.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: w.TLS(), ForceAttemptHTTP2: true}}
	t.Cleanup(w.Client.CloseIdleConnections)
	content := strings.Repeat("the bytes of a video ", 100_000)
	r := w.ada.Request("PUT", "/v1/files/a.mp4?source=album", strings.NewReader(content))
	resp, err := w.Client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 201 {
		t.Fatalf("HTTP/%d: %s", resp.ProtoMajor, resp.Status)
	}
	if a := w.ask(w.ada, "GET", "/v1/files/a.mp4", ""); string(a.body) != content {
		t.Error("what was put is not what is got")
	}
	w.ask(w.ada, "PUT", "/v1/files/b.mp4?source=wechat", content).is(t, "refused before the body", 403, "consent-required")

	l := listen(w, w.ada, "")
	body, send := io.Pipe()
	defer send.Close()
	r = w.ada.Request("PUT", "/v1/files/c.mp4?source=album", body)
	r.ContentLength = 1 << 30
	done := make(chan answer, 1)
	go func() { done <- w.send(r) }()
	if _, err := send.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the upload is being received", func() bool { return w.status().Uploads == 1 })
	w.ada.Withdraw("album_backup")
	(<-done).is(t, "withdrawn in the middle", 403, "consent-required")
	w.ask(w.ada, "PUT", "/v1/files/d.txt", "x").is(t, "another purpose goes on", 201, "")
	if e, ok := l.next(); !ok || e.Data.Path != "d.txt" {
		t.Errorf("the event is %+v", e)
	}
	w.Client.CloseIdleConnections()
}

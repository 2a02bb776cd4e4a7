package httpd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// closes waits until the server closes c, and returns what it said before.
func closes(t *testing.T, c net.Conn) string {
	t.Helper()
	check(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	said, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection is still open; it said %q", said)
	}
	return string(said)
}

func TestSlowHeadersAreDropped(t *testing.T) {
	h := open(t, httpd.Limits{HeaderTimeout: 2 * time.Second, ConnsPerSource: 1000, Conns: 1000}, each)
	var slow []net.Conn
	for i := range 20 {
		c := h.raw()
		fmt.Fprintf(c, "GET /public HTTP/1.1\r\nHost: %s\r\nX-%d: ", h.addr, i)
		slow = append(slow, c)
	}
	mute, err := net.Dial("tcp", h.addr) // not even a TLS handshake
	check(t, err)
	defer mute.Close()
	if resp := h.request("GET", "/public", nil, nil); resp.StatusCode != 200 {
		t.Errorf("others wait meanwhile: %d", resp.StatusCode)
	}
	for _, c := range append(slow, mute) {
		if said := closes(t, c); strings.Contains(said, "200 OK") {
			t.Errorf("half a header was answered: %q", said)
		}
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	got := h.speak("GET /public HTTP/1.1\nHost: HOST\nX: "+strings.Repeat("x", 40<<10)+"\n\n", 1)
	if len(got) != 1 || got[0].StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%+v", got)
	}
}

// drip sends a body in pieces of n bytes with a pause before each.
type drip struct {
	n     int
	pause time.Duration
	left  int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.pause)
	n := min(d.n, d.left, len(p))
	d.left -= n
	return n, nil
}

func TestSlowBodies(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			httpd.WriteProblem(w, r, err)
		}
	}
	h := open(t, httpd.Limits{Patience: 2 * time.Second}, func(h *hall) {
		h.Handle("PUT /files/{path...}", http.HandlerFunc(read), httpd.Files)
		h.Handle("PUT /stranger", http.HandlerFunc(read), httpd.Public)
	})
	slow := func() *drip { return &drip{n: 64, pause: 100 * time.Millisecond, left: 1 << 20} } // 640 B/s
	steady := func() *drip { return &drip{n: 2048, pause: 100 * time.Millisecond, left: 50 << 10} }
	long := func() *drip { return &drip{n: 2048, pause: 100 * time.Millisecond, left: 1 << 20} } // much may have come before it is read
	var wg sync.WaitGroup
	for _, http2 := range []bool{true, false} {
		client := h.newClient(http2)
		for name, c := range map[string]struct {
			path string
			body *drip
			ok   bool
		}{
			"less than 1 KiB/s":                     {"/files/x", slow(), false},
			"20 KiB/s for longer than the patience": {"/files/x", steady(), true},
			"a stranger who takes his time":         {"/stranger", long(), false},
		} {
			wg.Go(func() {
				r, err := http.NewRequestWithContext(t.Context(), "PUT", "https://"+h.addr+c.path, c.body)
				if err != nil {
					t.Error(err)
					return
				}
				r.ContentLength = int64(c.body.left)
				if c.path != "/stranger" {
					bearer(h.files)(r)
				}
				resp, err := client.Do(r)
				if err != nil {
					if c.ok {
						t.Errorf("http2 %v: %s: %v", http2, name, err)
					}
					return // cut off while it was sending: HTTP/1 clients may not see the answer
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if c.ok != (resp.StatusCode == 200) || !c.ok && !strings.Contains(string(body), "too slowly") {
					t.Errorf("http2 %v: %s: %d %s", http2, name, resp.StatusCode, body)
				}
			})
		}
	}
	wg.Wait()
}

func TestSlowHandlersAreNotSlowClients(t *testing.T) {
	const patience = time.Second
	h := open(t, httpd.Limits{Patience: patience}, func(h *hall) {
		h.Handle("PUT /files/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := make([]byte, 100)
			for range 2 {
				if _, err := io.ReadFull(r.Body, b); err != nil {
					httpd.WriteProblem(w, r, err)
					return
				}
				time.Sleep(patience + 200*time.Millisecond) // the disk
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				httpd.WriteProblem(w, r, err)
				return
			}
			if n, err := r.Body.Read(b); n != 0 || err != io.EOF { // once more, as some readers do
				t.Errorf("after the end: %d, %v", n, err)
			}
			time.Sleep(patience + 200*time.Millisecond) // making it durable
			if err := r.Context().Err(); err != nil {
				t.Errorf("the client is taken for gone: %v", err)
			}
		}), httpd.Files)
	})
	var wg sync.WaitGroup
	for _, http2 := range []bool{true, false} {
		client := h.newClient(http2)
		wg.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "PUT", "https://"+h.addr+"/files/x", bytes.NewReader(make([]byte, 300<<10)))
			if err != nil {
				t.Error(err)
				return
			}
			bearer(h.files)(r)
			resp, err := client.Do(r)
			if err != nil {
				t.Errorf("http2 %v: %v", http2, err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				body, _ := io.ReadAll(resp.Body)
				t.Errorf("over HTTP/%d: %d %s", resp.ProtoMajor, resp.StatusCode, body)
			}
		})
	}
	wg.Wait()
}

func TestSlowReadersAreDropped(t *testing.T) {
	ended := make(chan error, 1)
	h := open(t, httpd.Limits{WriteTimeout: time.Second}, func(h *hall) {
		h.Handle("GET /big", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(w, io.LimitReader(zeros{}, 1<<30))
			ended <- err
		}), httpd.Public)
		h.Handle("GET /quiet", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				fmt.Fprintln(w, "still here")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(1200 * time.Millisecond) // longer than the timeout, but nothing is being written
			}
		}), httpd.Public)
	})
	c := h.raw()
	fmt.Fprintf(c, "GET /big HTTP/1.1\r\nHost: %s\r\n\r\n", h.addr)
	if err := <-ended; err == nil {
		t.Error("1 GiB was written to nobody")
	}
	for _, http2 := range []bool{true, false} {
		h.client = h.newClient(http2)
		resp := h.request("GET", "/big", nil, nil)
		if err := <-ended; err == nil {
			t.Errorf("over HTTP/%d 1 GiB was written to nobody", resp.ProtoMajor)
		}
		resp.Body.Close()
		quiet := h.request("GET", "/quiet", nil, nil)
		if body, err := io.ReadAll(quiet.Body); err != nil || strings.Count(string(body), "still here") != 3 {
			t.Errorf("over HTTP/%d a stream with pauses: %q, %v", quiet.ProtoMajor, body, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A client that waited for "100 Continue" and is refused in the middle of its body
// can read why, though it is still sending.
func TestRefusalInTheMiddleCanBeRead(t *testing.T) { // R20
	h := open(t, httpd.Limits{Linger: 3 * time.Second}, func(h *hall) {
		h.Handle("PUT /files/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadFull(r.Body, make([]byte, 1000))
			check(t, err)
			httpd.WriteProblem(w, r, &problem.Error{Kind: problem.Full, Hint: "Empty the trash."})
		}), httpd.Files)
	})
	c := h.raw()
	defer c.Close()
	_, err := fmt.Fprintf(c, "PUT /files/x HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", h.addr, h.files)
	check(t, err)
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatal(line, err)
	}
	_, err = in.ReadString('\n')
	check(t, err)
	for range 3 { // more than is read; a reset comes within this time, if one comes
		_, err = c.Write(make([]byte, 30_000))
		check(t, err)
		time.Sleep(50 * time.Millisecond)
	}
	resp, err := http.ReadResponse(in, nil)
	check(t, err)
	wantProblem(t, resp, 507, "full")
}

// A body that takes hours must not outlive the right to send it.
func TestUploadEndsWithItsCredentials(t *testing.T) { // R34
	started := make(chan struct{}, 1)
	h := open(t, httpd.Limits{Recheck: time.Millisecond}, func(h *hall) {
		h.Handle("PUT /files/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			started <- struct{}{}
			if _, err := io.Copy(io.Discard, httpd.ProgressReader(w, r)); err != nil {
				httpd.WriteProblem(w, r, err)
			}
		}), httpd.Files)
	})
	for _, http2 := range []bool{true, false} {
		h.client = h.newClient(http2)
		made, token, err := h.accounts.CreateToken(t.Context(), h.member.Principal, "short-lived", ident.ScopeFiles, 0)
		check(t, err)
		body, more := io.Pipe()
		go func() { // sends until nobody listens
			for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
				_, err = more.Write([]byte("a piece"))
			}
		}()
		go func() {
			<-started
			if err := h.accounts.RevokeToken(t.Context(), h.member.Principal, made.ID); err != nil {
				t.Error(err)
				body.CloseWithError(err) // ends the upload, which nothing else would
			}
		}()
		wantProblem(t, h.request("PUT", "/files/x", body, bearer(token)), 401, "unauthenticated")
		body.Close()
	}
}

func TestReadingEndsWithTheContext(t *testing.T) { // R22: withdrawal stops an upload
	withdrawn := errors.New("withdrawn")
	cancel := make(chan context.CancelCauseFunc, 1)
	errs := make(chan error, 1)
	h := open(t, httpd.Limits{Patience: time.Hour}, func(h *hall) { // nothing else ends it
		h.Handle("PUT /files/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, stop := context.WithCancelCause(context.WithoutCancel(r.Context()))
			cancel <- stop
			_, err := io.Copy(io.Discard, httpd.ProgressReader(w, r.WithContext(ctx)))
			errs <- err
			if err != nil {
				httpd.WriteProblem(w, r, err)
			}
		}), httpd.Files)
	})
	for _, http2 := range []bool{true, false} {
		h.client = h.newClient(http2)
		body, more := io.Pipe()
		go func() { _, _ = more.Write([]byte("some")) }()
		go func() {
			r, _ := http.NewRequestWithContext(t.Context(), "PUT", "https://"+h.addr+"/files/x", body)
			bearer(h.files)(r)
			if resp, err := h.client.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
		stop := <-cancel
		time.Sleep(20 * time.Millisecond) // let it block: before that it must hold, too
		stop(withdrawn)
		select {
		case err := <-errs:
			if !errors.Is(err, withdrawn) {
				t.Errorf("http2 %v: %v", http2, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("http2 %v: it goes on reading", http2)
		}
		more.Close()

		// Once the body is over, the context may end without harm to what follows.
		for range 3 {
			resp := h.request("PUT", "/files/x", strings.NewReader("all of it"), bearer(h.files))
			if resp.StatusCode != 200 {
				t.Errorf("http2 %v: %d", http2, resp.StatusCode)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			(<-cancel)(withdrawn)
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestIdleConnectionsMakeRoom(t *testing.T) {
	h := open(t, httpd.Limits{Conns: 10, ConnsPerSource: 8}, each)
	var idle []*tls.Conn
	for range 40 {
		idle = append(idle, h.raw().(*tls.Conn)) // each handshake succeeds: an older one went
	}
	if resp := h.request("GET", "/public", nil, nil); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	closed := make(chan struct{}, len(idle))
	for _, c := range idle {
		check(t, c.SetReadDeadline(time.Time{})) // until it is closed, at the latest by the end of the test
		go func() { _, _ = c.Read(make([]byte, 1)); closed <- struct{}{} }()
	}
	for n := range 32 {
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Fatalf("of 40 connections from one address %d were closed, want at least 32", n)
		}
	}
}

func TestOnlyStrangersMakeRoom(t *testing.T) {
	begun := make(chan string, 10)
	release := make(chan struct{})
	h := open(t, httpd.Limits{Conns: 3}, func(h *hall) {
		wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun <- r.URL.Path
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
		h.Handle("GET /stranger", wait, httpd.Public)
		h.Handle("GET /files/x", wait, httpd.Files)
	})
	get := func(path string) net.Conn {
		c := h.raw()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, h.addr,
			map[bool]string{true: h.files, false: "yb_none"}[path == "/files/x"])
		if got := <-begun; got != path {
			t.Fatalf("%s began", got)
		}
		return c
	}
	var strangers, friends []net.Conn
	for range 3 {
		strangers = append(strangers, get("/stranger"))
	}
	for range 3 {
		friends = append(friends, get("/files/x")) // each takes the place of a stranger
	}
	for _, c := range strangers {
		if said := closes(t, c); said != "" {
			t.Errorf("a stranger was answered %q", said)
		}
	}
	if c, err := tls.Dial("tcp", h.addr, h.pin("127.0.0.1")); err == nil {
		c.Close()
		t.Error("there was room for one more")
	}
	close(release)
	for _, c := range friends {
		if got := h.answers(c, 1); len(got) != 1 || got[0].StatusCode != 200 {
			t.Errorf("a person who is signed in got %+v", got)
		}
	}
}

func TestAmbiguousFraming(t *testing.T) { // request smuggling
	h := open(t, httpd.Limits{}, each)
	hidden := "GET /signedin HTTP/1.1\nHost: HOST\n\n"
	head := "POST /public HTTP/1.1\nHost: HOST\n"
	for name, text := range map[string]string{
		"two lengths":             head + "Content-Length: 5\nContent-Length: 6\n\nhello" + hidden,
		"a list of lengths":       head + "Content-Length: 5, 6\n\nhello" + hidden,
		"negative length":         head + "Content-Length: -5\n\n" + hidden,
		"signed length":           head + "Content-Length: +5\n\nhello" + hidden,
		"hex length":              head + "Content-Length: 0x5\n\nhello" + hidden,
		"absurd length":           head + "Content-Length: 99999999999999999999\n\nhello" + hidden,
		"unknown coding":          head + "Transfer-Encoding: xchunked\n\n0\n\n" + hidden,
		"identity and chunked":    head + "Transfer-Encoding: chunked, identity\n\n0\n\n" + hidden,
		"two codings":             head + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n" + hidden,
		"space before the colon":  head + "Content-Length : 5\n\nhello" + hidden,
		"folded header":           head + "X: a\n b\nContent-Length: 5\n b\n\nhello" + hidden,
		"space in the chunk size": head + "Transfer-Encoding: chunked\n\n5 x\nhello\n0\n\n" + hidden,
		"signed chunk size":       head + "Transfer-Encoding: chunked\n\n+5\nhello\n0\n\n" + hidden,
		"two hosts":               "GET /public HTTP/1.1\nHost: HOST\nHost: evil.example\n\n" + hidden,
		"NUL in a header":         head + "X: a\x00b\nContent-Length: 0\n\n" + hidden,
		"no version":              "GET /public\nHost: HOST\n\n" + hidden,
		"bare CR":                 "GET /public HTTP/1.1\rX: y\nHost: HOST\n\n" + hidden,
	} {
		got := h.speak(text, 3)
		if len(got) != 1 || got[0].StatusCode < 400 || !got[0].Close {
			for _, g := range got {
				t.Errorf("%s: answered %d, closes %v", name, g.StatusCode, g.Close)
			}
			if len(got) == 0 {
				t.Errorf("%s: no answer", name)
			}
		}
	}
	// With both, the coding counts and the connection ends (RFC 9112 §6.1): what
	// follows cannot be taken for a request by one side and for a body by the other.
	got := h.speak(head+"Content-Length: 4\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n"+hidden, 3)
	if len(got) == 0 || got[0].StatusCode != 200 && got[0].StatusCode != 400 {
		t.Errorf("%+v", got)
	}
	if len(got) > 1 {
		t.Errorf("the hidden request was answered %d", got[1].StatusCode)
	}
}

func TestShutdownLetsUploadsFinish(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	h := open(t, httpd.Limits{}, func(h *hall) {
		h.Handle("PUT /files/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := make([]byte, 4)
			_, _ = io.ReadFull(r.Body, b)
			close(begun)
			echo(w, r)
		}), httpd.Files)
		h.Handle("GET /events", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-httpd.Stopping(r.Context())
			close(end)
		}), httpd.Public)
	})
	events := h.request("GET", "/events", nil, nil)
	body, more := io.Pipe()
	answer := make(chan int, 1)
	go func() {
		r, _ := http.NewRequestWithContext(t.Context(), "PUT", "https://"+h.addr+"/files/x", body)
		bearer(h.files)(r)
		resp, err := h.client.Do(r)
		if err != nil {
			t.Error(err)
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	_, _ = more.Write([]byte("some"))
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- h.Shutdown(t.Context()) }()
	<-end // the stream of events ends by itself
	events.Body.Close()
	_, _ = more.Write(make([]byte, 1<<20))
	more.Close()
	if got := <-answer; got != 200 {
		t.Errorf("the upload got %d", got)
	}
	check(t, <-stopped)
	if c, err := net.Dial("tcp", h.addr); err == nil {
		c.Close()
		t.Error("it still takes connections")
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	begun, errs := make(chan struct{}), make(chan error, 1)
	h := open(t, httpd.Limits{}, func(h *hall) {
		h.Handle("PUT /files/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(begun)
			_, err := io.Copy(io.Discard, r.Body)
			errs <- err
		}), httpd.Files)
	})
	c := h.raw()
	fmt.Fprintf(c, "PUT /files/x HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n", h.addr, h.files)
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := <-errs; err == nil {
		t.Error("the upload was whole")
	}
}

func TestLargeUploadsOverHTTP2(t *testing.T) {
	h := open(t, httpd.Limits{}, each)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp := h.request("PUT", "/files/x", io.LimitReader(zeros{}, 8<<20), bearer(h.files))
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.ProtoMajor != 2 || !strings.Contains(string(body), fmt.Sprint(8<<20)) {
				t.Errorf("HTTP/%d: %s, %v", resp.ProtoMajor, body, err)
			}
		})
	}
	wg.Wait()
}

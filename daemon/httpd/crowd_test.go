package httpd_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"yunbox.local/daemon/httpd"
)

// One connection of HTTP/2 can ask for much and read nothing. What it keeps
// waiting is bounded, whatever it asks for, and costs the signed-in nothing.
func TestStrangersWhoDoNotReadTakeLittle(t *testing.T) {
	h := open(t, httpd.Limits{StrangersPerSource: 3}, each)
	for n, path := range []string{"/public", "/signedin", "/nothing", "//"} {
		// Each from an address of its own: what one took is given back in its own time.
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n))}}
		cfg := h.pin("127.0.0.1")
		cfg.NextProtos = []string{"h2"}
		c, err := tls.DialWithDialer(dialer, "tcp", h.addr, cfg)
		check(t, err)
		defer c.Close()
		check(t, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err = c.Write([]byte(http2.ClientPreface))
		check(t, err)
		f := http2.NewFramer(c, c)
		check(t, f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		const asked = 40
		for i := range asked {
			var b bytes.Buffer
			e := hpack.NewEncoder(&b)
			for _, field := range []hpack.HeaderField{
				{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
				{Name: ":authority", Value: h.addr}, {Name: ":path", Value: path},
			} {
				check(t, e.WriteField(field))
			}
			check(t, f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: uint32(2*i + 1), BlockFragment: b.Bytes(), EndStream: true, EndHeaders: true,
			}))
		}
		answered, cut := 0, 0
		for answered+cut < asked {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatalf("%s: %d answered, %d cut off, then %v", path, answered, cut, err)
			}
			switch frame.(type) {
			case *http2.HeadersFrame:
				answered++
			case *http2.RSTStreamFrame:
				cut++
			}
		}
		if answered != 3 {
			t.Errorf("%s: %d answers wait to be read where 3 may", path, answered)
		}
		if resp := h.request("GET", "/signedin", nil, bearer(h.full)); resp.StatusCode != 200 {
			t.Errorf("%s: somebody signed in gets %d meanwhile", path, resp.StatusCode)
		}
		c.Close()
		client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: h.pin("127.0.0.1"), ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // room again
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+h.addr+"/public", nil)
			check(t, err)
			if resp, err := client.Do(r); err == nil {
				resp.Body.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatal("the room of a connection that ended is not given back")
			}
		}
	}
}

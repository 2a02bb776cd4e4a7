package httpd_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"yunbox.local/daemon/httpd"
)

// What the hall adds to a small upload: the same handler behind it and behind
// net/http alone, over TLS with HTTP/1.1, as most upload clients speak it.
func BenchmarkSmallUpload(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 100<<10)
	upload := func(b *testing.B, client *http.Client, url, token string) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r, err := http.NewRequest("PUT", url, bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+token)
				resp, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					b.Fatal(resp.Status, err)
				}
				resp.Body.Close()
			}
		})
	}
	h := start(b, httpd.Limits{}, each)
	client := h.newClient(false)
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 8
	b.Run("hall", func(b *testing.B) {
		b.SetParallelism(4)
		upload(b, client, "https://"+h.addr+"/files/a/b.jpg", h.files)
	})
	b.Run("alone", func(b *testing.B) {
		b.SetParallelism(4)
		chain, key, err := httpd.KeyPairForTest(h.id)
		check(b, err)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(b, err)
		s := &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: time.Minute,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}}
		go func() { _ = s.ServeTLS(ln, "", "") }()
		defer s.Close()
		upload(b, client, "https://"+ln.Addr().String()+"/files/a/b.jpg", h.files)
	})
}

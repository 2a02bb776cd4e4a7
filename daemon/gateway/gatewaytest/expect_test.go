package gatewaytest_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// waiting is a client of the box that sends the head of a request and waits for the
// word to go on. It counts what answers come before a final one.
func waiting(t *testing.T, box *daemontest.Box, from byte, head string, header ...string) (goOn bool, final *http.Response) {
	t.Helper()
	d := tls.Dialer{Config: box.TLS(), NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, from)}}}
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(box.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	lines := append([]string{head + " HTTP/1.1", "Host: " + strings.TrimPrefix(box.URL, "https://"), "Expect: 100-continue"}, header...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", head, err)
		}
		resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusContinue:
			return true, nil // it waits for the body now
		case resp.StatusCode >= 200:
			return false, resp
		}
	}
}

// R20: whoever waits for the box to say "continue" sends no byte of a body that
// comes with a wrong password, a revoked token or without consent, on every gateway.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	box := daemontest.Start(t)
	ada := box.Bind()
	ada.Grant("album_backup")
	var revoked struct{ ID, Token string }
	ada.Call("POST", "/v1/tokens", map[string]any{"name": "lost phone", "scope": "files"}, &revoked)
	ada.Call("DELETE", "/v1/tokens/"+revoked.ID, nil, nil)
	basic := func(password string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ada:"+password))
	}
	length := "Content-Length: 5000000"
	album := base64.StdEncoding.EncodeToString([]byte("album"))
	tus := []string{"Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream"}

	begin := ada.Request("POST", "/v1/uploads", nil)
	begin.Header.Set("Tus-Resumable", "1.0.0")
	begin.Header.Set("Upload-Length", "5000000")
	begin.Header.Set("Upload-Metadata", "source "+album)
	status, header, _ := ada.Do(begin)
	begun := strings.TrimPrefix(header.Get("Location"), box.URL)
	if status != 201 || begun == "" {
		t.Fatalf("tus: %d", status)
	}
	chunks := ada.Request("MKCOL", "/remote.php/dav/uploads/ada/1", nil)
	destination := "Destination: " + box.URL + "/remote.php/dav/files/ada/film.mp4"
	chunks.Header.Set("Destination", strings.TrimPrefix(destination, "Destination: "))
	chunks.Header.Set("Yunbox-Source", "album")
	if status, _, b := ada.Do(chunks); status != 201 {
		t.Fatalf("Nextcloud: %d %s", status, b)
	}

	gateways := []struct {
		name, head string
		header     []string
		withdrawn  []int // besides 403: what was begun before the withdrawal is gone
	}{
		{"files", "PUT /v1/files/a.jpg?source=album", nil, nil},
		{"tus, in one request", "POST /v1/uploads", append(tus, "Upload-Length: 5000000", "Upload-Metadata: source "+album), nil},
		{"tus, going on", "PATCH " + begun, append(tus, "Upload-Offset: 0"), []int{404, 410}},
		{"IETF", "POST /v1/uploads?source=album", []string{"Upload-Draft-Interop-Version: 8", "Upload-Complete: ?1"}, nil},
		{"WebDAV", "PUT /dav/a.jpg", []string{"Yunbox-Source: album"}, nil},
		{"Nextcloud", "PUT /remote.php/dav/files/ada/b.jpg", []string{"Yunbox-Source: album"}, nil},
		{"Nextcloud, a chunk", "PUT /remote.php/dav/uploads/ada/1/00001", []string{destination, "Yunbox-Source: album"}, []int{404}},
		{"Immich", "POST /api/assets", []string{"Content-Type: multipart/form-data; boundary=x"}, nil},
	}
	for i, g := range gateways {
		from := byte(i + 2) // wrong credentials are counted by address
		good := append(slices.Clone(g.header), length, "Authorization: Bearer "+ada.Token)
		if goOn, final := waiting(t, box, from, g.head, good...); !goOn {
			t.Errorf("%s: who may send is told %v", g.name, final.Status)
		}
		for what, credentials := range map[string]string{
			"a wrong password": basic("wrong horse battery"), "a revoked token": "Authorization: Bearer " + revoked.Token,
			"a revoked token as password": basic(revoked.Token), "a revoked key": "X-Api-Key: " + revoked.Token, "nobody": "X-Nobody: 1",
		} {
			goOn, final := waiting(t, box, from, g.head, append(slices.Clone(g.header), length, credentials)...)
			switch {
			case goOn:
				t.Errorf("%s, %s: the body is asked for", g.name, what)
			case final.StatusCode == 429 && strings.HasPrefix(credentials, "Authorization: Basic"): // guesses at one name are slowed down
			case final.StatusCode != 401:
				t.Errorf("%s, %s: %s", g.name, what, final.Status)
			}
		}
	}
	ada.Withdraw("album_backup")
	for i, g := range gateways {
		goOn, final := waiting(t, box, byte(i+2), g.head, append(slices.Clone(g.header), length, "Authorization: Bearer "+ada.Token)...)
		if goOn {
			t.Errorf("%s, without consent: the body is asked for", g.name)
		} else if final.StatusCode != 403 && !slices.Contains(g.withdrawn, final.StatusCode) {
			t.Errorf("%s, without consent: %s", g.name, final.Status)
		}
	}
	var kept struct{ Items []any }
	ada.Call("GET", "/v1/items?recursive=true", nil, &kept)
	if len(kept.Items) != 0 {
		t.Errorf("%d files are kept", len(kept.Items))
	}
}

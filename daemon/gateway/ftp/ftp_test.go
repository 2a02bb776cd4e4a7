//go:build linux

package ftp_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
)

func content(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// What a camera sends is there byte for byte, in the clear and with TLS, under its
// name, as a camera's.
func TestStored(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "Sony A7").Token
	for i, cfg := range []*tls.Config{nil, box.TLS()} {
		c := login(t, box, cfg, "ada", pw)
		c.must(257, fmt.Sprintf("MKD DCIM%d", i))
		c.must(250, fmt.Sprintf("CWD DCIM%d", i))
		for k, n := range []int{0, 1, 2, 32 << 10, 3<<20 + 7} {
			body := content(byte(10*i+k), n)
			name := fmt.Sprintf("%d.JPG", n)
			if err := c.put("STOR "+name, body); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if got := c.size(name); got != int64(n) {
				t.Errorf("SIZE of %d bytes says %d", n, got)
			}
			got, ok := file(ada, fmt.Sprintf("Camera/Sony%%20A7/DCIM%d/%s", i, name))
			if !ok || !bytes.Equal(got, body) {
				t.Errorf("%d bytes: %d came back, %v", n, len(got), ok)
			}
		}
		c.must(213, "MFMT 20011231235958 1.JPG")
		if text := c.must(213, "MDTM 1.JPG"); text != "20011231235958" {
			t.Errorf("MDTM says %s", text)
		}
		c.must(250, "CDUP")
		c.must(221, "QUIT")
	}
	for _, it := range items(ada) {
		if it.Source != "camera" {
			t.Errorf("%+v", it)
		}
		if strings.HasSuffix(it.Path, "/1.JPG") && !it.MTime.Equal(time.Date(2001, 12, 31, 23, 59, 58, 0, time.UTC)) {
			t.Errorf("MFMT came to nothing: %+v", it)
		}
	}
}

// A photo that broke off is never a photo, however it broke off, and goes on.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	body := content(1, 1<<20)
	most := len(body) * 6 / 10
	for _, way := range []string{"reset", "control gone", "aborted", "killed", "killed the other way round", "no last word", "cut inside a record", "too short for ALLO", "the other end of the net", "at the last byte"} {
		for _, cfg := range []*tls.Config{nil, box.TLS()} {
			if cfg == nil && (way == "no last word" || way == "cut inside a record") {
				continue
			}
			name := strings.ReplaceAll(way, " ", "-") + fmt.Sprint(cfg != nil) + ".MP4"
			t.Run(name, func(t *testing.T) {
				box.For(t)
				c := login(t, box, cfg, "ada", pw)
				sent := most
				switch way {
				case "no last word":
					// This client has shown that it knows how to say it.
					if err := c.put("STOR "+name+".first", body[:10]); err != nil {
						t.Fatal(err)
					}
				case "too short for ALLO":
					c.must(200, fmt.Sprintf("ALLO %d", len(body)))
				case "at the last byte":
					sent = len(body)
				}
				d, err := c.begin("STOR " + name)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Write(body[:sent]); err != nil {
					t.Fatal(err)
				}
				raw := d
				if s, ok := d.(*tls.Conn); ok {
					raw = s.NetConn()
				}
				switch way {
				case "reset", "at the last byte":
					eventually(t, "the bytes arrive", func() bool { return unread(raw) == 0 })
					reset(d)
				case "control gone":
					c.conn.Close()
				case "the other end of the net":
					eventually(t, "the bytes arrive", func() bool { return unread(raw) == 0 })
					reset(c.conn)
				case "aborted":
					c.must(426, "ABOR")
					c.expect(226)
					d.Close()
				case "killed":
					c.conn.Close() // a kernel closes in the order in which they were opened
					raw.Close()
				case "killed the other way round":
					raw.Close()
					c.conn.Close()
				case "no last word":
					raw.Close()
				case "cut inside a record":
					if _, err := raw.Write([]byte{23, 3, 3, 1, 0, 1, 2, 3}); err != nil {
						t.Fatal(err)
					}
					raw.Close()
				case "too short for ALLO":
					d.Close()
					if err := c.end(); err == nil {
						t.Error("fewer bytes than announced were stored")
					}
				}
				eventually(t, "the box lets go", func() bool { return uploads(box) == 0 })
				if _, ok := file(ada, "Camera/cam/"+name); ok {
					t.Fatal("a part of a photo is a photo")
				}
				c = login(t, box, cfg, "ada", pw)
				at := c.size(name)
				if at < 0 && way == "aborted" {
					at = 0 // it wanted that
				}
				if at < 0 {
					t.Fatal("nothing was kept")
				}
				if at >= int64(sent) {
					t.Fatalf("%d of %d bytes were sent and not acknowledged, SIZE says %d: who compares sizes takes it for stored", sent, len(body), at)
				}
				if slack := int64(sent) - at; slack > 64<<10 && way != "aborted" {
					t.Errorf("%d bytes were sent, %d are kept", sent, at)
				}
				if at > 0 {
					c.must(350, fmt.Sprintf("REST %d", at))
				}
				if err := c.put("STOR "+name, body[at:]); err != nil {
					t.Fatal(err)
				}
				if got, ok := file(ada, "Camera/cam/"+name); !ok || !bytes.Equal(got, body) {
					t.Errorf("%d bytes came back, %v", len(got), ok)
				}
				if got := c.size(name); got != int64(len(body)) {
					t.Errorf("SIZE says %d of the whole file", got)
				}
			})
		}
	}
}

// APPE goes on where SIZE said, and also with a file that is stored.
func TestAppend(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	body := content(2, 500<<10)
	c := login(t, box, nil, "ada", pw)
	if err := c.put("APPE a.mov", body[:200<<10]); err != nil { // to nothing: a new file
		t.Fatal(err)
	}
	if at := c.size("a.mov"); at != 200<<10 {
		t.Fatal(at)
	}
	d, err := c.begin("APPE a.mov")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(body[200<<10 : 400<<10]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes arrive", func() bool { return unread(d) == 0 })
	reset(d)
	if err := c.end(); err == nil {
		t.Fatal("a broken transfer was stored")
	}
	if got, ok := file(ada, "Camera/cam/a.mov"); !ok || !bytes.Equal(got, body[:200<<10]) {
		t.Error("what was stored before is not there any more")
	}
	fresh := login(t, box, nil, "ada", pw)
	if err := fresh.put("APPE a.mov", body[400<<10:]); err == nil {
		t.Fatal("bytes were put somewhere without knowing where")
	}
	at := fresh.size("a.mov")
	if err := fresh.put("APPE a.mov", body[at:]); err != nil {
		t.Fatal(err)
	}
	if got, ok := file(ada, "Camera/cam/a.mov"); !ok || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), ok)
	}
	for _, rest := range []int{1, len(body) - 2, len(body) + 1} {
		fresh.must(350, fmt.Sprintf("REST %d", rest))
		if err := fresh.put("STOR a.mov", []byte("x")); err == nil {
			t.Errorf("REST %d of a file of %d bytes", rest, len(body))
		}
	}
}

// R20: without the consent no byte is taken, and the answer names the purpose.
func TestNoConsent(t *testing.T) {
	t.Parallel()
	box, _ := startBox(t)
	bob := box.AddPerson("bob")
	bob.Grant("album_backup")
	c := login(t, box, nil, "bob", cameraPassword(bob, "cam").Token)
	d := c.passive()
	if _, err := d.Write(content(1, 1000)); err != nil {
		t.Fatal(err)
	}
	if text := c.must(550, "STOR a.jpg"); !strings.Contains(text, "camera_transfer") {
		t.Errorf("the answer does not name the purpose: %s", text)
	}
	c.must(550, "MKD DCIM")
	if n := len(items(bob)); n != 0 || c.size("a.jpg") != -1 {
		t.Errorf("%d files", n)
	}
	bob.Grant("camera_transfer")
	if err := c.put("STOR a.jpg", content(1, 1000)); err != nil {
		t.Error(err)
	}
}

// R27: what its owner deleted does not come back from the card.
func TestDeletedIsDeclined(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	c := login(t, box, nil, "ada", cameraPassword(ada, "cam").Token)
	if err := c.put("STOR a.jpg", content(1, 1000)); err != nil {
		t.Fatal(err)
	}
	ada.Call("DELETE", "/v1/files/Camera/cam/a.jpg", nil, nil)
	for _, name := range []string{"a.jpg", "b.jpg"} {
		var r *refused
		if err := c.put("STOR "+name, content(1, 1000)); !errors.As(err, &r) || r.code != 550 || !strings.Contains(r.text, "deleted") {
			t.Errorf("the camera is told %v", err)
		}
	}
	if err := c.put("STOR a.jpg", content(2, 1000)); err != nil {
		t.Errorf("another photo of that name: %v", err)
	}
	sum := sha256.Sum256(content(1, 1000))
	ada.Call("POST", "/v1/blobs/wanted", map[string]any{"sha256": []string{hex.EncodeToString(sum[:])}}, nil) // FTP has no word for it
	if err := c.put("STOR b.jpg", content(1, 1000)); err != nil {
		t.Errorf("a photo that is wanted again: %v", err)
	}
}

// R22: a withdrawal stops what runs, and nothing of it is left.
func TestWithdrawnMidway(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	for _, cfg := range []*tls.Config{nil, box.TLS()} {
		c := login(t, box, cfg, "ada", pw)
		d, err := c.begin("STOR a.jpg")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(content(3, 200<<10)); err != nil {
			t.Fatal(err)
		}
		ada.Withdraw("camera_transfer")
		var r *refused
		if err := c.end(); !errors.As(err, &r) || r.code != 550 || !strings.Contains(r.text, "camera_transfer") {
			t.Errorf("the client is told %v", err)
		}
		d.Close()
		if n := uploads(box); n != 0 {
			t.Errorf("%d uploads run on", n)
		}
		ada.Grant("camera_transfer")
		if at := c.size("a.jpg"); at != -1 {
			t.Errorf("%d bytes of a withdrawn upload are kept", at)
		}
	}
}

// R22: a revoked password stops what runs, also while nothing comes, and what had
// arrived waits for the next one.
func TestRevokedMidway(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	body := content(4, 400<<10)
	for _, cfg := range []*tls.Config{nil, box.TLS()} {
		made := cameraPassword(ada, "cam")
		c := login(t, box, cfg, "ada", made.Token)
		name := fmt.Sprintf("%v.jpg", cfg != nil)
		d, err := c.begin("STOR " + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(body[:200<<10]); err != nil {
			t.Fatal(err)
		}
		ada.Call("DELETE", "/v1/tokens/"+made.ID, nil, nil)
		var r *refused
		if err := c.end(); !errors.As(err, &r) || !strings.Contains(r.text, "password") {
			t.Errorf("the client is told %v", err)
		}
		d.Close()
		if _, ok := file(ada, "Camera/cam/"+name); ok {
			t.Error("a part of a photo is a photo")
		}
		c = login(t, box, cfg, "ada", cameraPassword(ada, "cam").Token)
		at := c.size(name)
		if at < 100<<10 {
			t.Fatalf("SIZE says %d", at)
		}
		c.must(350, fmt.Sprint("REST ", at))
		if err := c.put("STOR "+name, body[at:]); err != nil {
			t.Fatal(err)
		}
		if got, ok := file(ada, "Camera/cam/"+name); !ok || !bytes.Equal(got, body) {
			t.Error("the file is not whole")
		}
	}
}

// All that ALLO announced is the whole file, also of a camera that waits for no answer.
func TestAnnouncedIsWhole(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	body := content(9, 300<<10)
	c := login(t, box, nil, "ada", cameraPassword(ada, "cam").Token)
	c.must(200, fmt.Sprint("ALLO ", len(body)))
	d, err := c.begin("STOR a.jpg")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(body); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes arrive", func() bool { return unread(d) == 0 })
	d.Close()
	c.conn.Close()
	eventually(t, "the photo is stored", func() bool {
		got, ok := file(ada, "Camera/cam/a.jpg")
		return ok && bytes.Equal(got, body)
	})
}

// Nothing opens the drop box but its own password, and that opens nothing else.
func TestPasswords(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	bob := box.AddPerson("bob")
	camera, app := cameraPassword(ada, "cam"), token{}
	ada.Call("POST", "/v1/tokens", map[string]any{"name": "app", "scope": "files"}, &app)
	if plain := strings.ReplaceAll(camera.Token, "-", ""); len(plain) != 16 || strings.Trim(plain, "0123456789abcdefghjkmnpqrstvwxyz") != "" {
		t.Errorf("%s cannot be typed on a camera", camera.Token)
	}
	bobs := cameraPassword(bob, "cam")
	n := byte(10)
	for what, try := range map[string][2]string{
		"the account's password": {"ada", daemontest.Password}, "an app token": {"ada", app.Token},
		"somebody else's": {"ada", bobs.Token}, "nobody": {"eve", camera.Token},
		"nothing": {"ada", ""}, "a part": {"ada", camera.Token[:len(camera.Token)-1]}, "anonymous": {"anonymous", "a@b"},
	} {
		n++ // guesses are counted by address
		c := dialFrom(t, box, nil, net.IPv4(127, 0, 0, n))
		c.must(331, "USER "+try[0])
		if code, text := c.say("PASS " + try[1]); code != 530 {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
	c := dial(t, box, nil)
	c.must(530, "STOR a.jpg")
	c.must(530, "PASS "+camera.Token)
	if status, _, _ := ada.Do(ada.With(camera.Token).Request("GET", "/v1/me", nil)); status != 401 {
		t.Errorf("a camera's password opens the interface: %d", status)
	}
	r := box.Nobody().Request("GET", "/v1/me", nil)
	r.SetBasicAuth("ada", camera.Token)
	if status, _, _ := ada.Do(r); status != 401 {
		t.Errorf("a camera's password opens the interface by Basic: %d", status)
	}
	// As a person types it.
	typed := strings.ToUpper(strings.ReplaceAll(camera.Token, "-", ""))
	c = login(t, box, nil, "ADA", strings.ReplaceAll(strings.ReplaceAll(typed, "0", "O"), "1", "I"))
	if err := c.put("STOR a.jpg", content(1, 10)); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Tokens []struct {
			ID, Name, Scope string
			LastUsed        *time.Time `json:"last_used"`
		}
	}
	ada.Call("GET", "/v1/tokens", nil, &list)
	if len(list.Tokens) != 2 || list.Tokens[0].Scope != "camera" || list.Tokens[0].LastUsed == nil || list.Tokens[1].Scope != "files" {
		t.Errorf("%+v", list)
	}
	// Revoked, it is worth nothing at once, also to who is in.
	ada.Call("DELETE", "/v1/tokens/"+camera.ID, nil, nil)
	if err := c.put("STOR b.jpg", content(1, 10)); err == nil {
		t.Error("a revoked password still stores")
	}
	c = dial(t, box, nil)
	c.must(331, "USER ada")
	c.must(530, "PASS "+camera.Token)
}

// Guessing is slowed down; who guesses keeps neither the owner out of the page nor
// a camera at another place.
func TestGuessing(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	limited := false
	for range 12 {
		c := dial(t, box, nil)
		c.must(331, "USER ada")
		_, text := c.say("PASS 0123-4567-89ab-cdef")
		limited = limited || strings.Contains(text, "Too many") || strings.Contains(text, "too many")
	}
	if !limited {
		t.Error("passwords can be guessed at any speed")
	}
	c := dial(t, box, nil)
	c.must(331, "USER ada")
	c.must(530, "PASS "+pw) // right, but not looked at
	box.SignIn("ada")
}

// Without being asked for it the gateway takes nothing in the clear.
func TestEncryptedOnly(t *testing.T) {
	t.Parallel()
	box := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.FTP = "127.0.0.1:0" })
	ada := box.Bind()
	ada.Grant("camera_transfer")
	pw := cameraPassword(ada, "cam").Token
	c := dial(t, box, nil)
	if code, _ := c.say("USER ada"); code != 421 {
		t.Errorf("a password in the clear is asked for: %d", code)
	}
	c = login(t, box, box.TLS(), "ada", pw)
	if err := c.put("STOR a.jpg", content(1, 1000)); err != nil {
		t.Error(err)
	}
	c.must(200, "PROT C")
	c.data = nil
	if err := c.put("STOR b.jpg", content(1, 1000)); err == nil {
		t.Error("a photo in the clear is taken")
	}
}

// The box connects to nobody, and takes data from nobody but the camera.
func TestNoBounce(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	c := login(t, box, nil, "ada", cameraPassword(ada, "cam").Token)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			d, err := l.Accept()
			if err != nil {
				return
			}
			d.Close()
			t.Error("the box connected to an address that it was told")
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	for _, command := range []string{fmt.Sprintf("PORT 127,0,0,1,%d,%d", port>>8, port&255), fmt.Sprintf("EPRT |1|127.0.0.1|%d|", port)} {
		if code, _ := c.say(command); code/100 == 2 {
			t.Errorf("%s is taken", command)
		}
		if code, _ := c.say("STOR a.jpg"); code/100 < 4 {
			t.Errorf("STOR after %s: %d", command, code)
		}
	}
	// Somebody else takes the place; the camera still gets through.
	text := c.must(229, "EPSV")
	at := net.JoinHostPort("127.0.0.1", strings.Split(text, "|")[3])
	thief, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	d, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	c.must(150, "STOR a.jpg")
	if _, err := thief.Write([]byte("forged")); err == nil {
		thief.Close()
	}
	if _, err := d.Write([]byte("real")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if got, _ := file(ada, "Camera/cam/a.jpg"); string(got) != "real" {
		t.Errorf("%q was stored", got)
	}
}

// A camera sees its own folder, and only what cameras sent; it changes nothing.
func TestListing(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	ada.Grant("storage", "album_backup")
	c := login(t, box, nil, "ada", cameraPassword(ada, "one").Token)
	if got := c.list("MLSD"); len(got) != 0 {
		t.Errorf("nothing was sent: %v", got)
	}
	c.must(257, "MKD DCIM")
	c.must(550, "MKD DCIM")
	for i := range 3 {
		if err := c.put(fmt.Sprintf("STOR /DCIM/%d.JPG", i), content(byte(i), 100)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"secret.jpg", "Camera/one/DCIM/private.jpg"} {
		r := ada.Request("PUT", "/v1/files/"+path+"?source=album", strings.NewReader("private "+path))
		if status, _, b := ada.Do(r); status != 201 {
			t.Fatalf("%d %s", status, b)
		}
	}
	two := login(t, box, nil, "ada", cameraPassword(ada, "two").Token)
	if got := two.list("MLSD"); len(got) != 0 {
		t.Errorf("another camera sees %v", got)
	}
	for command, want := range map[string]int{"MLSD": 1, "MLSD DCIM": 3, "LIST -la DCIM": 3, "NLST /DCIM": 3, "MLSD ../../../..": 1} {
		if got := c.list(command); len(got) != want || strings.Contains(strings.Join(got, ""), "private") {
			t.Errorf("%s: %v", command, got)
		}
	}
	for _, command := range []string{"RETR /DCIM/0.JPG", "DELE /DCIM/0.JPG", "RMD /DCIM", "SIZE /DCIM/private.jpg", "SIZE /../../secret.jpg",
		"CWD ../../Camera/one/nowhere", "RETR ../../secret.jpg", "MFMT 20200101000000 /DCIM/private.jpg", "SITE CHMOD 777 /DCIM", "STOU", "STOR /", "STOR DCIM"} {
		if code, text := c.say(command); code < 500 {
			t.Errorf("%s: %d %s", command, code, text)
		}
	}
	c.must(350, "RNFR /DCIM/0.JPG")
	c.must(550, "RNTO /DCIM/9.JPG")
	if n := len(items(ada)); n != 5 {
		t.Errorf("%d files are left", n)
	}
}

// Names that could mean something else are refused, and nothing leaves the folder.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	c := login(t, box, nil, "ada", cameraPassword(ada, "../..").Token)
	for _, name := range []string{"a\x01b.jpg", "a\u202eb.jpg", "\xff\xfe.jpg", strings.Repeat("x", 256), "a\rb.jpg", "a\x00b", strings.Repeat("d/", 1100) + "a.jpg"} {
		var r *refused
		if err := c.put("STOR "+name, []byte("x")); !errors.As(err, &r) || r.code < 500 {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"../../../up.jpg", "/../../../../etc/passwd", "a/../../b.jpg", "%2e%2e%2fc.jpg", `..\..\d.jpg`, " e.jpg ", "-rf", "微信.jpg", "f;g|h.jpg"} {
		if err := c.put("STOR "+name, []byte(name)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, it := range items(ada) {
		if !strings.HasPrefix(it.Path, "Camera/..-../") {
			t.Errorf("%q lies outside", it.Path)
		}
	}
	// A line without an end is no reason to keep anything.
	if _, err := c.conn.Write(bytes.Repeat([]byte("A"), 64<<10)); err == nil {
		c.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
		if _, _, err := c.ReadResponse(0); err == nil {
			t.Error("an endless line is answered")
		}
	}
}

// A camera that comes back does not wait for the connection that it lost, and two
// that send one name do not harm each other.
func TestHangingConnection(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	body := content(5, 600<<10)
	old := login(t, box, nil, "ada", pw)
	d, err := old.begin("STOR a.mp4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(body[:300<<10]); err != nil {
		t.Fatal(err)
	}
	c := login(t, box, nil, "ada", pw)
	at := c.size("a.mp4")
	if at < 200<<10 || at >= 300<<10 {
		t.Fatalf("SIZE says %d", at)
	}
	c.must(350, fmt.Sprint("REST ", at))
	if err := c.put("STOR a.mp4", body[at:]); err != nil {
		t.Fatal(err)
	}
	if err := old.end(); err == nil {
		t.Error("the connection that hung was told that it stored the file")
	}
	if got, ok := file(ada, "Camera/cam/a.mp4"); !ok || !bytes.Equal(got, body) {
		t.Error("the file is not whole")
	}
	one, two := login(t, box, nil, "ada", pw), login(t, box, nil, "ada", pw)
	d1, err1 := one.begin("STOR b.mp4")
	d2, err2 := two.begin("STOR b.mp4")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for i, d := range []net.Conn{d1, d2} {
		if _, err := d.Write(content(byte(20+i), 1000)); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	if err1, err2 := one.end(), two.end(); err1 != nil || err2 != nil {
		t.Error(err1, err2)
	}
}

// What a restart interrupts goes on after it.
func TestRestart(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	pw := cameraPassword(ada, "cam").Token
	body := content(6, 20<<20) // more than is kept in memory only
	c := login(t, box, nil, "ada", pw)
	d, err := c.begin("STOR a.mp4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(body[:18<<20]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes arrive", func() bool { return unread(d) == 0 })
	box.Restart()
	c = login(t, box, nil, "ada", pw)
	at := c.size("a.mp4")
	if at < 17<<20 {
		t.Fatalf("18 MiB had arrived, SIZE says %d", at)
	}
	c.must(350, fmt.Sprint("REST ", at))
	if err := c.put("STOR a.mp4", body[at:]); err != nil {
		t.Fatal(err)
	}
	if got, ok := file(ada, "Camera/cam/a.mp4"); !ok || !bytes.Equal(got, body) {
		t.Error("the file is not whole")
	}
}

// Eight cameras side by side, each with all of its photos.
func TestEightCameras(t *testing.T) {
	t.Parallel()
	box, ada := startBox(t)
	var all sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("cam%d", i)
		pw := cameraPassword(ada, name).Token
		var cfg *tls.Config
		if i%2 == 1 {
			cfg = box.TLS()
		}
		c := login(t, box, cfg, "ada", pw)
		all.Go(func() {
			for k := range 4 {
				if err := c.put(fmt.Sprintf("STOR %d.JPG", k), content(byte(100+8*k+i), 700<<10+k)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	all.Wait()
	if n := len(items(ada)); n != 32 {
		t.Errorf("%d of 32 photos are there", n)
	}
}

// One address takes no more connections than it may, and gets them back.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	box, _ := startBox(t)
	var open []*client
	for range 16 {
		open = append(open, dial(t, box, nil))
	}
	more, err := net.Dial("tcp", box.FTP)
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	b := make([]byte, 100)
	if n, _ := more.Read(b); !strings.HasPrefix(string(b[:n]), "421 ") {
		t.Errorf("%q", b[:n])
	}
	for _, c := range open {
		c.conn.Close()
	}
	eventually(t, "places become free", func() bool {
		c, err := net.Dial("tcp", box.FTP)
		if err != nil {
			return false
		}
		defer c.Close()
		n, _ := c.Read(b)
		return strings.HasPrefix(string(b[:n]), "220 ")
	})
}

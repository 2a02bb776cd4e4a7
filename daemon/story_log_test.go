package daemon_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
)

// journal is a log that a test can read while the box writes it.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// What must not be found in a log, beside passwords and tokens.
const (
	telltale = "Geheim4711" // in the name of every file, folder, device and app
	content  = "what nobody may know"
	wrong    = "a wrong pass phrase 99"
)

// Privacy: a box that lives a whole life, with everything that goes wrong in it,
// at its most talkative, writes down nothing that says who did it, what their
// files are called, or how to sign in as them.
func TestLogTellsNothingOfPeople(t *testing.T) {
	t.Parallel()
	log := &journal{}
	b := daemontest.StartLogged(t, log, func(c *config.Config) { c.FTP, c.FTPPlain = "127.0.0.1:0", true })
	secrets := map[string]string{
		"the password": daemontest.Password, "a wrong password": wrong, "a name": telltale, "a content": content, "the other user": "zerline",
	}
	nobody := b.Nobody()

	// The label, wrong tries and the binding.
	var label struct {
		Serial, Code string
		PairURI      string `json:"pair_uri"`
	}
	b.Local("GET", "/local/label", nil, &label)
	_, secret, _ := strings.Cut(label.PairURI, "&s=")
	secret, _, _ = strings.Cut(secret, "&")
	secrets["the label's secret"], secrets["the label's code"] = secret, label.Code
	ask(nobody, "POST", "/v1/bind", fmt.Sprintf(`{"serial":%q,"code":"00000000","username":"ada","password":%q}`, label.Serial, wrong), "Sec-Fetch-Site", "same-origin")
	ask(nobody, "POST", "/v1/bind", fmt.Sprintf(`{"secret":"AAAAAAAAAAAAAAAAAAAAAA","username":"ada","password":%q}`, wrong))
	ask(nobody, "POST", "/v1/bind", fmt.Sprintf(`{"secret":%q,"username":"ada","password":"ada"}`, secret))
	ada := b.Bind()
	secrets["the session"] = ada.Token
	zerline := b.AddPerson("zerline")
	secrets["the other's session"] = zerline.Token
	ada.Grant("storage", "album_backup", "camera_transfer")

	// Signing in: wrong, right, by cookie; apps, devices, cameras.
	ask(nobody, "POST", "/v1/session", fmt.Sprintf(`{"username":"ada","password":%q}`, wrong)).is(t, "wrong password", 401, "unauthenticated")
	ask(nobody, "POST", "/v1/session", fmt.Sprintf(`{"username":%q,"password":%q}`, telltale, wrong))
	ask(nobody, "POST", "/v1/session", `{"username":"ada","password":`+wrong)
	in := ask(nobody, "POST", "/v1/session", fmt.Sprintf(`{"username":"ada","password":%q,"device":{"name":%q,"kind":"phone"}}`, daemontest.Password, telltale))
	if in.status/100 != 2 {
		in = ask(nobody, "POST", "/v1/session", fmt.Sprintf(`{"username":"ada","password":%q}`, daemontest.Password)).is(t, "sign in", 201, "")
	}
	for _, c := range (&http.Response{Header: in.header}).Cookies() {
		secrets["a cookie"] = c.Value
		ask(nobody, "GET", "/v1/me", "", "Cookie", c.Name+"="+c.Value).is(t, "by cookie", 200, "")
		ask(nobody, "DELETE", "/v1/session", "", "Cookie", c.Name+"="+c.Value, "Origin", "https://"+telltale+".example")
	}
	if secrets["a cookie"] == "" {
		t.Fatal("no cookie")
	}
	app, camera := appToken(t, ada, telltale, "files"), appToken(t, ada, telltale, "camera")
	secrets["an app token"], secrets["a camera's password"] = app.Token, camera.Token
	var device struct{ ID string }
	ask(ada, "POST", "/v1/devices", fmt.Sprintf(`{"name":%q,"kind":"phone"}`, telltale)).is(t, "device", 201, "").into(t, &device)

	uploadEverywhere(t, ada, app.Token)
	nextcloudLogin(t, ada, device.ID, secrets)
	cameraStory(t, b, camera.Token)
	inboxStory(t, b)
	troubles(t, b, ada, app.Token)

	ask(ada, "PATCH", "/v1/users/"+zerline.ID, `{"disabled":true}`).is(t, "off", 200, "")
	ask(zerline, "GET", "/v1/files/"+telltale+".jpg", "").is(t, "off", 401, "unauthenticated")
	b.Local("POST", "/local/users", map[string]any{"username": "zerline2", "password": wrong, "role": "member"}, nil)
	ask(ada, "POST", "/v1/me/password", fmt.Sprintf(`{"old":%q,"new":"x"}`, wrong))
	ada.Withdraw("album_backup")
	ask(ada, "PUT", "/v1/files/"+telltale+"5.jpg?source=album", content).is(t, "no consent", 403, "consent-required")
	told := whatIsTold(t, b, ada)
	b.Restart()
	b.Stop()

	text := log.String() + told
	for _, line := range []string{"/v1/files/{path...}", "/dav/", "/api/assets", "/remote.php/dav/files/", "level=ERROR", "/index.php/login/v2", "level=DEBUG"} {
		if !strings.Contains(text, line) {
			t.Errorf("the log has no %q: what is not written is not tested", line)
		}
	}
	for what, s := range secrets {
		if len(s) < 6 {
			t.Errorf("%s is %q: too short to be looked for", what, s)
		}
		for _, form := range forms(s) {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("the log has %s: %s", what, lineAt(text, i))
			}
		}
	}
	if at := regexp.MustCompile(`(?i)\bada\b`).FindStringIndex(text); at != nil {
		t.Errorf("the log has the user's name: %s", lineAt(text, at[0]))
	}
}

// whatIsTold is what the box tells of itself in figures and to whoever maintains it.
func whatIsTold(t *testing.T, b *daemontest.Box, ada *daemontest.Person) string {
	t.Helper()
	var all strings.Builder
	for _, target := range []string{"/metrics", "/healthz", "/readyz"} {
		r := ask(ada.With(""), "GET", target, "").is(t, target, 200, "")
		fmt.Fprintf(&all, "%s: %s\n%v\n", target, r.body, r.header)
	}
	for _, line := range []string{
		`yunbox_uploads_total{outcome="new"} `, `yunbox_received_bytes_total{gateway="api"} `, `yunbox_received_bytes_total{gateway="uploads"} `, `yunbox_received_bytes_total{gateway="webdav"} `,
		`yunbox_received_bytes_total{gateway="nextcloud"} `, `yunbox_received_bytes_total{gateway="immich"} `, `yunbox_ftp_connections_total `, "yunbox_damaged ",
	} {
		if !strings.Contains(all.String(), line) || strings.Contains(all.String(), line+"0\n") {
			t.Errorf("the figures have no %q: what is not counted is not tested", line)
		}
	}
	for _, target := range []string{"/local/jobs", "/local/doctor", "/local/support"} {
		var answer any
		b.Local("GET", target, nil, &answer)
		fmt.Fprintf(&all, "%s: %v\n", target, answer)
	}
	if at := regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b|\[::1\]|/tmp/`).FindString(all.String()); at != "" {
		t.Errorf("what the box tells has an address or a path: %s in\n%s", at, all.String())
	}
	return all.String()
}

// forms are the ways in which a log could have s without anybody seeing it.
func forms(s string) (list []string) {
	list = []string{s, url.QueryEscape(s), url.PathEscape(s), hex.EncodeToString([]byte(s)), strings.ReplaceAll(s, "-", "")}
	for shift := range 3 { // in base64 with something before it, as in Basic credentials
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
		list = append(list, enc[[]int{0, 2, 3}[shift]:len(enc)-2])
	}
	return list
}

func lineAt(text string, i int) string {
	start := strings.LastIndex(text[:i], "\n") + 1
	line, _, _ := strings.Cut(text[start:], "\n")
	return line
}

// uploadEverywhere sends a file by each protocol, reads it, and asks for what is not
// there or not understood.
func uploadEverywhere(t *testing.T, ada *daemontest.Person, app string) {
	t.Helper()
	basic := []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:"+app))}
	name := func(n string) string { return telltale + n + ".jpg" }
	ok := func(r reply, what string) {
		if r.status/100 != 2 {
			t.Errorf("%s: %v", what, r)
		}
	}
	put(t, ada, name("1"), content)
	ok(ask(ada, "GET", "/v1/files/"+name("1"), "", "Range", "bytes=1-3"), "a part")
	ask(ada, "PUT", "/v1/files/"+name("1")+"?source=album", content+"?", "If-None-Match", "*").is(t, "there already", 412, "precondition-failed")
	ask(ada, "PUT", "/v1/files/"+name("x")+"?source=album", content, "Repr-Digest", digestOf("other")).is(t, "other bytes", 422, "mismatch")
	ask(ada, "PUT", "/v1/files/../"+name("x")+"?source="+telltale, content)
	ask(ada, "GET", "/v1/files/nothing/"+name("x"), "").is(t, "nothing", 404, "not-found")
	at := ask(ada, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(len(content)+1),
		"Upload-Metadata", "path "+b64(name("2"))+",source "+b64("album")).is(t, "tus", 201, "").header.Get("Location")
	if u, err := url.Parse(at); err == nil {
		at = u.Path
	}
	ok(ask(ada, "PATCH", at, content+"2", "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream"), "tus")
	ask(ada, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "-1", "Upload-Metadata", "path "+telltale)
	ok(ask(ada, "PUT", "/dav/"+name("3"), content+"3", basic...), "WebDAV")
	ok(ask(ada, "PROPFIND", "/dav/", "", append(basic, "Depth", "1")...), "WebDAV")
	ok(ask(ada, "MOVE", "/dav/"+name("3"), "", append(basic, "Destination", ada.Request("GET", "/dav/"+name("3a"), nil).URL.String())...), "WebDAV")
	ask(ada, "PROPPATCH", "/dav/"+name("3a"), "<"+telltale, basic...)
	ok(ask(ada, "PUT", "/remote.php/dav/files/ada/"+name("4"), content+"4", append(basic, "X-OC-Mtime", telltale)...), "Nextcloud")
	ask(ada, "PROPFIND", "/remote.php/dav/files/zerline/"+name("4"), "", basic...)
	form := "--xx\r\nContent-Disposition: form-data; name=\"fileCreatedAt\"\r\n\r\n2021-02-03T04:05:06.000Z\r\n" +
		"--xx\r\nContent-Disposition: form-data; name=\"fileModifiedAt\"\r\n\r\n2021-02-03T04:05:06.000Z\r\n" +
		"--xx\r\nContent-Disposition: form-data; name=\"assetData\"; filename=\"" + name("6") + "\"\r\n\r\n" + content + "6\r\n--xx--\r\n"
	ok(ask(ada.With(""), "POST", "/api/assets", form, "X-Api-Key", app, "Content-Type", "multipart/form-data; boundary=xx"), "Immich")
	ask(ada.With(""), "POST", "/api/assets", form[:len(form)-40], "X-Api-Key", app, "Content-Type", "multipart/form-data; boundary=xx")
	ask(ada, "GET", "/"+telltale+"?token="+app, "").is(t, "no address", 404, "not-found")
	ask(ada, strings.ToUpper(telltale), "/v1/me", "")
	ask(ada.With(""), "GET", "/v1/me", "", "Authorization", "Bearer "+wrong)
	ask(ada.With(""), "GET", "/v1/me", "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ada:"+wrong)))
	ask(ada, "GET", "/v1/items?cursor="+telltale, "")
	ask(ada, "DELETE", "/v1/files/"+name("2"), "").is(t, "trash", 204, "")
}

// nextcloudLogin is an app that signs in on the page, and polls with its token in
// the address as the one for iOS does.
func nextcloudLogin(t *testing.T, ada *daemontest.Person, device string, secrets map[string]string) {
	t.Helper()
	var begun struct {
		Poll  struct{ Token string }
		Login string
	}
	ask(ada.With(""), "POST", "/index.php/login/v2", "", "User-Agent", telltale).is(t, "login", 200, "").into(t, &begun)
	_, flow, _ := strings.Cut(begun.Login, "/#/grant/")
	secrets["the page's token"], secrets["the poll token"] = flow, begun.Poll.Token
	ask(ada.With(""), "POST", "/index.php/login/v2/poll?token="+begun.Poll.Token, "")
	ask(ada, "POST", "/index.php/login/v2/flow/"+flow, `{"device":"`+device+`"}`).is(t, "grant", 204, "")
	var got struct{ AppPassword string }
	ask(ada.With(""), "POST", "/index.php/login/v2/poll?token="+begun.Poll.Token, "").is(t, "poll", 200, "").into(t, &got)
	secrets["the app's password"] = got.AppPassword
	ask(ada.With(got.AppPassword), "GET", "/ocs/v2.php/cloud/user", "").is(t, "user", 200, "")
}

// cameraStory is a camera with a wrong and with the right password.
func cameraStory(t *testing.T, b *daemontest.Box, password string) {
	t.Helper()
	var c *textproto.Conn
	say := func(command string) (code int, text string) {
		t.Helper()
		if err := c.PrintfLine("%s", command); err != nil {
			t.Fatal(err)
		}
		code, text, _ = c.ReadResponse(0)
		return code, text
	}
	connect := func() {
		t.Helper()
		var err error
		if c, err = textproto.Dial("tcp", b.FTP); err == nil {
			_, _, err = c.ReadResponse(220)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		say("USER ada")
	}
	connect()
	if code, text := say("PASS " + wrong); code != 530 {
		t.Errorf("a camera with a wrong password: %d %s", code, text)
	}
	c.Close()
	connect()
	if code, text := say("PASS " + password); code != 230 {
		t.Fatalf("a camera: %d %s", code, text)
	}
	say("TYPE I")
	say(telltale + " " + telltale)
	say("RETR " + telltale)
	say("CWD " + telltale)
	_, text := say("EPSV")
	port := strings.Split(text, "|")
	if len(port) != 5 {
		t.Fatal(text)
	}
	data, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port[3]))
	if err != nil {
		t.Fatal(err)
	}
	if code, text := say("STOR " + telltale + "7.jpg"); code != 150 {
		t.Fatalf("%d %s", code, text)
	}
	fmt.Fprint(data, content+"7")
	data.Close()
	if code, text, _ := c.ReadResponse(0); code != 226 {
		t.Errorf("%d %s", code, text)
	}
}

// inboxStory takes a file in from a folder of this computer, and finds one that
// cannot be read.
func inboxStory(t *testing.T, b *daemontest.Box) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), telltale)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, telltale+"8.jpg")
	if err := os.WriteFile(name, []byte(content+"8"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, telltale+".lnk")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	b.LocalLines("POST", "/local/inboxes/import", map[string]any{"path": dir, "user": "ada", "source": "album"})
}

// troubles are what the box complains of: a damaged file, a body that breaks off, a
// handshake that is none, a header that is too long.
func troubles(t *testing.T, b *daemontest.Box, ada *daemontest.Person, app string) {
	t.Helper()
	body := content + " and damaged"
	put(t, ada, telltale+"9.jpg", body)
	sum := sumOf(body)
	blob := filepath.Join(b.State, "blobs", sum[:2], sum)
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte(strings.ToUpper(body)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/v1/files/", "/dav/", "/remote.php/dav/files/ada/"} {
		if resp, err := b.Client.Do(ada.Request("GET", target+telltale+"9.jpg", nil)); err == nil {
			readAll(resp)
		}
	}
	b.LocalLines("POST", "/local/check", map[string]any{"deep": true})
	c := raw(t, b)
	fmt.Fprintf(c, "PUT /v1/files/%s10.jpg?source=album HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n%s", telltale, hostOf(t, b), app, content)
	c.Close()
	c = raw(t, b)
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s.example\r\nX: %s\r\n\r\n", telltale, telltale, strings.Repeat(telltale, 10_000))
	_, _ = bufio.NewReader(c).ReadByte()
	c.Close()
	p, err := net.Dial("tcp", hostOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(p, "GET /%s HTTP/1.1\r\n\r\n", telltale) // to the port for TLS
	_, _ = bufio.NewReader(p).ReadByte()
	p.Close()
}

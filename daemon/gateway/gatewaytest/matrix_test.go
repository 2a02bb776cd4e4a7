package gatewaytest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

var update = flag.Bool("update", false, "write docs/consent-matrix.md as the box behaves")

const matrixFile = "../../../docs/consent-matrix.md"

// What becomes of a file, or of other work.
const (
	done    = "done"
	refused = "refused" // for want of consent, before anything was read
	none    = "–"       // the gateway does not carry that purpose
)

// A consentState is something that a person may have decided. Each is entered from the
// one before; may says whether work for a purpose is allowed then.
type consentState struct {
	name  string
	enter func(*matrix)
	may   func(consent.Purpose) bool
}

func never(consent.Purpose) bool  { return false }
func always(consent.Purpose) bool { return true }

// consentStates are the rows of each purpose. A further one is a line here.
func consentStates() []consentState {
	return []consentState{
		{"never asked", func(*matrix) {}, never},
		{"granted", func(m *matrix) { m.ada.Grant(m.available()...) }, always},
		{"withdrawn", func(m *matrix) {
			for _, p := range m.available() {
				m.ada.Withdraw(p)
			}
		}, never},
		{"suspended: a new revision of the policy", func(m *matrix) {
			m.ada.Grant(m.available()...)
			m.update(daemontest.Revised(m, 1))
		}, never},
		{"suspended: the policy is accepted, the purpose is wider", func(m *matrix) {
			m.update(daemontest.Revised(m, 1, consent.AlbumBackup, consent.WeChatBackup, consent.QQBackup, consent.CameraTransfer, consent.FileDedup))
			m.ada.Grant("storage")
		}, func(p consent.Purpose) bool { return p == consent.Storage }},
		{"granted again", func(m *matrix) { m.ada.Grant(m.available()...) }, always},
		{"the policy is declined", func(m *matrix) {
			m.ada.Call("PUT", "/v1/policy", map[string]any{"accepted": false, "revision": "2"}, nil)
		}, never},
	}
}

// wardStates are the further rows, of a child: bob is asked to stand for it, does, and
// stands down again.
func wardStates() []consentState {
	return []consentState{
		{"a child without a guardian", func(*matrix) {}, never},
		{"a child, its guardian agreed", func(m *matrix) {
			m.bob.BecomeGuardian(m.kid)
			m.bob.GrantFor(m.kid, m.available()...)
		}, always},
		{"a child, its guardian withdrew", func(m *matrix) {
			for _, p := range m.available() {
				m.bob.WithdrawFor(m.kid, p)
			}
		}, never},
		{"a child, its guardian agreed and is none any more", func(m *matrix) {
			m.bob.GrantFor(m.kid, m.available()...)
			m.bob.Call("DELETE", "/v1/children/"+m.kid.ID, nil, nil)
		}, never},
	}
}

// sourceOf is the mark of files of a purpose, "" for a purpose that files do not come by.
func sourceOf(p consent.Purpose) string {
	return map[consent.Purpose]string{
		consent.Storage: "other", consent.AlbumBackup: "album", consent.WeChatBackup: "wechat", consent.QQBackup: "qq", consent.CameraTransfer: "camera",
	}[p]
}

// A way is a gateway, and how work for a purpose is tried on it.
type way struct {
	name string
	// try does something for the purpose and returns what became of it.
	try func(p consent.Purpose, name string) string
	// connect makes a client whose upload can be caught in the middle; nil: see its own tests.
	connect gatewaytest.Connect
}

type matrix struct {
	*testing.T
	box  *daemontest.Box
	ada  *daemontest.Person // decides for herself
	bob  *daemontest.Person // decides for kid
	kid  *daemontest.Person
	who  *daemontest.Person // whose files are sent: ada or kid
	ways []way              // of who
	dir  string             // of folders on the box's computer
	kept int
	// clients whose connections end with a restart
	clients []interface{ Reconnect() }
}

// available are the purposes that this version of the box serves.
func (m *matrix) available() (list []string) {
	for _, p := range consent.Purposes() {
		if p.Available {
			list = append(list, string(p.ID))
		}
	}
	return list
}

func (m *matrix) update(words *consent.Catalogue) {
	for _, c := range m.clients {
		c.Reconnect() // else the box would wait for them before it ends
	}
	m.box.Update(words)
}

func outcome(err error) string {
	var r *gatewaytest.Refusal
	switch {
	case err == nil:
		return done
	case errors.As(err, &r) && r.Kind == "consent-required" && r.Text != "":
		return refused
	}
	return err.Error()
}

// put is a way that sends files.
func (m *matrix) put(name string, connect gatewaytest.Connect, only consent.Purpose) way {
	client := connect(m, m.who)
	if c, ok := client.(interface{ Reconnect() }); ok {
		m.clients = append(m.clients, c)
	}
	return way{name, func(p consent.Purpose, file string) string {
		source, folder := sourceOf(p), "matrix/"+name
		if source == "" || only != "" && p != only {
			return none
		}
		if only != "" {
			folder = client.(gatewaytest.Terse).Folder()
		}
		body := []byte(name + file + source)
		f := gatewaytest.File{Path: folder + "/" + file + " " + source + ".bin", Source: source, Size: int64(len(body)),
			Body: func(off int64) io.Reader { return bytes.NewReader(body[off:]) }}
		_, err := client.Put(m.Context(), f)
		return outcome(err)
	}, connect}
}

// onPage is the client of the box's own page: tus, by the cookie of a browser.
type onPage struct{ *tus }

func connectPage(t testing.TB, p *daemontest.Person) gatewaytest.Client {
	return onPage{connectTus(1, false)(t, p).(*tus)}
}

// Put implements gatewaytest.Client: one request that makes the upload, one that fills it.
func (c onPage) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	ask := func(method, url string, body io.Reader, header ...string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, method, url, body)
		if err != nil {
			return nil, err
		}
		r.AddCookie(&http.Cookie{Name: "__Host-yunbox", Value: c.person.Token})
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Tus-Resumable", "1.0.0")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if body != nil {
			r.Body, r.ContentLength = closer(body), f.Size
		}
		resp, err := c.transport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return nil, refusal(resp)
		}
		return resp, nil
	}
	resp, err := ask("POST", c.person.Box().URL+"/v1/uploads", nil, "Upload-Length", fmt.Sprint(f.Size), "Upload-Metadata", metadata(f))
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	resp, err = ask("PATCH", resp.Header.Get("Location"), f.Body(0), "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream")
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	receipt, ok := stored(resp.Header)
	if !ok {
		return receipt, errors.New("all was sent, and the box did not say stored")
	}
	return receipt, nil
}

// folder is a folder on the box's own computer, of which whoever runs the box has files taken in.
func (m *matrix) folder() way {
	return way{"folder", func(p consent.Purpose, state string) string {
		source := sourceOf(p)
		if source == "" {
			return none
		}
		var last struct {
			Event           string
			Stored, Refused int
			Error           string
		}
		lines := m.box.LocalLines("POST", "/local/inboxes/import", map[string]any{"path": filepath.Join(m.dir, state, source), "user": m.who.Name, "source": source, "into": "matrix/folder"})
		if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
			m.Fatal(err)
		}
		switch {
		case last.Stored == 1 && last.Refused == 0:
			return done
		case last.Stored == 0 && last.Refused == 1:
			return refused
		}
		return string(lines[len(lines)-1])
	}, nil}
}

// call is work that is asked for by a request of its own.
func (m *matrix) call(name string) way {
	native := m.put(name, connectNative(1), "")
	return way{name, func(p consent.Purpose, state string) string {
		if p != consent.FileDedup {
			return native.try(p, state)
		}
		r := m.who.Request("POST", "/v1/duplicates/scan", strings.NewReader(fmt.Sprintf(`{"path":%q}`, filepath.Join(m.dir, "watched "+m.who.Name))))
		status, _, body := m.who.Do(r)
		switch {
		case status == 200 && bytes.Contains(body, []byte(`"done"`)):
			return done
		case status == 403 && bytes.Contains(body, []byte("consent-required")):
			return refused
		}
		return fmt.Sprintf("%d %s", status, body)
	}, native.connect}
}

// R20 R21 R22 R23: each purpose on each gateway, whatever its person decided. The table
// of docs/consent-matrix.md is what a running box does, and nothing else.
func TestConsentMatrix(t *testing.T) {
	t.Parallel()
	box := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.FTP, c.FTPPlain = "127.0.0.1:0", true })
	m := &matrix{T: t, box: box, ada: box.Bind(), dir: t.TempDir()}
	write := func(path, text string) {
		path = filepath.Join(m.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	m.bob, m.kid = box.AddPerson("bob"), box.AddChild("kid", time.Now().AddDate(9, 0, 0).Format("2006-01"), "bob")
	m.bob.Grant("storage") // who does not accept the policy for themself accepts it for nobody
	for _, p := range []*daemontest.Person{m.kid, m.ada} {
		watched := "watched " + p.Name
		write(watched+"/.keep", "")
		for i := range len(wardStates()) + len(consentStates()) { // now: what is new is not taken in
			for _, purpose := range consent.Purposes() {
				if source := sourceOf(purpose.ID); source != "" {
					write(fmt.Sprint(p.Name, i, "/", source, "/a file.bin"), fmt.Sprint("folder ", p.Name, i, source))
				}
			}
		}
		box.Local("POST", "/local/inboxes", map[string]any{"path": filepath.Join(m.dir, watched), "user": p.Name}, nil)
	}

	got := map[consent.Purpose][][]string{} // by state, by way
	rows := func(who *daemontest.Person, states []consentState) {
		m.who, m.clients = who, nil
		m.ways = []way{
			m.call("API"), m.put("API, many files", connectMany(1), ""), m.put("tus", connectTus(1, false), ""), m.put("IETF", connectIETF(1, 0), ""), m.put("WebDAV", connectWebDAV(1), ""),
			m.put("Nextcloud", connectNextcloud(1), ""), m.put("Nextcloud, in parts", connectNextcloudChunks(1), ""), m.put("Immich", connectImmich(1), ""),
			m.put("FTP", connectFTP(false), consent.CameraTransfer), m.put("page", connectPage, ""), m.folder(),
		}
		for i, s := range states {
			s.enter(m)
			for _, info := range consent.Purposes() {
				if !info.Available {
					continue
				}
				name := who.Name + fmt.Sprint(i)
				var row []string
				for _, w := range m.ways {
					o := w.try(info.ID, name)
					want := refused
					if s.may(info.ID) {
						want = done
					}
					if o != none && o != want {
						t.Errorf("%s, %s, %s: %s, want %s", info.ID, w.name, s.name, o, want)
					}
					if o == done && info.ID != consent.FileDedup {
						m.kept++
					}
					row = append(row, o)
				}
				got[info.ID] = append(got[info.ID], row)
			}
			m.nothingElse(s.name)
		}
	}
	rows(m.kid, wardStates())
	for _, c := range m.clients {
		c.Reconnect() // else the box would wait for them before it ends
	}
	rows(m.ada, consentStates())
	// Accepted and granted once more, so that what runs can be stopped.
	m.ada.Grant(m.available()...)
	paused := m.paused()
	var cut []string
	for _, w := range m.ways {
		cut = append(cut, m.midway(w))
	}
	text := m.table(got, cut, paused)
	if *update {
		if err := os.WriteFile(matrixFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile(matrixFile); err != nil || string(old) != text {
		t.Errorf("docs/consent-matrix.md is not what the box does: %v\n%s\n\ngo test ./daemon/gateway/gatewaytest -run Matrix -update writes it", err, text)
	}
}

// nothingElse checks that what is kept is what was done, and that nothing of what was refused lies about.
func (m *matrix) nothingElse(when string) {
	m.Helper()
	var st struct{ Items, Uploads int }
	m.box.Local("GET", "/local/status", nil, &st)
	if st.Items != m.kept || st.Uploads != 0 {
		m.Errorf("%s: %d files are kept where %d were sent with consent, %d uploads are open", when, st.Items, m.kept, st.Uploads)
	}
	left, err := os.ReadDir(filepath.Join(m.box.State, "staging"))
	if err != nil {
		m.Fatal(err)
	}
	for _, e := range left {
		m.Errorf("%s: %s is left in staging", when, e.Name())
	}
}

// A stalled body yields its first half, and then nothing until it is closed.
type stalled struct {
	left    int
	reached chan struct{}
	once    bool
	closed  chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	if s.left > 0 {
		n := min(len(p), s.left)
		s.left -= n
		clear(p[:n])
		return n, nil
	}
	if !s.once {
		s.once = true
		close(s.reached)
	}
	<-s.closed
	return 0, errors.New("the phone gave up")
}

func (s *stalled) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

// A sending is a file of which half has come.
type sending struct {
	way     string
	purpose consent.Purpose
	body    *stalled
	ended   chan error
}

// half sends half of a file.
func (m *matrix) half(w way) sending {
	m.Helper()
	client := w.connect(m, m.ada)
	purpose, folder := consent.AlbumBackup, "matrix/midway"
	if t, ok := client.(gatewaytest.Terse); ok {
		purpose, folder = consent.CameraTransfer, t.Folder()
	}
	s := sending{w.name, purpose, &stalled{left: 100 << 10, reached: make(chan struct{}), closed: make(chan struct{})}, make(chan error, 1)}
	m.Cleanup(func() { s.body.Close() })
	go func() {
		_, err := client.Put(m.Context(), gatewaytest.File{Path: folder + "/" + w.name + ".bin", Source: sourceOf(purpose), Size: 200 << 10, Body: func(int64) io.Reader { return s.body }})
		s.ended <- err
	}()
	select {
	case <-s.body.reached:
	case err := <-s.ended:
		m.Fatalf("%s: %v before half of it was sent", w.name, err)
	case <-time.After(2 * time.Minute):
		m.Fatalf("%s: half of it is not taken within two minutes", w.name)
	}
	return s
}

// ends waits until its sender has heard that it is not stored.
func (m *matrix) ends(s sending) {
	m.Helper()
	select {
	case err := <-s.ended:
		if err == nil {
			m.Errorf("%s: it was stored", s.way)
		}
	case <-time.After(2 * time.Minute):
		m.Fatalf("%s: it goes on", s.way)
	}
}

// uploads is how many files come in at the moment.
func (m *matrix) uploads() int {
	m.Helper()
	var st struct{ Uploads int }
	m.box.Local("GET", "/local/status", nil, &st)
	return st.Uploads
}

// left waits until no upload runs and returns how many wait to be gone on with. With all it
// waits until nothing at all is staged.
func (m *matrix) left(what string, all bool) int {
	m.Helper()
	for limit := time.After(2 * time.Minute); ; {
		uploads := m.uploads()
		left, err := os.ReadDir(filepath.Join(m.box.State, "staging"))
		if err != nil {
			m.Fatal(err)
		}
		if uploads == 0 && (!all || len(left) == 0) {
			paused := 0
			for _, e := range left {
				if strings.HasSuffix(e.Name(), ".state") {
					paused++
				}
			}
			return paused
		}
		select {
		case <-limit:
			m.Fatalf("%s: %d uploads, %v in staging", what, uploads, left)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// midway withdraws a consent while a file comes in for it, and says what became of the file.
func (m *matrix) midway(w way) string {
	m.Helper()
	if w.connect == nil {
		return "stopped" // TestWithdrawnMidway of the gateway: it reads by itself
	}
	s := m.half(w)
	m.ada.Withdraw(string(s.purpose))
	defer m.ada.Grant(string(s.purpose))
	m.ends(s)
	m.left(w.name, true) // the connection ended; the box lets go at once, too
	m.nothingElse(w.name + ", withdrawn midway")
	return "stopped"
}

// paused breaks a file off in the middle on every gateway, withdraws the consents to all of
// them, and says what was kept of each until then.
func (m *matrix) paused() (cells []string) {
	m.Helper()
	staged := 0
	for _, w := range m.ways {
		cell := "nothing kept"
		if w.connect != nil {
			s := m.half(w)
			for limit := time.After(2 * time.Minute); m.uploads() == 0; { // sent is not received
				select {
				case <-limit:
					m.Fatalf("%s: nothing comes in", w.name)
				case <-time.After(time.Millisecond):
				}
			}
			s.body.Close()
			m.ends(s)
			if now := m.left(w.name, false); now > staged {
				staged, cell = now, "gone"
			}
		}
		cells = append(cells, cell)
	}
	for _, p := range []consent.Purpose{consent.AlbumBackup, consent.CameraTransfer} {
		m.ada.Withdraw(string(p))
		defer m.ada.Grant(string(p))
	}
	m.left("paused", true)
	m.nothingElse("withdrawn in a pause")
	return cells
}

// table is the document.
func (m *matrix) table(got map[consent.Purpose][][]string, cut, paused []string) string {
	var b strings.Builder
	b.WriteString(`# What a consent decides, on every gateway

Written by ` + "`go test ./daemon/gateway/gatewaytest -run Matrix -update`" + ` from what a running box does;
the same test fails when the two differ. *done*: it was done, a file was stored. *refused*: the
box said that a consent is missing, and which, before it read anything. –: nothing comes by
that way for that purpose. *folder* is a folder of the box's own computer, from which whoever
runs the box has files taken in for a person.

`)
	line := func(cells ...string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	head := []string{"purpose", "its person"}
	for _, w := range m.ways {
		head = append(head, w.name)
	}
	line(head...)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	var later []string
	for _, info := range consent.Purposes() {
		if !info.Available {
			later = append(later, "`"+string(info.ID)+"`")
			continue
		}
		for i, s := range append(wardStates(), consentStates()...) {
			line(append([]string{"`" + string(info.ID) + "`", s.name}, got[info.ID][i]...)...)
		}
	}
	line(append([]string{"any", "withdraws while a file is sent"}, cut...)...)
	line(append([]string{"any", "withdraws while a file is paused"}, paused...)...)
	b.WriteString("\n*stopped*: the sender is told, or its connection ends, without another byte from it; nothing of the file\nis stored, nothing lies in staging, and it cannot be resumed. *gone*: what had arrived of a file that\nbroke off waited to be gone on with, and is off the disk at once. *nothing kept*: there is nothing of one.\n\n" +
		"This version does nothing for the following purposes, and nobody can grant them:\n" + strings.Join(later, ", ") + ".\n")
	return b.String()
}

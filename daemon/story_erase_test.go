package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/db"
)

const day = 24 * time.Hour

// holding lists the files below dir that hold one of the words, in their content or name.
func holding(t *testing.T, dir string, words ...string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it came and went meanwhile
		}
		if err != nil {
			return err
		}
		var b []byte
		if e.Type().IsRegular() {
			if b, err = os.ReadFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		rel, _ := filepath.Rel(dir, name)
		for _, w := range words {
			if n := bytes.Count(b, []byte(w)); n > 0 || strings.Contains(rel, w) {
				list = append(list, fmt.Sprintf("%s: %q %d times", rel, w, n))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What must be nowhere once the account is gone.
func traces() []string {
	return []string{"zerline", "Geheim4711", "what nobody may know", "geheim@example.org"}
}

// zerline lives a life on the box.
func zerline(t *testing.T, b *daemontest.Box) *daemontest.Person {
	t.Helper()
	z := b.AddPerson("zerline")
	z.Grant("storage", "album_backup", "camera_transfer", "profile_details", "device_info", "usage_logs")
	ask(z, "PUT", "/v1/me/profile/email", `{"value":"geheim@example.org"}`).is(t, "e-mail address", 204, "")
	ask(z, "POST", "/v1/devices", `{"name":"Geheim4711 phone","kind":"phone"}`).is(t, "device", 201, "")
	ask(z, "POST", "/v1/tokens", `{"name":"Geheim4711 app","scope":"full"}`).is(t, "token", 201, "")
	for i := range 40 {
		put(t, z, fmt.Sprintf("Geheim4711/%d/IMG_%d.jpg", i%7, i), fmt.Sprintf("%d what nobody may know", i))
	}
	put(t, z, "Geheim4711/changed.jpg", "first what nobody may know")
	put(t, z, "Geheim4711/changed.jpg", "second what nobody may know")
	put(t, z, "Geheim4711-trash.jpg", "trash what nobody may know")
	ask(z, "DELETE", "/v1/files/Geheim4711-trash.jpg", "").is(t, "trash", 204, "")
	put(t, z, "Geheim4711-gone.jpg", "gone what nobody may know")
	purgeFile(t, z, "Geheim4711-gone.jpg")
	ask(z, "PROPPATCH", "/dav/Geheim4711/changed.jpg", `<propertyupdate xmlns="DAV:"><set><prop><note xmlns="urn:x">Geheim4711 note</note></prop></set></propertyupdate>`).is(t, "note", 207, "")
	tus := []string{"Tus-Resumable", "1.0.0"}
	ask(z, "POST", "/v1/uploads", "", append(tus, "Upload-Length", "100", "Upload-Metadata", "path "+b64("Geheim4711.mp4")+",source "+b64("album"))...).is(t, "upload", 201, "")
	ask(z, "POST", "/v1/requests", `{"kind":"complaint","text":"Geheim4711 is slow","contact":"geheim@example.org"}`).is(t, "complaint", 201, "")
	prepareExport(t, z, `{}`)
	return z
}

// cancelled is the answer to a cancellation.
type cancelled struct {
	Stage, Code string
	Due         time.Time
	Trouble     string
}

type fetched struct {
	State   string
	Receipt struct {
		JWS    string
		Handed int64 `json:"files_handed_over"`
		Keys   bool  `json:"keys_destroyed"`
		Erased []struct {
			Category       string
			Records, Bytes int64
		}
		Stays []struct {
			Category string
			Records  int64
			Why      struct{ EN, ZH string }
		}
		Asked string `json:"asked_by"`
	}
}

func fetchReceipt(t *testing.T, b *daemontest.Box, code string) (f fetched) {
	t.Helper()
	ask(b.Nobody(), "POST", "/v1/deletion-receipt", `{"code":"`+code+`"}`).is(t, "receipt", 200, "").into(t, &f)
	return f
}

// finished waits until an account that is due is gone.
func finished(t *testing.T, b *daemontest.Box, code string) fetched {
	t.Helper()
	wait(t, "the account is there", func() bool {
		var f fetched
		b.Local("POST", "/local/deletion-receipt", map[string]string{"code": code}, &f)
		return f.State == "done"
	})
	return fetchReceipt(t, b, code)
}

// R28, R27: an account is cancelled with its identity proved again; it can be kept for
// seven days; then all of it goes by itself, and nothing of it is anywhere below the
// state directory or in the log. Others keep what they have.
func TestACancelledAccountIsNowhere(t *testing.T) {
	t.Parallel()
	log := &journal{}
	b := daemontest.StartLogged(t, log, func(c *config.Config) { c.Tree = "auto" })
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	put(t, ada, "mine.jpg", "3 what nobody may know") // a content that both keep
	z := zerline(t, b)
	wait(t, "the view shows nothing", func() bool { return len(holding(t, filepath.Join(b.State, "tree"), "IMG_39")) > 0 })
	if len(holding(t, b.State, "Geheim4711")) < 3 {
		t.Fatal("the traces that are to vanish were never there")
	}
	ask(ada, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "the owner", 409, "conflict")
	ask(z, "POST", "/v1/me/cancellation", `{"files":"hand-over"}`).is(t, "to nobody", 400, "invalid")
	b.Pass(6 * time.Minute)
	ask(z, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "without a proof", 403, "step-up-required")
	ask(z, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "proof", 200, "")

	var c cancelled
	var app struct{ ID, Token string }
	ask(z, "POST", "/v1/tokens", `{"name":"Geheim4711 drive","scope":"files"}`).is(t, "token", 201, "").into(t, &app)
	ask(z, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "cancellation", 201, "").into(t, &c)
	// It can be read, exported and kept, and nothing is taken in.
	ask(z, "GET", "/v1/files/Geheim4711/changed.jpg", "").is(t, "reading", 200, "")
	ask(z, "PUT", "/v1/files/new.jpg?source=album", "new").is(t, "writing", 403, "forbidden")
	ask(z, "MKCOL", "/dav/new/", "").is(t, "a folder", 403, "forbidden")
	ask(z, "DELETE", "/v1/files/Geheim4711/changed.jpg", "").is(t, "deleting", 403, "forbidden")
	ask(z, "PUT", "/v1/consents/qq_backup", `{"granted":true,"policy_revision":"x"}`).is(t, "consenting", 403, "forbidden")
	ask(z.With(app.Token), "GET", "/v1/files/Geheim4711/changed.jpg", "").is(t, "an app", 401, "unauthenticated")
	prepareExport(t, z, `{}`)
	ask(z, "DELETE", "/v1/me/cancellation", "").is(t, "keeping it", 204, "")
	ask(z, "PUT", "/v1/files/new.jpg?source=album", "new what nobody may know").is(t, "writing again", 201, "")
	ask(z.With(app.Token), "GET", "/v1/files/new.jpg", "").is(t, "the app again", 200, "")
	ask(b.Nobody(), "POST", "/v1/deletion-receipt", `{"code":"`+c.Code+`"}`).is(t, "the receipt of a kept account", 404, "not-found")

	ask(z, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "cancellation", 201, "").into(t, &c)
	if left := time.Until(c.Due) - 6*time.Minute; left < 6*day || left > 8*day {
		t.Errorf("due in %v", left)
	}
	b.Pass(5 * day)
	if f := fetchReceipt(t, b, c.Code); f.State != "waiting" {
		t.Errorf("after five days: %+v", f)
	}
	b.SignIn("zerline")
	b.Pass(4 * day)
	b.Leap(0)
	f := finished(t, b, c.Code)
	records := map[string]int64{}
	for _, e := range f.Receipt.Erased {
		records[e.Category] = e.Records
	}
	for category, n := range map[string]int64{"files": 42, "versions": 1, "trash": 1, "devices": 1, "requests": 1, "account": 1, "uploads": 1} {
		if records[category] != n {
			t.Errorf("the receipt says that %d records of %s were erased, want %d: %+v", records[category], category, n, f.Receipt.Erased)
		}
	}
	for _, s := range f.Receipt.Stays {
		if (s.Category != "consents" && s.Category != "record") || s.Records == 0 || s.Why.EN == "" || s.Why.ZH == "" {
			t.Errorf("stays: %+v", s)
		}
	}
	if !f.Receipt.Keys {
		t.Error("the keys of the person are not destroyed")
	}
	ask(b.Nobody(), "POST", "/v1/session", `{"username":"zerline","password":"`+daemontest.Password+`"}`).is(t, "signing in", 401, "unauthenticated")
	ask(z, "GET", "/v1/me", "").is(t, "the session", 401, "unauthenticated")
	if r := ask(b.SignIn("ada"), "GET", "/v1/files/mine.jpg", ""); string(r.body) != "3 what nobody may know" {
		t.Errorf("what the other keeps: %v", r)
	}
	var report struct{ Audit, Consents struct{ Bad *struct{} } }
	b.Local("GET", "/local/audit/verify", nil, &report)
	if report.Audit.Bad != nil || report.Consents.Bad != nil {
		t.Errorf("the chains do not hold: %+v", report)
	}

	ada = b.SignIn("ada")
	ask(ada, "DELETE", "/v1/me/data/files", "").is(t, "all files of the other", 202, "")
	forgotten(t, ada)
	b.Stop()
	if found := holding(t, b.State, traces()...); len(found) > 0 {
		t.Errorf("still there:\n%s", strings.Join(found, "\n"))
	}
	for _, w := range traces() {
		if strings.Contains(log.String(), w) {
			t.Errorf("the log has %q", w)
		}
	}
	b.Restart()
	if f := fetchReceipt(t, b, c.Code); f.State != "done" {
		t.Errorf("after a restart: %+v", f)
	}
	b.Pass(100 * day)
	b.Restart()
	wait(t, "the receipt is kept for longer than it is said", func() bool {
		return ask(b.Nobody(), "POST", "/v1/deletion-receipt", `{"code":"`+c.Code+`"}`).status == 404
	})
}

// forgotten waits until nothing is being erased any more.
func forgotten(t *testing.T, p *daemontest.Person) {
	t.Helper()
	wait(t, "it is being erased", func() bool {
		return string(bytes.TrimSpace(ask(p, "GET", "/v1/me/erasures", "").body)) == `{"erasures":[]}`
	})
}

var errCut = errors.New("cut")

// R22, R27, R28: a kill between any two steps of erasing and of cancelling, again and
// again, revives nothing, and it goes on to the end.
func TestErasingGoesOnAfterAnyCut(t *testing.T) {
	t.Parallel()
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.Tree = "auto" })
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	z := zerline(t, b)
	var c cancelled
	ask(z, "POST", "/v1/me/cancellation", `{"files":"hand-over","to":"ada"}`).is(t, "cancellation", 201, "").into(t, &c)
	ask(ada, "PUT", "/v1/handovers/"+z.ID, `{"accept":true}`).is(t, "taking the files", 204, "")
	ahead := 10 * day
	b.Pass(ahead) // nobody looks
	b.Stop()
	type seen struct{ users, items, granted, rows int64 }
	// live starts the box with what a cut left, and cuts it off again after so many steps. It
	// returns what it found, what is left, and whether all was done.
	live := func(state string, allowed int) (now seen, left string, ended bool) {
		t.Helper()
		box, err := daemon.Open(t.Context(), daemon.Options{
			Config: config.Config{State: state, HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, ScrubDays: 30, Tree: "auto"},
			Now:    func() time.Time { return time.Now().Add(ahead) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := daemon.Database(box).Read(t.Context(), func(tx *db.Tx) error {
			return tx.QueryRow(`SELECT (SELECT count(*) FROM user), (SELECT count(*) FROM item),
				(SELECT count(*) FROM consent_ledger l WHERE granted = 1 AND user <> (SELECT id FROM user WHERE role = 'owner')
					AND NOT EXISTS (SELECT 1 FROM consent_ledger m WHERE m.user = l.user AND m.purpose = l.purpose AND m.seq > l.seq)),
				(SELECT count(*) FROM device) + (SELECT count(*) FROM token) + (SELECT count(*) FROM version) + (SELECT count(*) FROM upload) + (SELECT count(*) FROM request)`).
				Scan(&now.users, &now.items, &now.granted, &now.rows)
		}); err != nil {
			t.Fatal(err)
		}
		steps := 0
		daemon.Between(box, func(context.Context) error {
			if steps++; steps > allowed {
				return errCut
			}
			return nil
		})
		err = daemon.EraseNow(t.Context(), box)
		if ended = err == nil; !ended && !errors.Is(err, errCut) {
			t.Fatalf("after %d steps: %v", allowed, err)
		}
		left = t.TempDir()
		if err := os.CopyFS(left, onlyFiles{os.DirFS(state)}); err != nil {
			t.Fatal(err)
		}
		if err := box.Close(); err != nil {
			t.Fatal(err)
		}
		return now, left, ended
	}
	compare := func(cut int, last, now seen) {
		t.Helper()
		if now.users > last.users || now.items > last.items || now.granted > last.granted || now.rows > last.rows {
			t.Errorf("cut %d brought something back: %+v, then %+v", cut, last, now)
		}
	}
	gone := func(now seen) {
		t.Helper()
		if now.users != 1 || now.granted != 0 || now.rows != 0 {
			t.Errorf("left: %+v", now)
		}
	}
	if os.Getenv("YUNBOX_CUTS") != "" { // one life for each step: cut there, and then to the end
		for cut := 1; ; cut++ {
			whole := t.TempDir()
			if err := os.CopyFS(whole, onlyFiles{os.DirFS(b.State)}); err != nil {
				t.Fatal(err)
			}
			last, left, ended := live(whole, cut)
			if ended {
				t.Logf("cut at each of %d steps", cut-1)
				return
			}
			now, left, ended := live(left, 1<<30)
			compare(cut, last, now)
			if !ended {
				t.Errorf("cut %d: it does not come to an end", cut)
			}
			last, now = now, seen{}
			now, left, _ = live(left, 1<<30)
			compare(cut, last, now)
			gone(now)
			for _, words := range holding(t, left, "zerline", "geheim@example.org", "Geheim4711-trash", "trash what nobody", "Geheim4711-gone", "Geheim4711.mp4") {
				t.Errorf("cut %d: %v", cut, words)
			}
		}
	}
	// All of it takes some seventy steps, those included that find nothing to do.
	last, state := seen{1 << 40, 1 << 40, 1 << 40, 1 << 40}, b.State
	for cuts := 0; ; cuts++ {
		if cuts > 200 {
			t.Fatal("it does not come to an end")
		}
		now, left, ended := live(state, 1+cuts*5)
		compare(cuts, last, now)
		if last, state = now, left; ended {
			now, _, _ = live(state, 1<<30)
			compare(cuts, last, now)
			gone(now)
			t.Logf("%d cuts", cuts)
			return
		}
	}
}

// onlyFiles leaves sockets out, which cannot be copied.
type onlyFiles struct{ fs.FS }

// ReadDir implements fs.ReadDirFS.
func (f onlyFiles) ReadDir(name string) (list []fs.DirEntry, err error) {
	all, err := fs.ReadDir(f.FS, name)
	for _, e := range all {
		if e.Type()&fs.ModeSocket == 0 {
			list = append(list, e)
		}
	}
	return list, err
}

type preview struct {
	Categories []struct {
		Category       string
		Records, Bytes int64
		Stays          *struct{ EN, ZH string }
	}
}

func (p preview) records() map[string]int64 {
	m := map[string]int64{}
	for _, c := range p.Categories {
		if c.Stays == nil {
			m[c.Category] = c.Records
		}
	}
	return m
}

// R27: one category, one purpose's data, into the trash or for good, everything; what it
// takes is said before, and nothing else goes.
func TestDataIsErasedByCategoryAndPurpose(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup", "camera_transfer")
	z := zerline(t, b)
	files := func(p *daemontest.Person) (n int) {
		var list struct{ Items []struct{ Path string } }
		ask(p, "GET", "/v1/items?recursive=true&limit=1000", "").is(t, "list", 200, "").into(t, &list)
		return len(list.Items)
	}
	for i := range 3 {
		ask(z, "PUT", fmt.Sprintf("/v1/files/camera/%d.jpg?source=camera", i), fmt.Sprint("from the camera ", i)).is(t, "put", 201, "")
		put(t, ada, fmt.Sprintf("%d.jpg", i), fmt.Sprint("ada's ", i))
	}
	look := func(query string) (p preview) {
		t.Helper()
		ask(z, "GET", "/v1/me/erasures/preview"+query, "").is(t, "preview", 200, "").into(t, &p)
		return p
	}
	if m := look("?purpose=camera_transfer").records(); m["files"] != 3 || m["offers"] < 3 || m["exports"] != 1 || len(m) != 3 { // and what names them
		t.Errorf("for a purpose: %v", m)
	}
	if m := look("?category=offers").records(); m["offers"] == 0 || len(m) != 1 {
		t.Errorf("for a category: %v", m)
	}
	if p := look("?category=consents"); len(p.Categories) != 1 || p.Categories[0].Stays == nil || p.Categories[0].Records != 0 {
		t.Errorf("what stays: %+v", p)
	}
	ask(z, "GET", "/v1/me/erasures/preview?category=nothing", "").is(t, "no such category", 404, "not-found")
	ask(z, "DELETE", "/v1/me/data/consents", "").is(t, "what stays", 409, "conflict")
	ask(z, "DELETE", "/v1/me/data/account", "").is(t, "what goes with the account", 409, "conflict")

	ask(z, "DELETE", "/v1/me/data?purpose=camera_transfer&trash=true", "").is(t, "into the trash", 202, "")
	forgotten(t, z)
	if n := files(z); n != 41 {
		t.Errorf("%d files are left", n)
	}
	if m := look("").records(); m["trash"] != 4 {
		t.Errorf("in the trash: %v", m)
	}
	ask(z, "DELETE", "/v1/me/data/offers", "").is(t, "a category", 202, "")
	ask(z, "DELETE", "/v1/me/data/versions", "").is(t, "older versions", 202, "")
	ask(z, "DELETE", "/v1/me/data?purpose=album_backup", "").is(t, "for good", 202, "")
	forgotten(t, z)
	if m := look("").records(); m["files"] != 0 || m["versions"] != 0 || m["trash"] != 3 || m["uploads"] != 0 || m["tokens"] == 0 {
		t.Errorf("after all of it: %v", m)
	}
	if n := files(ada); n != 3 {
		t.Errorf("the other has %d files", n)
	}
	if found := holding(t, b.State, "what nobody may know"); len(found) > 0 {
		t.Errorf("contents are still there: %v", found)
	}
	var usage struct{ Usage struct{ Items, Bytes int64 } }
	ask(z, "GET", "/v1/me", "").into(t, &usage)
	if usage.Usage.Items != 0 || usage.Usage.Bytes != 3*int64(len("from the camera 0")) {
		t.Errorf("%+v", usage)
	}

	ask(z, "DELETE", "/v1/me/data", "").is(t, "nothing in particular", 400, "invalid")
	ask(z, "DELETE", "/v1/me/data?what=everything", "").is(t, "everything", 202, "")
	z = b.SignIn("zerline") // which ended every session
	forgotten(t, z)
	for category, n := range look("").records() {
		if category != "sessions" && category != "notices" && n > 0 {
			t.Errorf("%d records of %s are left", n, category)
		}
	}
	b.Stop()
	if found := holding(t, b.State, "Geheim4711", "geheim@example.org"); len(found) > 0 {
		t.Errorf("still there:\n%s", strings.Join(found, "\n"))
	}
}

// R28: files can be handed to somebody who takes them, and nobody's files are erased
// that were offered and not taken.
func TestFilesAreHandedOver(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	z := zerline(t, b)
	bob := b.AddPerson("bob")
	var c cancelled
	ask(z, "POST", "/v1/me/cancellation", `{"files":"hand-over","to":"nobody here"}`).is(t, "to nobody", 404, "not-found")
	ask(z, "POST", "/v1/me/cancellation", `{"files":"hand-over","to":"zerline"}`).is(t, "to oneself", 409, "conflict")
	ask(z, "POST", "/v1/me/cancellation", `{"files":"hand-over","to":"Bob"}`).is(t, "to bob", 201, "").into(t, &c)
	ask(bob, "PUT", "/v1/handovers/"+z.ID, `{"accept":true}`).is(t, "without consent", 403, "consent-required")
	ask(ada, "PUT", "/v1/handovers/"+z.ID, `{"accept":true}`).is(t, "somebody else", 404, "not-found")
	bob.Grant("storage")
	bob.SetQuota(100)
	ask(bob, "PUT", "/v1/handovers/"+z.ID, `{"accept":true}`).is(t, "without room", 507, "quota")
	bob.SetQuota(-1)
	var offers struct {
		Handovers []struct {
			From     string
			Files    int64
			Accepted bool
		}
	}
	ask(bob, "GET", "/v1/handovers", "").is(t, "offers", 200, "").into(t, &offers)
	if len(offers.Handovers) != 1 || offers.Handovers[0].From != "zerline" || offers.Handovers[0].Files != 41 || offers.Handovers[0].Accepted {
		t.Errorf("%+v", offers)
	}
	b.Pass(8 * day)
	state := func() (now cancelled) {
		ask(z, "GET", "/v1/me/cancellation", "").is(t, "state", 200, "").into(t, &now)
		return now
	}
	wait(t, "there is no trouble", func() bool { return state().Trouble != "" })
	if now := state(); now.Trouble != "unanswered" || now.Stage != "waiting" {
		t.Errorf("nobody answered: %+v", now)
	}
	ask(bob, "PUT", "/v1/handovers/"+z.ID, `{"accept":true}`).is(t, "taking them", 204, "")
	f := finished(t, b, c.Code)
	if f.Receipt.Handed != 41 {
		t.Errorf("%d files were handed over", f.Receipt.Handed)
	}
	r := ask(bob, "GET", "/v1/items?recursive=true&limit=1000", "")
	if n := strings.Count(string(r.body), `/Geheim4711/`); n < 41 {
		t.Errorf("bob has %d of them: %v", n, r)
	}
	if r := ask(bob, "GET", "/v1/files/Handed%20over%20"+time.Now().Add(8*day).UTC().Format(time.DateOnly)+"/Geheim4711/changed.jpg", ""); string(r.body) != "second what nobody may know" {
		t.Errorf("%v", r)
	}
}

// R28: whoever manages the box has somebody removed: told before, with the time to export.
func TestAnAdminRemovesSomebody(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	z := zerline(t, b)
	ask(z, "POST", "/v1/users/"+ada.ID+"/removal", `{}`).is(t, "a member", 403, "forbidden")
	ask(ada, "POST", "/v1/users/"+ada.ID+"/removal", `{}`).is(t, "the owner", 403, "forbidden")
	var c cancelled
	ask(ada, "POST", "/v1/users/"+z.ID+"/removal", `{"days":14}`).is(t, "removal", 201, "").into(t, &c)
	z = b.SignIn("zerline")
	ask(z, "DELETE", "/v1/me/cancellation", "").is(t, "the person undoes it", 403, "forbidden")
	prepareExport(t, z, `{}`)
	if r := ask(z, "GET", "/v1/me/notices", ""); !strings.Contains(string(r.body), `"removal"`) {
		t.Errorf("the person is not told: %v", r)
	}
	ask(ada, "DELETE", "/v1/users/"+z.ID+"/removal", "").is(t, "undoing it", 204, "")
	put(t, z, "more.jpg", "more")
	b.Local("POST", "/local/users/zerline/removal", map[string]int{"days": 0}, &c)
	f := finished(t, b, c.Code)
	if f.Receipt.Asked != "manager" {
		t.Errorf("%+v", f.Receipt)
	}
}

// R29: anybody asks or complains, is told until when, and gets an answer.
func TestRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	calendar := t.TempDir()
	year := time.Now().AddDate(0, 0, 30).Year()
	for _, y := range []int{year, year - 1} {
		if err := os.WriteFile(filepath.Join(calendar, fmt.Sprintf("%d.txt", y)), []byte("# nothing\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.Calendar = calendar })
	b.Bind()
	bob := b.AddPerson("bob")
	var mine, theirs struct {
		ID, Due, State, Code, Answer string
		Verified, Overdue            bool
	}
	ask(bob, "POST", "/v1/requests", `{"kind":"access","text":"What do you know?"}`).is(t, "with an account", 201, "").into(t, &mine)
	ask(b.Nobody(), "POST", "/v1/requests", `{"kind":"complaint","text":"My photo is on your box","contact":"eve@example.org"}`).is(t, "without", 201, "").into(t, &theirs)
	if !mine.Verified || theirs.Verified || mine.Code != "" || len(theirs.Code) < 20 {
		t.Errorf("%+v, %+v", mine, theirs)
	}
	due, err := time.ParseInLocation(time.DateOnly, mine.Due, time.Local)
	if left := time.Until(due); err != nil || left < 18*day || left > 22*day {
		t.Errorf("15 working days are until %s", mine.Due)
	}
	for what, body := range map[string]string{"no text": `{"kind":"other","text":"  "}`, "no kind": `{"kind":"x","text":"x"}`, "a control character": `{"kind":"other","text":"a\u0000b"}`} {
		ask(bob, "POST", "/v1/requests", body).is(t, what, 400, "invalid")
	}
	limited := false
	for range 5 {
		limited = limited || ask(b.Nobody(), "POST", "/v1/requests", `{"kind":"other","text":"again"}`).kind() == "rate-limited"
	}
	if !limited {
		t.Error("a stranger may write as much as they like")
	}
	ask(bob, "GET", "/v1/requests", "").is(t, "everybody's, for a member", 403, "forbidden")
	b.Pass(40 * day)
	ada := b.SignIn("ada")
	bob = b.SignIn("bob")
	var all struct {
		Waiting  struct{ Open, Overdue int64 }
		Requests []struct {
			ID, Kind string
			From     *string
			Overdue  bool
		}
	}
	ask(ada, "GET", "/v1/requests", "").is(t, "everybody's", 200, "").into(t, &all)
	if all.Waiting.Open < 2 || all.Waiting.Overdue != all.Waiting.Open {
		t.Errorf("%+v", all)
	}
	for _, q := range all.Requests {
		if byBob := q.From != nil && *q.From == "bob"; byBob != (q.ID == mine.ID) || !q.Overdue {
			t.Errorf("%+v", q)
		}
	}
	var status struct{ Requests struct{ Open, Overdue int64 } }
	b.Local("GET", "/local/status", nil, &status)
	if status.Requests != all.Waiting {
		t.Errorf("%+v", status)
	}
	ask(ada, "PUT", "/v1/requests/"+mine.ID+"/answer", `{"text":""}`).is(t, "an empty answer", 400, "invalid")
	ask(ada, "PUT", "/v1/requests/"+mine.ID+"/answer", `{"text":"See your page."}`).is(t, "an answer", 204, "")
	b.Local("POST", "/local/requests/"+theirs.ID+"/answer", map[string]any{"text": "It is not.", "refuse": true}, nil)
	ask(ada, "PUT", "/v1/requests/"+mine.ID+"/answer", `{"text":"Again."}`).is(t, "a second answer", 404, "not-found")
	ask(b.Nobody(), "POST", "/v1/requests/read", `{"code":"`+strings.ToLower(theirs.Code)+`"}`).is(t, "reading it", 200, "").into(t, &theirs)
	if theirs.State != "refused" || theirs.Answer != "It is not." {
		t.Errorf("%+v", theirs)
	}
	if r := ask(bob, "GET", "/v1/me/requests", ""); !strings.Contains(string(r.body), "See your page.") {
		t.Errorf("%v", r)
	}
	if r := ask(bob, "GET", "/v1/me/notices", ""); !strings.Contains(string(r.body), "request_answer") {
		t.Errorf("%v", r)
	}
	b.Pass(400 * day) // closed ones go by themselves
	b.Restart()
	wait(t, "a closed request is kept", func() bool {
		return len(holding(t, b.State, "nowhere")) == 0 && ask(b.Nobody(), "POST", "/v1/requests/read", `{"code":"`+theirs.Code+`"}`).status == 404
	})
}

// R30: what is past its period goes by itself, and when is shown.
func TestRecordsGoWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	bob := b.AddPerson("bob")
	put(t, ada, "trash.jpg", "in the trash")
	put(t, ada, "kept.jpg", "kept")
	ask(ada, "DELETE", "/v1/files/trash.jpg", "").is(t, "trash", 204, "")
	period := func() (p struct {
		Days, Min, Max int
		Never          bool
		Next           *time.Time
	}) {
		var data struct {
			Categories []struct {
				ID     string
				Period *struct {
					Days, Min, Max int
					Never          bool
					Next           *time.Time
				}
			}
		}
		ask(ada, "GET", "/v1/me/data", "").is(t, "data", 200, "").into(t, &data)
		for _, c := range data.Categories {
			if c.ID == "trash" {
				return *c.Period
			}
		}
		t.Fatal("the trash has no period")
		return p
	}
	if p := period(); p.Days != 0 || !p.Never || p.Next != nil {
		t.Errorf("%+v", p)
	}
	ask(bob, "PUT", "/v1/retention/trash", `{"days":30}`).is(t, "a member", 403, "forbidden")
	ask(ada, "PUT", "/v1/retention/trash", `{"days":1}`).is(t, "too short", 400, "invalid")
	ask(ada, "PUT", "/v1/retention/consents", `{"days":30}`).is(t, "what stays", 409, "conflict")
	ask(ada, "PUT", "/v1/retention/trash", `{"days":30}`).is(t, "a month", 204, "")
	if p := period(); p.Days != 30 || p.Next == nil || time.Until(*p.Next) < 29*day || time.Until(*p.Next) > 31*day {
		t.Errorf("%+v", p)
	}
	trashed := func() int {
		var list struct{ Items []struct{ Path string } }
		ask(ada, "GET", "/v1/items?trash=true", "").is(t, "the trash", 200, "").into(t, &list)
		return len(list.Items)
	}
	b.Leap(3650 * day) // a clock that jumps ends nothing
	b.Restart()
	time.Sleep(100 * time.Millisecond)
	if n := trashed(); n != 1 {
		t.Errorf("the clock jumped, and %d files are in the trash", n)
	}
	b.Leap(-3650 * day)
	b.Pass(29 * day)
	b.Restart()
	if n := trashed(); n != 1 {
		t.Errorf("after 29 days %d files are in the trash", n)
	}
	b.Pass(2 * day)
	b.Restart()
	wait(t, "after 31 days there are files in the trash", func() bool { return trashed() == 0 })
	if r := ask(ada, "GET", "/v1/files/kept.jpg", ""); r.status != 200 {
		t.Errorf("a file went with them: %v", r)
	}
}

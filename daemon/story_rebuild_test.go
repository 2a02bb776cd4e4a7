package daemon_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"yunbox.local/daemon"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// tables returns a digest of each table of the box that was stopped or killed.
func tables(t *testing.T, b *daemontest.Box) map[string][32]byte {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"box.db", "box.db-wal"} {
		data, err := os.ReadFile(filepath.Join(b.State, name))
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), data)
	}
	path := filepath.Join(dir, "box.db")
	c, err := sql.Open("sqlite3", "file:"+path) // folds the log in
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	sums, err := db.Digest(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if len(sums) < 20 {
		t.Fatalf("only %d tables", len(sums))
	}
	return sums
}

func sameTables(t *testing.T, what string, got, want map[string][32]byte) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: table %s is not what it was", what, name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d tables, %d before", what, len(got), len(want))
	}
}

// What was acknowledged right before a kill is there after box.db was lost, and
// what was deleted, revoked or withdrawn stays so.
func TestWhatWasDeletedStaysDeletedAfterARebuild(t *testing.T) { // R03 R04 R12
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup", "wechat_backup")
	for _, name := range []string{"kept", "trashed", "purged", "replaced"} {
		put(t, ada, name+".jpg", "the content of "+name)
	}
	bob := b.AddPerson("bob")
	bob.Grant("storage", "album_backup")
	put(t, bob, "bob.jpg", "what only bob has")
	var kept, revoked, device struct{ ID, Token string }
	ask(ada, "POST", "/v1/tokens", `{"name":"kept","scope":"full"}`).is(t, "token", 201, "").into(t, &kept)
	ask(ada, "POST", "/v1/tokens", `{"name":"revoked","scope":"full"}`).is(t, "token", 201, "").into(t, &revoked)
	ask(ada, "POST", "/v1/devices", `{"name":"phone","kind":"phone"}`).is(t, "device", 201, "").into(t, &device)
	out := b.SignIn("bob")
	ask(ada, "DELETE", "/v1/devices/"+device.ID, "").is(t, "remove", 204, "")
	forgotten(t, ada) // what it was called goes by itself, and not while the box is killed

	// The last things that happen.
	put(t, ada, "replaced.jpg", "the newer content")
	for _, name := range []string{"trashed", "purged"} {
		var item struct{ ID string }
		ask(ada, "GET", "/v1/files/"+name+".jpg", "").is(t, name, 200, "")
		ask(ada, "DELETE", "/v1/files/"+name+".jpg", "").is(t, name, 204, "")
		if name == "purged" {
			var list struct{ Items []struct{ ID, Path string } }
			ask(ada, "GET", "/v1/items?trash=true", "").is(t, "trash", 200, "").into(t, &list)
			for _, i := range list.Items {
				if strings.Contains(i.Path, "purged") {
					item.ID = i.ID
				}
			}
			ask(ada, "DELETE", "/v1/items/"+item.ID, "").is(t, "purge", 204, "")
		}
	}
	b.Local("POST", "/local/sweep", nil, nil)
	if _, err := os.Stat(filepath.Join(b.State, "blobs", sumOf("the content of purged")[:2], sumOf("the content of purged"))); err == nil {
		t.Fatal("the purged content was not swept")
	}
	ask(ada, "DELETE", "/v1/tokens/"+revoked.ID, "").is(t, "revoke", 204, "")
	ask(out, "DELETE", "/v1/session", "").is(t, "sign out", 204, "")
	ask(bob, "PUT", "/v1/me/password", `{"old":"`+daemontest.Password+`","new":"another long pass phrase"}`).is(t, "password", 200, "")
	ada.Withdraw("wechat_backup")
	receipts := string(ask(ada, "GET", "/v1/consents/receipts", "").is(t, "receipts", 200, "").body)
	if !strings.Contains(receipts, "wechat_backup") {
		t.Fatal(receipts)
	}

	b.Kill()
	want := tables(t, b)
	forget(t, b)
	report, err := b.Rebuild(daemon.RebuildOptions{})
	if err != nil || report.Lost != "" || report.Missing != 0 || report.Found != 0 || report.Differences != 0 || report.People != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	sameTables(t, "after the rebuild", tables(t, b), want)

	b.Restart()
	for name, content := range map[string]string{"kept.jpg": "the content of kept", "replaced.jpg": "the newer content"} {
		if r := ask(ada, "GET", "/v1/files/"+name, ""); string(r.body) != content {
			t.Errorf("%s: %v", name, r)
		}
	}
	for _, name := range []string{"trashed", "purged"} {
		ask(ada, "GET", "/v1/files/"+name+".jpg", "").is(t, name, 404, "not-found")
	}
	ask(ada.With(kept.Token), "GET", "/v1/me", "").is(t, "the token", 200, "")
	ask(ada.With(revoked.Token), "GET", "/v1/me", "").is(t, "the revoked token", 401, "unauthenticated")
	ask(out, "GET", "/v1/me", "").is(t, "the ended session", 401, "unauthenticated")
	ask(b.Nobody(), "POST", "/v1/session", `{"username":"bob","password":"`+daemontest.Password+`"}`).is(t, "the old password", 401, "unauthenticated")
	ask(b.Nobody(), "POST", "/v1/session", `{"username":"bob","password":"another long pass phrase"}`).is(t, "the new password", 200, "")
	ask(ada, "PUT", "/v1/files/w.jpg?source=wechat", "x").is(t, "without the consent", 403, "consent-required")
	ask(ada, "PUT", "/v1/files/purged-again.jpg?source=album", "new").is(t, "with a consent", 201, "")
	if got := string(ask(ada, "GET", "/v1/consents/receipts", "").body); got != receipts {
		t.Errorf("other receipts: %.200s", got)
	}
	var verified struct {
		Bad     *struct{ Seq int64 }
		Consent struct{ Bad *struct{ Seq int64 } }
	}
	b.Local("GET", "/local/audit/verify", nil, &verified)
	if verified.Bad != nil || verified.Consent.Bad != nil {
		t.Errorf("a chain is broken: %+v", verified)
	}
}

// A random life of a box, a kill at a random moment, damage to box.db of every
// kind: it comes back to the last row.
func TestDamagedRecordsComeBack(t *testing.T) { // R12
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup", "camera_transfer")
	people := []*daemontest.Person{ada, b.AddPerson("bob")}
	people[1].Grant("storage", "album_backup")
	for round := range 3 {
		for range 25 {
			live(t, rng, people[rng.IntN(len(people))])
		}
		if round == 1 {
			b.Stop()
			roll(t, b)
			b.Restart()
			continue
		}
		b.Kill()
		want := tables(t, b)
		whole := map[string][]byte{}
		for _, name := range []string{"box.db", "box.db-wal"} {
			data, err := os.ReadFile(filepath.Join(b.State, name))
			if err != nil {
				t.Fatal(err)
			}
			whole[name] = data
		}
		for what, damage := range damages(rng, whole) {
			forget(t, b)
			for name, data := range damage {
				if data != nil {
					write(t, filepath.Join(b.State, name), data)
				}
			}
			report, err := b.Rebuild(daemon.RebuildOptions{})
			if err != nil || report.Lost != "" || report.Missing != 0 || report.Differences != 0 {
				t.Errorf("%s: %+v, %v", what, report, err)
				continue
			}
			if _, err := os.Stat(filepath.Join(b.State, "box.db-wal")); err == nil {
				t.Errorf("%s: the log of the old database lies beside the new one", what)
			}
			sameTables(t, what, tables(t, b), want)
			if report.Replaced && report.Kept == "" && damage["box.db"] != nil {
				t.Errorf("%s: what was replaced is gone", what)
			}
			if err := os.RemoveAll(filepath.Join(b.State, "damaged")); err != nil {
				t.Fatal(err)
			}
		}
		b.Restart()
	}
	for _, p := range people {
		ask(p, "GET", "/v1/me", "").is(t, "a session", 200, "")
	}
}

// roll makes a generation of the records of a box that was stopped.
func roll(t *testing.T, b *daemontest.Box) {
	t.Helper()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(b.State, "box.db"), Journal: filepath.Join(b.State, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Roll(t.Context()), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// damages returns files as something may have left them; nil: none.
func damages(rng *rand.Rand, whole map[string][]byte) map[string]map[string][]byte {
	change := func(name string, f func([]byte) []byte) map[string][]byte {
		d := maps.Clone(whole)
		d[name] = f(slices.Clone(d[name]))
		return d
	}
	out := map[string]map[string][]byte{
		"all gone":        {},
		"the log gone":    {"box.db": whole["box.db"]},
		"the db gone":     {"box.db-wal": whole["box.db-wal"]},
		"the db empty":    change("box.db", func([]byte) []byte { return []byte{} }),
		"zeros":           change("box.db", func(b []byte) []byte { clear(b); return b }),
		"cut":             change("box.db", func(b []byte) []byte { return b[:rng.IntN(len(b))] }),
		"another program": change("box.db", func(b []byte) []byte { copy(b, "%PDF-1.4 a document"); return b }),
		"nothing":         whole,
	}
	for _, name := range []string{"box.db", "box.db-wal"} {
		for i := range 3 {
			page := rng.IntN(len(whole[name]) / 4096)
			if i == 0 {
				page = 0
			}
			out[fmt.Sprint("a wrecked page ", page, " of ", name)] = change(name, func(b []byte) []byte {
				for j := range 4096 {
					b[page*4096+j] = byte(rng.Uint32())
				}
				return b
			})
			at := rng.IntN(len(whole[name]))
			out[fmt.Sprint("a flipped bit at ", at, " of ", name)] = change(name, func(b []byte) []byte {
				b[at] ^= 1 << rng.IntN(8)
				return b
			})
		}
	}
	return out
}

// live does something that people do.
func live(t *testing.T, rng *rand.Rand, p *daemontest.Person) {
	t.Helper()
	file := fmt.Sprintf("/v1/files/%d/%d.jpg", rng.IntN(3), rng.IntN(8))
	switch rng.IntN(8) {
	case 0, 1, 2:
		if r := ask(p, "PUT", file+"?source=album", strings.Repeat("x", rng.IntN(3000))); r.status/100 != 2 {
			r.is(t, file, 403, "consent-required")
		}
	case 3:
		ask(p, "DELETE", file, "")
	case 4:
		var list struct{ Items []struct{ ID string } }
		ask(p, "GET", "/v1/items?trash=true", "").is(t, "trash", 200, "").into(t, &list)
		if len(list.Items) > 0 {
			method, rest := "DELETE", ""
			if rng.IntN(2) == 0 {
				method, rest = "POST", "/restore"
			}
			ask(p, method, "/v1/items/"+list.Items[0].ID+rest, "")
		}
	case 5:
		p.Withdraw("album_backup")
		if rng.IntN(3) > 0 {
			p.Grant("album_backup")
		}
	case 6:
		var token struct{ ID string }
		ask(p, "POST", "/v1/tokens", `{"name":"app","scope":"files"}`).is(t, "token", 201, "").into(t, &token)
		if rng.IntN(2) == 0 {
			ask(p, "DELETE", "/v1/tokens/"+token.ID, "").is(t, "revoke", 204, "")
		}
	case 7:
		ask(p, "MKCOL", "/dav/"+fmt.Sprint("folder", rng.IntN(4)), "")
		ask(p, "DELETE", "/dav/"+fmt.Sprint("folder", rng.IntN(4)), "")
	}
}

// A damaged page that a running box meets ends its changes with words, and the
// rebuild that they name brings everything back.
func TestARunningBoxThatMeetsDamageSaysWhatToDo(t *testing.T) { // R12
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	for i := range 60 {
		put(t, ada, fmt.Sprintf("%03d.jpg", i), fmt.Sprint("content ", i))
	}
	b.Stop()
	want := tables(t, b)
	path := filepath.Join(b.State, "box.db")
	c, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	var page int64
	if err := c.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = 'item_name'").Scan(&page); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[(page-1)*4096 : page*4096])
	write(t, path, data)
	b.Restart() // nothing that a start looks at
	for _, try := range []int{1, 2} {
		r := ask(ada, "PUT", "/v1/files/new.jpg?source=album", "new").is(t, fmt.Sprint("try ", try), 500, "damaged")
		var p problem.Error
		if err := json.Unmarshal(r.body, &p); err != nil || !strings.Contains(p.Hint, "yunboxctl rebuild") {
			t.Errorf("%v", r)
		}
	}
	b.Stop()
	report, err := b.Rebuild(daemon.RebuildOptions{})
	if err != nil || !report.Replaced || report.Files != 60 || report.Kept == "" {
		t.Fatalf("%+v, %v", report, err)
	}
	if info, err := os.Stat(report.Kept); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if kept, err := os.ReadFile(filepath.Join(report.Kept, "box.db")); err != nil || len(kept) == 0 {
		t.Errorf("the damaged one was not kept: %v", err)
	}
	got := tables(t, b)
	for _, table := range []string{"box", "journal"} { // the start that met the damage is in them
		delete(got, table)
		delete(want, table)
	}
	sameTables(t, "after the rebuild", got, want)
	b.Restart()
	put(t, ada, "new.jpg", "new")
}

// Wherever a rebuild is cut off, the next start asks for it again and it succeeds.
func TestARebuildThatIsCutOffIsRunAgain(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	put(t, ada, "a.jpg", "photo")
	b.Kill()
	want := tables(t, b)
	page, err := os.ReadFile(filepath.Join(b.State, "box.db"))
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(filepath.Join(b.State, "box.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	for what, left := range map[string]func(){
		"while it was made": func() {
			if err := os.MkdirAll(filepath.Join(b.State, "rebuild"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(b.State, "rebuild", "box.db"), page[:5000])
			write(t, filepath.Join(b.State, "rebuild", "box.db-wal"), wal)
		},
		"after the log was put aside":      func() { write(t, filepath.Join(b.State, "box.db"), page) },
		"after the database was put aside": func() {},
	} {
		forget(t, b)
		left()
		if err := open(t, b.State); !daemon.NeedsRebuild(err) {
			t.Fatalf("%s: the box starts: %v", what, err)
		}
		report, err := b.Rebuild(daemon.RebuildOptions{})
		if err != nil || !report.Replaced {
			t.Fatalf("%s: %+v, %v", what, report, err)
		}
		sameTables(t, what, tables(t, b), want)
		if again, err := b.Rebuild(daemon.RebuildOptions{}); err != nil || again.Replaced {
			t.Errorf("%s: a second rebuild: %+v, %v", what, again, err)
		}
		if _, err := os.Stat(filepath.Join(b.State, "rebuild")); err == nil {
			t.Errorf("%s: something is left in rebuild/", what)
		}
	}
}

// A rebuild says which contents the disk lacks. Those that no row names are counted,
// kept, and found again by whoever sends them.
func TestARebuildCountsContents(t *testing.T) { // R01
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	blob := func(content string) string {
		return filepath.Join(b.State, "blobs", sumOf(content)[:2], sumOf(content))
	}
	for _, content := range []string{"whole", "to be cut", "to be removed"} {
		put(t, ada, strings.ReplaceAll(content, " ", "-")+".jpg", content)
	}
	b.Stop() // nothing is in intent/, which would mend it
	forget(t, b)
	if err := os.Chmod(blob("to be cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, blob("to be cut"), []byte("to be"))
	if err := os.Remove(blob("to be removed")); err != nil {
		t.Fatal(err)
	}
	write(t, blob("of the last seconds"), []byte("of the last seconds"))
	report, err := b.Rebuild(daemon.RebuildOptions{})
	if err != nil || report.Missing != 2 || len(report.MissingNames) != 2 || report.Found != 1 || report.FoundBytes != 19 || report.Files != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	b.Restart()
	longAgo := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(blob("of the last seconds"), longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	b.Local("POST", "/local/sweep", nil, nil)
	if _, err := os.Stat(blob("of the last seconds")); err != nil {
		t.Errorf("a content that a rebuild found was swept: %v", err)
	}
	put(t, ada, "again.jpg", "of the last seconds")
	if r := ask(ada, "GET", "/v1/files/again.jpg", ""); string(r.body) != "of the last seconds" {
		t.Error(r)
	}
	// And it remembers that after another loss.
	b.Kill()
	want := tables(t, b)
	forget(t, b)
	if report, err := b.Rebuild(daemon.RebuildOptions{}); err != nil || report.Files != 4 {
		t.Fatalf("%+v, %v", report, err)
	}
	sameTables(t, "the second time", tables(t, b), want)
}

// The journal of a second copy brings back what the box's own cannot, and replaces
// records that are in good order only if somebody says so.
func TestARebuildFromASecondCopy(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	put(t, ada, "copied.jpg", "copied")
	b.Stop()
	want := tables(t, b)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(b.State, "journal"))); err != nil {
		t.Fatal(err)
	}
	b.Restart()
	put(t, ada, "later.jpg", "later")
	b.Stop()
	later := tables(t, b)
	if _, err := b.Rebuild(daemon.RebuildOptions{From: copied}); problem.KindOf(err) != problem.Conflict {
		t.Errorf("good records were replaced by older ones: %v", err)
	}
	sameTables(t, "refused", tables(t, b), later)
	for name, prepare := range map[string]func() daemon.RebuildOptions{
		"on purpose": func() daemon.RebuildOptions { return daemon.RebuildOptions{From: copied, Replace: true} },
		"all is lost": func() daemon.RebuildOptions {
			forget(t, b)
			forgetJournal(t, b)
			return daemon.RebuildOptions{From: copied}
		},
	} {
		report, err := b.Rebuild(prepare())
		if err != nil || !report.Replaced || report.Found != 1 || report.Files != 1 {
			t.Fatalf("%s: %+v, %v", name, report, err)
		}
		sameTables(t, name, tables(t, b), want)
		b.Restart()
		if r := ask(ada, "GET", "/v1/files/copied.jpg", ""); string(r.body) != "copied" {
			t.Errorf("%s: %v", name, r)
		}
		ask(ada, "GET", "/v1/files/later.jpg", "").is(t, name, 404, "not-found")
		b.Stop()
	}
}

// Where the journal itself has lost something, nothing is changed until somebody
// says that the loss is known: what was withdrawn in it would come back.
func TestALossHasToBeAccepted(t *testing.T) { // R04
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	put(t, ada, "a.jpg", "photo")
	b.Stop()
	logs := func() []string {
		list, err := filepath.Glob(filepath.Join(b.State, "journal", "log-*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := logs()
	b.Restart()
	ada.Withdraw("album_backup")
	b.Stop()
	withdrawal := slices.DeleteFunc(logs(), func(name string) bool { return slices.Contains(before, name) })
	b.Restart()
	ada.Grant("album_backup")
	b.Stop()
	if len(withdrawal) < 2 {
		t.Fatal(before, withdrawal)
	}
	for _, name := range withdrawal { // all files of the second start
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	forget(t, b)
	_, err := b.Rebuild(daemon.RebuildOptions{})
	if problem.KindOf(err) != problem.Damaged || !strings.Contains(problem.Sentence(err), "--accept-loss") {
		t.Fatalf("a gap is passed over: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.State, "box.db")); err == nil {
		t.Error("records were made all the same")
	}
	report, err := b.Rebuild(daemon.RebuildOptions{AcceptLoss: true})
	if err != nil || report.Lost == "" || report.Files != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if _, err := os.Stat(filepath.Join(report.Kept, "journal")); err != nil {
		t.Errorf("the rest of the journal was not kept: %v", err)
	}
	b.Restart()
	ask(ada, "GET", "/v1/files/a.jpg", "").is(t, "a.jpg", 200, "")
}

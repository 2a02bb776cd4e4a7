package daemon_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/rights"
)

// hidden are columns of described tables that no person is shown, and why.
//
// DO NOT ADD A LINE TO FIX A TEST: a person is shown what is kept about them.
const hidden = `
*.user                     the person themself
*.password *.hash          a secret, or what proves one
session.id token.id camera_password.id inbox.id nextcloud_folder.upload nextcloud_chunk.upload nextcloud_early.upload nextcloud_early.staged upload.id dav_lock.token  names for the program; the last two open something
audit.prev consent_ledger.prev disclosure.prev  the hash of another entry
item.name item.folder item.origin item.seq item.user folder.id folder.parent folder.name folder.seq  in the path, or an order
version.trashed            that of its file
dav_property.id            a number
upload.want upload.want_sha1 upload.if_absent upload.if_ref upload.automatic upload.stored  conditions of the program
inbox.marker inbox.made inbox.volume inbox.device inbox.inode inbox_taken.inbox inbox_taken.device inbox_taken.inode inbox_taken.ctime  how the folder and its files are known again
nextcloud_chunk.end nextcloud_chunk.crc nextcloud_early.crc  how parts are put together
consent_receipt.seq        that of its decision
totp.secret totp.pending   secrets
link.subject link.shown    a keyed hash; the name there is sealed, GET /v1/me/links shows it
totp.step notice.id        a count
sign_in.entry              which entry of the audit record it belongs to
cancellation.code request.code  what proves a secret
`

// table is what the schema says of one.
type table struct {
	columns []string
	refers  []string // tables
	person  bool
}

func schema(t *testing.T, b *daemon.Box) map[string]*table {
	t.Helper()
	all := map[string]*table{}
	err := daemon.Database(b).Read(t.Context(), func(tx *db.Tx) error {
		rows, err := tx.Query(`SELECT s.name, c.name, coalesce((SELECT group_concat(f."table") FROM pragma_foreign_key_list(s.name) f WHERE f."from" = c.name), '')
			FROM sqlite_schema s JOIN pragma_table_info(s.name) c WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite_%'`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name, column, refers string
			if err := rows.Scan(&name, &column, &refers); err != nil {
				return err
			}
			if all[name] == nil {
				all[name] = &table{}
			}
			a := all[name]
			a.columns = append(a.columns, column)
			if refers != "" {
				a.refers = append(a.refers, strings.Split(refers, ",")...)
			}
			a.person = a.person || name == "user" || slices.Contains([]string{"user", "actor", "subject", "owner", "person", "guardian", "child"}, column)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	for changed := true; changed; { // what refers to a table of people is one
		changed = false
		for _, a := range all {
			if !a.person && slices.ContainsFunc(a.refers, func(to string) bool { return all[to].person }) {
				a.person, changed = true, true
			}
		}
	}
	return all
}

func openBox(t *testing.T) *daemon.Box {
	t.Helper()
	box, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{
		State: t.TempDir(), HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, ScrubDays: 30,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	return box
}

// R26: what the box knows about a person is what its packages say that they keep.
// Every table with a person's id is described by exactly one of them, and every column
// of it is shown or named above.
func TestEveryTableWithPeopleHasOneHolder(t *testing.T) {
	box := openBox(t)
	tables := schema(t, box)
	if people := len(slices.DeleteFunc(slices.Collect(maps.Values(tables)), func(a *table) bool { return !a.person })); people < 20 {
		t.Fatalf("only %d tables lead to a person: the schema is not read right", people)
	}
	keep := map[string]bool{}
	for _, word := range strings.Fields(hidden) {
		if strings.Contains(word, ".") {
			keep[word] = false
		}
	}
	if err := daemon.Register(box).Faults(); err != nil { // R27: each kind of data is erased, or says why it stays
		t.Error(err)
	}
	claimed := map[string]string{}
	shown := map[string]string{} // table → all its expressions
	claim := func(h rights.Holder, name string) {
		if by, ok := claimed[name]; ok && by != h.Package {
			t.Errorf("%s is claimed by %s and by %s", name, by, h.Package)
		}
		claimed[name] = h.Package
		switch a := tables[name]; {
		case a == nil:
			t.Errorf("%s claims %s, which does not exist", h.Package, name)
		case !a.person:
			t.Errorf("%s claims %s, which leads to no person", h.Package, name)
		}
	}
	for _, h := range daemon.Register(box).Holders() {
		for _, c := range h.Categories {
			for what, w := range map[string]rights.Words{"title": c.Title, "what": c.What, "from": c.From, "kept": c.Kept, "fix": c.Fix} {
				if w.EN == "" || !regexp.MustCompile(`\p{Han}`).MatchString(w.ZH) {
					t.Errorf("%s has no %s in both languages", c.ID, what)
				}
			}
			for _, tab := range c.Tables {
				claim(h, tab.Name)
				selected, _, _ := strings.Cut(tab.Queries()[0], " FROM ")
				shown[tab.Name] += selected
			}
			for _, name := range c.Claims {
				claim(h, name)
			}
		}
	}
	for name, a := range tables {
		if a.person && claimed[name] == "" {
			t.Errorf("nobody claims %s, which leads to a person: the package that fills it says so in its Held", name)
		}
		for _, column := range a.columns {
			if shown[name] == "" {
				continue // only claimed
			}
			full := name + "." + column
			switch is := regexp.MustCompile(`\bt\.` + column + `\b`).MatchString(shown[name]); {
			case inMap(keep, full):
				keep[full] = true
			case inMap(keep, "*."+column) && !is:
				keep["*."+column] = true
			case !is:
				t.Errorf("%s is shown to nobody", full)
			}
		}
	}
	for word, used := range keep {
		if !used {
			t.Errorf("there is no column %s to be hidden", word)
		}
	}
}

func inMap(m map[string]bool, k string) bool { _, ok := m[k]; return ok }

// Nobody's view of their own data reads everybody's.
func TestRecordsOfAPersonAreFoundByAnIndex(t *testing.T) { // R26
	box := openBox(t)
	for _, c := range daemon.Register(box).Categories() {
		for _, tab := range c.Tables {
			for i, query := range append(tab.Queries(), tab.Deletions()...) {
				if i > 1 && (!c.Erase.Rows || c.ID == "account") { // what refers to an account is looked for everywhere, once
					continue
				}
				args := []any{int64(1), 10}
				if i == 1 {
					for range tab.Key {
						args = append(args, "x")
					}
				}
				var plan []string
				if err := daemon.Database(box).Read(t.Context(), func(tx *db.Tx) error {
					rows, err := tx.Query("EXPLAIN QUERY PLAN "+query, args...)
					if err != nil {
						return err
					}
					defer rows.Close()
					for rows.Next() {
						var id, parent, unused int
						var detail string
						if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
							return err
						}
						plan = append(plan, detail)
					}
					return rows.Err()
				}); err != nil {
					t.Fatalf("%s: %v\n%s", tab.Name, err, query)
				}
				text := strings.Join(plan, "\n")
				// Uploads live for a week, and an index by person would cost each of them.
				if tab.Name != "upload" && strings.Contains(text, "SCAN ") || strings.Contains(text, "TEMP B-TREE") {
					t.Errorf("%s of %s:\n%s\n%s", tab.Name, c.ID, text, query)
				}
			}
		}
	}
}

// Every name in the state directory is on the list of places, and the list has no
// other; docs/format.md names the same.
func TestEveryPlaceIsNamed(t *testing.T) { // R26 R27
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	put(t, ada, "a.jpg", "a photo")
	fetchExport(t, ada, `{}`)
	named := map[string]bool{}
	for _, p := range rights.Places() {
		if p.What.EN == "" || p.What.ZH == "" || p.Ends.EN == "" || p.Ends.ZH == "" {
			t.Errorf("%s is not described", p.Name)
		}
		if !p.Outside {
			named[p.Name] = true
		}
	}
	b.Stop()
	entries, err := os.ReadDir(b.State)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(e.Name(), "-wal"), "-shm"), ".copy")
		if !named[name] {
			t.Errorf("the box made %s, which is no place that people are told of", e.Name())
		}
	}
	format, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(format), "\n    VOLUME ")
	list, _, _ = strings.Cut("    VOLUME "+list, "\n\n")
	inFormat := map[string]bool{"RESTORING": true, "RESTORED": true} // in a section of their own
	for line := range strings.Lines(list) {
		inFormat[strings.TrimSuffix(strings.Fields(line)[0], "/")] = true
	}
	if !maps.Equal(named, inFormat) {
		t.Errorf("places: %v\ndocs/format.md: %v", slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(inFormat)))
	}
}

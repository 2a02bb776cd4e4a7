package consent

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"yunbox.local/daemon/problem"
)

func TestSourcesLeadToPurposes(t *testing.T) { // R05, R06, R07, R09, R20
	want := map[string]Purpose{
		"album": AlbumBackup, "screenshot": AlbumBackup, "wechat": WeChatBackup, "qq": QQBackup, "tim": QQBackup,
		"camera": CameraTransfer, "download": Storage, "other": Storage, "": Storage,
	}
	for source, p := range want {
		if got, err := PurposeOf(source); err != nil || got != p {
			t.Errorf("%q leads to %q, %v", source, got, err)
		}
	}
	for _, source := range []string{"WeChat", " album", "wechat ", "face_recognition", "storage", "x"} {
		if got, err := PurposeOf(source); problem.KindOf(err) != problem.Invalid {
			t.Errorf("%q leads to %q", source, got)
		}
	}
	if n := len(builtin().sources); n != len(want) {
		t.Errorf("%d sources are mapped, %d are known here", n, len(want))
	}
}

func TestCatalogueIsComplete(t *testing.T) { // R20, R23
	if _, err := load(files, order()); err != nil {
		t.Fatal(err)
	}
	served := map[Purpose]bool{Storage: true, AlbumBackup: true, WeChatBackup: true, QQBackup: true, CameraTransfer: true, FileDedup: true,
		ProfileDetails: true, DeviceInfo: true, UsageLogs: true, ThirdPartyLogin: true, UpdateCheck: true, Statistics: true}
	for _, info := range Purposes() {
		if info.Available != served[info.ID] {
			t.Errorf("%s: available is %v", info.ID, info.Available)
		}
		if info.Core != (info.ID == Storage) {
			t.Errorf("%s: core is %v", info.ID, info.Core)
		}
		if len(info.Text) != len(Languages()) {
			t.Errorf("%s: %d languages", info.ID, len(info.Text))
		}
		for _, s := range append([]string{info.Text["zh"].Title, info.Text["zh"].What, info.Text["zh"].Retention, info.Text["zh"].Erased, info.Text["zh"].Processor, info.Text["zh"].Without}, info.Text["zh"].Data...) {
			chinese(t, string(info.ID), s)
		}
	}
	p := CurrentPolicy()
	if p.Revision != "1" || p.Modified.Format(time.DateOnly) != "2026-11-26" || len(p.Changes["zh"]) == 0 {
		t.Errorf("%s of %s", p.Revision, p.Modified)
	}
	for _, line := range strings.Split(p.Text["zh"], "\n") {
		if line != "" && !strings.HasPrefix(line, "|---") {
			chinese(t, "policy", line)
		}
	}
	if strings.Count(p.Text["en"], "\n## ") != strings.Count(p.Text["zh"], "\n## ") || strings.Count(p.Text["en"], "\n|") != strings.Count(p.Text["zh"], "\n|") {
		t.Error("the two languages of the policy do not have the same parts")
	}
}

// chinese asserts that s is Chinese and has Chinese punctuation.
func chinese(t *testing.T, where, s string) {
	t.Helper()
	has := strings.ContainsFunc(s, func(r rune) bool { return r >= 0x4e00 && r <= 0x9fff })
	if plain := strings.Trim(s, "# "); !has && plain != "Cookie" {
		t.Errorf("%s: %q is not Chinese", where, s)
	}
	if strings.ContainsAny(s, ",;?!") {
		t.Errorf("%s: %q has foreign punctuation", where, s)
	}
}

// What callers get is theirs to change.
func TestCatalogueCannotBeChangedFromOutside(t *testing.T) {
	list, policy := Purposes(), CurrentPolicy()
	list[0].Available, list[1].Sources[0] = false, "x"
	text := list[0].Text["en"]
	text.Data[0] = "x"
	list[0].Text["en"] = Text{}
	policy.Text["en"] = ""
	if now := Purposes(); !now[0].Available || now[1].Sources[0] == "x" || now[0].Text["en"].Title == "" || now[0].Text["en"].Data[0] == "x" || CurrentPolicy().Text["en"] == "" {
		t.Fatal("a caller changed what the box asks people")
	}
}

func TestCatalogueMistakesAreFound(t *testing.T) {
	acts, err := files.ReadFile("exceptions.toml")
	if err != nil {
		t.Fatal(err)
	}
	good := fstest.MapFS{"exceptions.toml": &fstest.MapFile{Data: acts}}
	for _, dir := range []string{"purposes", "policy"} {
		entries, err := files.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := files.ReadFile(dir + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			good[dir+"/"+e.Name()] = &fstest.MapFile{Data: b}
		}
	}
	edit := func(name, from, to string) func(fstest.MapFS) {
		return func(m fstest.MapFS) {
			b := m[name].Data
			if !bytes.Contains(b, []byte(from)) {
				t.Fatalf("%s has no %q", name, from)
			}
			m[name] = &fstest.MapFile{Data: bytes.Replace(b, []byte(from), []byte(to), 1)}
		}
	}
	for name, change := range map[string]func(fstest.MapFS){
		"unknown key":         edit("purposes/storage.toml", "version = 1", "version = 1\ndefault = true"),
		"unknown key in text": edit("purposes/storage.toml", "[en]", "[en]\nticked = true"),
		"third language":      edit("purposes/storage.toml", "[en]", "[fr]\ntitle = 'x'\n[en]"),
		"no version":          edit("purposes/storage.toml", "version = 1\n", ""),
		"version 0":           edit("purposes/storage.toml", "version = 1", "version = 0"),
		"unsaid availability": edit("purposes/storage.toml", "available = true\n", ""),
		"unsaid sensitivity":  edit("purposes/storage.toml", "sensitive = false\n", ""),
		"other id":            edit("purposes/storage.toml", `id = "storage"`, `id = "album_backup"`),
		"source of two":       edit("purposes/storage.toml", `"other"`, `"wechat"`),
		"empty text":          edit("purposes/storage.toml", `title = "Keeping your files"`, `title = " "`),
		"missing text":        edit("purposes/storage.toml", "title = \"Keeping your files\"\n", ""),
		"unequal categories":  edit("purposes/storage.toml", `data = ["your files", `, `data = [`),
		"no categories":       edit("purposes/update_check.toml", `data = ["application number", "type of system", "version of the software"]`, "data = []"),
		"file missing":        func(m fstest.MapFS) { delete(m, "purposes/qq_backup.toml") },
		"file too many":       func(m fstest.MapFS) { m["purposes/x.toml"] = m["purposes/storage.toml"] },
		"file under another name": func(m fstest.MapFS) {
			m["purposes/x.toml"] = m["purposes/storage.toml"]
			delete(m, "purposes/storage.toml")
		},
		"no policy text":    func(m fstest.MapFS) { delete(m, "policy/1.zh.md") },
		"empty policy text": func(m fstest.MapFS) { m["policy/1.zh.md"] = &fstest.MapFile{} },
		"no revisions":      func(m fstest.MapFS) { m["policy/revisions.toml"] = &fstest.MapFile{} },
		"revision twice": func(m fstest.MapFS) {
			b := m["policy/revisions.toml"].Data
			m["policy/revisions.toml"] = &fstest.MapFile{Data: append(bytes.Clone(b), b...)}
		},
		"unknown policy key":             edit("policy/revisions.toml", `id = "1"`, "id = \"1\"\nsilent = true"),
		"changes untold":                 edit("policy/revisions.toml", "changes.zh", "changes.fr"),
		"no date":                        edit("policy/revisions.toml", "modified = 2026-11-26\n", ""),
		"untold clause":                  edit("purposes/storage.toml", `clauses = ["1.1", "1.2.1"]`, "clauses = []"),
		"unsaid erasing":                 edit("purposes/storage.toml", "erases = []\n", ""),
		"a clause of nothing":            edit("purposes/storage.toml", `"1.2.1"`, `"one"`),
		"erasing unsaid":                 edit("purposes/storage.toml", "erased = \"Nothing", "# \"Nothing"),
		"no change":                      edit("policy/revisions.toml", `changes.zh = ["这是第一版。"]`, "changes.zh = []"),
		"other changes":                  edit("policy/revisions.toml", `changes.zh = ["这是第一版。"]`, `changes.zh = ["这是第一版。", "x"]`),
		"no acts":                        func(m fstest.MapFS) { delete(m, "exceptions.toml") },
		"act without a clause":           edit("exceptions.toml", `clause = "1.3.8"`, `clause = ""`),
		"act twice":                      edit("exceptions.toml", `id = "guessing_guard"`, `id = "security_record"`),
		"act of no basis":                edit("exceptions.toml", `basis = "faults"`, `basis = "habit"`),
		"unknown key of act":             edit("exceptions.toml", "each = false", "each = false\nhidden = true"),
		"act that is entered is missing": edit("exceptions.toml", `id = "record_read"`, `id = "record_write"`),
		"not TOML":                       edit("purposes/storage.toml", "[en]", "[en"),
	} {
		m := fstest.MapFS{}
		for k, v := range good {
			m[k] = v
		}
		if _, err := load(m, order()); err != nil {
			t.Fatal(err)
		}
		change(m)
		if _, err := load(m, order()); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A maker's year: keys, a release, a key in wrong hands, another release.
func TestMaker(t *testing.T) { // R18
	t.Chdir(t.TempDir())
	ctl := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"release"}, args...), strings.NewReader(""), &out, &errs); code != want {
			t.Fatalf("release %v: %d, want %d\n%s%s", args, code, want, &out, &errs)
		}
		return out.String() + errs.String()
	}
	for _, name := range []string{"root1", "root2", "root3", "release", "later"} {
		ctl(0, "keys", "new", name)
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v %v", name, info, err)
		}
	}
	ctl(1, "keys", "new", "root1") // never over a key
	var roots []string
	for _, name := range []string{"root1.pub", "root2.pub", "root3.pub"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, strings.TrimSpace(string(b)))
	}
	with := "--roots=" + strings.Join(roots, ",")
	if err := os.Mkdir("dir", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"yunboxd": "d", "yunboxctl": "c", "release.json": `{"version": "0.2.0", "counter": 2, "arch": "arm64", "min_schema": 1, "max_schema": 3}`} {
		if err := os.WriteFile(filepath.Join("dir", name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out := ctl(0, "keys", "sign-list", "list", "--root", "root1", "--add", "release.pub"); !strings.Contains(out, "2 signatures of roots are needed") {
		t.Error(out)
	}
	ctl(0, "sign", "dir", "--list", "list", "--key", "release")
	if out := ctl(1, "verify", "yunbox_0.2.0_arm64.yup", with); !strings.Contains(out, "1 of the 2 root signatures") {
		t.Error(out)
	}
	ctl(0, "keys", "sign-list", "list", "--root", "root3")
	ctl(1, "sign", "dir", "--list", "list", "--key", "later") // is not in the list
	ctl(0, "sign", "dir", "--list", "list", "--key", "release", "--floor", "2")
	if out := ctl(0, "verify", "yunbox_0.2.0_arm64.yup", with); !strings.Contains(out, "whole, and signed by the maker") {
		t.Error(out)
	}
	if _, err := os.Stat("yunbox_0.2.0_arm64.yup.minisig"); err != nil {
		t.Error(err)
	}
	ctl(1, "verify", "yunbox_0.2.0_arm64.yup") // this program knows no roots
	// The key is in wrong hands.
	old, err := os.ReadFile("list")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`signs +([0-9a-f]{16})`).FindStringSubmatch(ctl(0, "keys", "list", "list"))[1]
	ctl(0, "keys", "sign-list", "list", "--root", "root2", "--revoke", id, "--add", "later.pub")
	ctl(0, "keys", "sign-list", "list", "--root", "root3")
	if out := ctl(1, "verify", "yunbox_0.2.0_arm64.yup", with, "--list", "list"); !strings.Contains(out, "some keys may be revoked") {
		t.Error(out)
	}
	ctl(1, "sign", "dir", "--list", "list", "--key", "release")
	ctl(0, "sign", "dir", "--list", "list", "--key", "later")
	ctl(0, "verify", "yunbox_0.2.0_arm64.yup", with, "--list", "list")
	if err := os.WriteFile("old", old, 0o600); err != nil {
		t.Fatal(err)
	}
	ctl(0, "verify", "yunbox_0.2.0_arm64.yup", with, "--list", "old")
}

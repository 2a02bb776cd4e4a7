package ftp

import (
	"strings"
	"testing"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/catalog"
)

// Whatever a camera is called and whatever name it gives, its files stay in the one
// folder below Camera that is its own.
func FuzzNamesOfACamera(f *testing.F) {
	for _, s := range [][2]string{{"Nikon", "/DCIM/100/a.jpg"}, {"..", "/../../x"}, {"a/b", "/"}, {"", "//x"}, {"\xff/..", "/\x00"}, {strings.Repeat("微", 100), "/a/./b"}, {" . ", "/.."}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, camera, name string) {
		folder := folderOf(account.Camera{Name: camera})
		d := &dropBox{s: &session{g: &Gateway{}}, root: folder}
		if own, ok := strings.CutPrefix(folder, "Camera/"); !ok || own == "" || own == "." || own == ".." || strings.Contains(own, "/") {
			t.Fatalf("%q: %q", camera, folder)
		}
		if !strings.HasPrefix(name, "/") {
			return // the library makes every name absolute
		}
		p, err := d.path(name)
		if err != nil || p == folder {
			return
		}
		if clean, err := catalog.CleanPath(folder); err == nil && !strings.HasPrefix(p, clean+"/") || strings.Contains("/"+p+"/", "/../") {
			t.Errorf("camera %q, name %q: %q", camera, name, p)
		}
	})
}

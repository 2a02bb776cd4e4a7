package inbox

import (
	"os"
	"testing"
	"time"
)

// What a file system makes up, or another computer's clock says, decides nothing.
func TestWhatAFileIsKnownBy(t *testing.T) {
	name := t.TempDir() + "/a"
	if err := os.WriteFile(name, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	v, err := volumeOf(dir)
	if err != nil || v.device == 0 || v.inode == 0 || v.name == "" || v.unreal {
		t.Fatalf("%+v, %v", v, err)
	}
	v.loose, v.remote = false, false
	id := idOf(info, v)
	if id.device != 0 || id.inode == 0 || id.size != 3 || id.mtime != info.ModTime().UnixNano() || id.ctime == 0 {
		t.Errorf("%+v", id)
	}
	v.loose = true
	if id := idOf(info, v); id.inode != 0 || id.ctime != 0 || id.size != 3 || id.mtime == 0 {
		t.Errorf("where numbers are made up: %+v", id)
	}
	v.device++
	if id := idOf(info, v); id.device == 0 {
		t.Error("a file on another device passes for one of this")
	}
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	for _, tt := range []struct {
		what         string
		mtime, ctime time.Duration
		v            volume
		want         bool
	}{
		{"settled", -3 * time.Second, -3 * time.Second, volume{}, true},
		{"just changed, with an old time", -time.Hour, -time.Second, volume{}, false},
		{"just written", -time.Second, -time.Second, volume{}, false},
		{"a time to come", time.Hour, -time.Minute, volume{}, false},
		{"a stick", -2 * time.Minute, 0, volume{loose: true}, true},
		{"a stick, a moment ago", -30 * time.Second, 0, volume{loose: true}, false},
		{"another computer", -time.Hour, -time.Hour, volume{loose: true, remote: true}, false},
	} {
		if got := old(fileID{mtime: at(tt.mtime), ctime: at(tt.ctime)}, tt.v, now, 2*time.Second); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
}

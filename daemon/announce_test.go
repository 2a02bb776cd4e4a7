package daemon

import (
	"path/filepath"
	"testing"

	"yunbox.local/daemon/db"
	"yunbox.local/discovery"
)

func TestTheNameThatTheBoxTookIsKept(t *testing.T) { // R02
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "box.db")})
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{db: d}
	defer d.Close()
	for _, want := range []discovery.Names{{}, {Instance: "云盒 (2)", Host: "yunbox-7f3a-2"}, {Instance: "云盒 (3)", Host: "yunbox-7f3a"}, {}} {
		if want != (discovery.Names{}) {
			b.called.Store(&want)
			if got := b.hostName(); got != want.Host+".local" {
				t.Errorf("host name %q", got)
			}
		}
		if err := b.keepNames(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, err := b.keptNames(t.Context()); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

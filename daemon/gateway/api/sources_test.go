package api_test

import (
	"strconv"
	"strings"
	"testing"
)

// A client that shows where files come from before it sends them is told what an
// upload without a source would be taken for, and what that needs.
func TestSourcesBeforeSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	paths := []string{"mmexport1598266474988.jpg", "DCIM/Camera/IMG_20260501_123000.jpg", "Tencent/QQ_Images/a.jpg", "notes.txt", ""}
	want := []struct{ Source, By, Purpose string }{
		{"wechat", "name", "wechat_backup"}, {"album", "folder", "album_backup"}, {"qq", "folder", "qq_backup"},
		{"other", "none", "storage"}, {"other", "none", "storage"},
	}
	quoted := make([]string, len(paths))
	for i, p := range paths {
		quoted[i] = strconv.Quote(p)
	}
	var got struct {
		Sources []struct{ Source, By, Purpose string }
	}
	w.ask(w.ada, "POST", "/v1/sources", `{"paths":[`+strings.Join(quoted, ",")+`]}`).into(t, &got)
	if len(got.Sources) != len(want) {
		t.Fatalf("%d answers, want %d", len(got.Sources), len(want))
	}
	for i := range want {
		if got.Sources[i] != want[i] {
			t.Errorf("%s: %+v, want %+v", paths[i], got.Sources[i], want[i])
		}
	}
	w.ask(w.ada, "POST", "/v1/sources", `{"paths":[`+strings.Repeat(`"a",`, 1000)+`"a"]}`).is(t, "too many", 400, "invalid")
}

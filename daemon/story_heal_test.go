package daemon_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// One bit flips in each of a hundred files of a box that has a second copy. One
// pass finds them and heals them all from it, without any phone. R03
func TestFlippedBitsAreHealedFromTheSecondCopy(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	const n = 100
	content := func(i int) string { return fmt.Sprintf("picture %d ", i) + strings.Repeat("of the sea ", 10+i%200) }
	for i := range n {
		put(t, ada, fmt.Sprintf("%d.jpg", i), content(i))
	}
	c := addCopy(t, b, t.TempDir())
	c.must()
	for i := range n {
		if err := flip(b, content(i), i*7%(8*len(content(i)))); err != nil {
			t.Fatal(err)
		}
	}
	lines := b.LocalLines("POST", "/local/scrub", map[string]any{"whole": true, "wait": true})
	var done struct {
		Event                  string
		Total, Damaged, Healed int64
	}
	if err := json.Unmarshal(lines[len(lines)-1], &done); err != nil || done.Event != "done" || done.Total != n || done.Damaged != n || done.Healed != n {
		t.Fatalf("%s", lines[len(lines)-1])
	}
	for i := range n {
		if r := ask(ada, "GET", fmt.Sprintf("/v1/files/%d.jpg", i), ""); string(r.body) != content(i) {
			t.Errorf("%d: %d", i, r.status)
		}
	}
}

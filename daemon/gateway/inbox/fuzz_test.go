package inbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The marker lies on a stick that anybody may have had in their hands.
func FuzzMarker(f *testing.F) {
	for _, s := range []string{"", "A yunbox takes files in from this folder.\nid ABC\n", "id \nid x", "id\x00", "\nid a b", strings.Repeat("id", 4000)} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, MarkerName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := readMarker(root)
		if err == nil && (id == "" || len(id) > maxMarker || strings.Contains(id, "\n") || !strings.Contains(string(text), id)) {
			t.Errorf("%q: %q", text, id)
		}
	})
}

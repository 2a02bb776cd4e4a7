package vfs

import (
	"os"
	"path/filepath"
)

// Within says whether path is top or lies below it, whatever either is called: the
// same folder may be mounted twice. A folder that cannot be looked at contains nothing.
func Within(path, top string) bool {
	want, err := os.Stat(top)
	if err != nil {
		return false
	}
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
			return true
		}
		up := filepath.Dir(path)
		if up == path {
			return false
		}
		path = up
	}
}

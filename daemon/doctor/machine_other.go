//go:build !linux

package doctor

import (
	"io/fs"
	"os"
)

// ownerOf knows the access rights only: what is owned by whom is not compared.
func ownerOf(path string) (uid uint32, mode fs.FileMode, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, 0, err
	}
	return 0, info.Mode().Perm(), nil
}

func deviceOf(string) (major, minor uint32, ok bool) { return 0, 0, false }

// Volume judges the room of the file system that a folder lies on, and which one it is.
func Volume(string) []Finding {
	return []Finding{unknown("disk-space", "The room on the disk cannot be asked for on this system.", "")}
}

// SystemClock judges the clock of this machine, see Clock.
func SystemClock() Finding { return Clock(now(), false, false) }

// Kernel says what the system can do for the box.
func Kernel() Finding { return unknown("kernel", "The box runs on Linux.", "") }

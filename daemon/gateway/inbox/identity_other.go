//go:build !linux

package inbox

import (
	"io/fs"
	"os"
	"syscall"
)

// idOf is what can be known of a file without asking the system further.
func idOf(info fs.FileInfo, _ volume) fileID {
	return fileID{size: info.Size(), mtime: info.ModTime().UnixNano()}
}

// volumeOf knows a folder by its marker only.
func volumeOf(dir *os.File) (volume, error) {
	if _, err := dir.Stat(); err != nil {
		return volume{}, err
	}
	return volume{loose: true, name: "unknown"}, nil
}

func beingWritten(*os.File) bool { return false }

const notFollowed = 0

var diskErrors = []error{syscall.EIO, syscall.ENXIO}

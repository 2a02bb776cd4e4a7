package db

import "golang.org/x/sys/unix"

// The calls that other architectures have only with a folder's descriptor.
var olderCalls = []uint32{unix.SYS_OPEN, unix.SYS_UNLINK, unix.SYS_MKDIR, unix.SYS_RENAME, unix.SYS_RENAMEAT}

func olderCall(n *notification) kind {
	switch uint32(n.nr) {
	case unix.SYS_OPEN:
		return kind{"open", 0, 1, false, false}
	case unix.SYS_UNLINK:
		return kind{"unlink", 0, -1, false, true}
	case unix.SYS_MKDIR:
		return kind{"mkdir", 0, -1, false, true}
	case unix.SYS_RENAME:
		return kind{"rename", 0, -1, false, true}
	case unix.SYS_RENAMEAT:
		return kind{"rename", 1, -1, false, true}
	}
	return kind{}
}

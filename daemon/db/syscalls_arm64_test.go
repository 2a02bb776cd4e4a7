package db

import "golang.org/x/sys/unix"

var olderCalls = []uint32{unix.SYS_RENAMEAT}

func olderCall(n *notification) kind {
	if uint32(n.nr) == unix.SYS_RENAMEAT {
		return kind{"rename", 1, -1, false, true}
	}
	return kind{}
}

package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOf returns whom a file belongs to, and its access rights.
func ownerOf(path string) (uid uint32, mode fs.FileMode, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fs.ErrInvalid
	}
	return st.Uid, info.Mode().Perm(), nil
}

func deviceOf(path string) (major, minor uint32, ok bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0, 0, false
	}
	dev := uint64(st.Dev) //nolint:unconvert // it is shorter on some architectures
	return unix.Major(dev), unix.Minor(dev), true
}

// Volume judges the room of the file system that a folder lies on, and which one it is.
func Volume(dir string) []Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return []Finding{unknown("disk-space", "The disk cannot be asked for its room.", "Run it with sudo; if the disk is away, attach and mount it.")}
	}
	block := int64(st.Bsize) //nolint:unconvert // it is shorter on some architectures
	list := []Finding{Space(int64(st.Bavail)*block, int64(st.Blocks)*block, int64(st.Ffree), int64(st.Files))}
	return append(list, FileSystem(int64(st.Type))) //nolint:unconvert // likewise
}

// SystemClock judges the clock of this machine, see Clock.
func SystemClock() Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return Clock(now(), state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err == nil)
}

// Kernel says what the system can do for the box.
func Kernel() Finding {
	const check = "kernel"
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return unknown(check, "The kernel does not say what it is.", "")
	}
	release := unix.ByteSliceToString(u.Release[:])
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1) // LANDLOCK_CREATE_RULESET_VERSION
	landlock := fmt.Sprintf("Landlock ABI %d", abi)
	if errno != 0 {
		landlock = "no Landlock"
	}
	var major int
	if _, err := fmt.Sscanf(release, "%d.", &major); err == nil && major < 5 {
		return Finding{check, Warn, fmt.Sprintf("Linux %s, %s: older than what the box is tested with.", release, landlock), "Update the system."}
	}
	return ok(check, "Linux %s, %s.", strings.TrimSpace(release), landlock)
}

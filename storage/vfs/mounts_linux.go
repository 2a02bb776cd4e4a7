package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// WatchMounts calls changed whenever something is mounted, unmounted or remounted on
// this computer, until ctx ends. The kernel wakes it (poll of /proc/self/mountinfo,
// see proc_pid_mountinfo(5)): nothing runs while nothing changes.
func WatchMounts(ctx context.Context, changed func()) error {
	// Not by os.Open: the poller of the runtime would take the news for itself.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mountinfo: %w", err)
	}
	defer unix.Close(table) //nolint:errcheck // read only
	ended, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ended.Close() //nolint:errcheck // nothing is written to it
	defer end.Close()   //nolint:errcheck // nor here
	stop := context.AfterFunc(ctx, func() { _ = end.Close() })
	defer stop()
	fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(ended.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if fds[0].Revents != 0 {
			changed()
		}
	}
}

// InPlace says whether the path that the directory was opened by still leads to it,
// by the mount it was opened on. It reads nothing from the disk but what the system
// knows by heart.
func (d *Dir) InPlace() bool {
	now, err := identity(unix.AT_FDCWD, d.Name(), 0)
	if err != nil {
		return false
	}
	then, err := identity(int(d.top.Fd()), "", unix.AT_EMPTY_PATH)
	return err == nil && now == then
}

type place struct {
	device uint64
	inode  uint64
	mount  uint64 // 0 before Linux 5.8
}

func identity(dir int, path string, flags int) (place, error) {
	var st unix.Statx_t
	for {
		err := unix.Statx(dir, path, flags, unix.STATX_INO|unix.STATX_MNT_ID, &st)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return place{}, err
		default:
			return place{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, st.Mnt_id}, nil
		}
	}
}

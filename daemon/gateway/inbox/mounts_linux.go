package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tellOfMounts calls changed when something was mounted or unmounted, until ctx ends.
// The kernel tells by an exceptional condition of the table of mounts (poll(2), proc(5)),
// so nobody has to ask whether a stick is there yet.
func tellOfMounts(ctx context.Context, changed func()) (err error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	end, wake, err := os.Pipe()
	if err != nil {
		return errors.Join(err, table.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = wake.Close() }) // which ends the poll
	defer func() { err = errors.Join(err, table.Close(), end.Close()) }()
	defer func() {
		if stop() {
			err = errors.Join(err, wake.Close())
		}
	}()
	asked := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}, {Fd: int32(end.Fd())}}
	for {
		_, err := unix.Poll(asked, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("poll the table of mounts: %w", err)
		case ctx.Err() != nil:
			return nil
		case asked[0].Revents&(unix.POLLPRI|unix.POLLERR) == 0:
			return errors.New("the table of mounts does not tell of changes")
		}
		changed()
	}
}

package blockdev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// FileSystems that can be made and mounted here.
func FileSystems() []string { return []string{"ext4", "xfs", "btrfs"} }

// Format makes an empty file system on a disk image or block device. It makes no
// holes in the image: what was allocated stays allocated.
func Format(fsType, target string) error {
	switch fsType {
	case "ext4":
		return command("mkfs.ext4", "-q", "-F", "-E", "nodiscard", target)
	case "xfs":
		return command("mkfs.xfs", "-q", "-f", "-K", target)
	case "btrfs":
		return command("mkfs.btrfs", "-q", "-f", "-K", target)
	}
	return fmt.Errorf("no file system %q here: %s", fsType, strings.Join(FileSystems(), ", "))
}

// Mount is a file system mounted from a file by a loop device of its own.
type Mount struct {
	Dir  string
	loop string
}

// ErrMount says that the kernel could not mount the file system: not the doing of
// a server that ran on it.
var ErrMount = errors.New("the file system cannot be mounted")

// MountFile puts a loop device on file and mounts it on dir, which is made.
// A new device each time: a reused one can show stale blocks. loopOptions are
// those of losetup.
func MountFile(fsType, file, dir string, loopOptions ...string) (*Mount, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	out, err := exec.Command("losetup", append(loopOptions, "--show", "-f", file)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("losetup: %w: %s", err, out)
	}
	m := &Mount{Dir: dir, loop: strings.TrimSpace(string(out))}
	options := "noatime"
	switch fsType {
	case "ext4":
		options += ",noinit_itable" // no thread that goes on formatting beside what is measured
	case "xfs":
		options += ",nouuid" // images of one recording share their UUID
	case "btrfs":
		// Forgets unmounted devices of the same UUID; it fails when there are none.
		_ = exec.Command("btrfs", "device", "scan", "--forget").Run()
	}
	if err := command("mount", "-t", fsType, "-o", options, m.loop, dir); err != nil {
		return nil, errors.Join(ErrMount, err, command("losetup", "-d", m.loop))
	}
	return m, nil
}

// Unmount takes the mount and its loop device away. It tries for a while, since
// the last file of a killed server may still be closing.
func (m *Mount) Unmount() error {
	var err error
	for range 1200 {
		if err = command("umount", m.Dir); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(err, command("losetup", "-d", m.loop))
}

// MountRAM mounts a file system in memory, of at most size bytes, on dir.
func MountRAM(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return command("mount", "-t", "tmpfs", "-o", fmt.Sprint("size=", size), "yunbox-ram", dir)
}

// UnmountRAM takes it away, with all that it holds.
func UnmountRAM(dir string) error { return command("umount", dir) }

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

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

// Format makes an empty file system on a disk image or block device.
func Format(fsType, target string) error {
	switch fsType {
	case "ext4":
		return command("mkfs.ext4", "-q", "-F", target)
	case "xfs":
		return command("mkfs.xfs", "-q", "-f", target)
	case "btrfs":
		return command("mkfs.btrfs", "-q", "-f", target)
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
// A new file and a new device each time: a reused one can show stale blocks.
func MountFile(fsType, file, dir string) (*Mount, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	out, err := exec.Command("losetup", "--show", "-f", file).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("losetup: %w: %s", err, out)
	}
	m := &Mount{Dir: dir, loop: strings.TrimSpace(string(out))}
	options := "noatime"
	switch fsType {
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
	for range 100 {
		if err = command("umount", m.Dir); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(err, command("losetup", "-d", m.loop))
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

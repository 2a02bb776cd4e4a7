package dedup

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// volume is a file system that files of a tree lie on.
type volume struct {
	key     uint64 // names it, also after a restart
	loose   bool   // inode numbers are made up, so nothing about files is remembered
	reflink bool   // files may share storage
	unreal  bool   // the kernel's own tables
	spins   bool   // a hard disk: one reads at a time, in order
}

// volumes knows those of one tree, by the device numbers of this boot.
type volumes struct {
	mu       sync.Mutex
	byDevice map[uint64]volume
	keys     map[uint64]bool
	last     uint64 // the device asked for last, and what is known of it
	have     volume
}

func newVolumes() *volumes {
	return &volumes{byDevice: map[uint64]volume{}, keys: map[uint64]bool{}}
}

// of describes the volume of a device; fd is open on it.
func (v *volumes) of(device uint64, fd int) volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.have.key != 0 && v.last == device {
		return v.have
	}
	vol, known := v.byDevice[device]
	if !known {
		vol = describe(device, fd)
		for v.keys[vol.key] || vol.key == 0 { // a copy of a file system that is mounted as well
			vol.key = vol.key*31 + device + 1
		}
		v.byDevice[device], v.keys[vol.key] = vol, true
	}
	v.last, v.have = device, vol
	return vol
}

// cifsMagic is CIFS_SUPER_MAGIC (linux/magic.h), which x/sys does not have.
const cifsMagic = 0xff534d42

func describe(device uint64, fd int) volume {
	var st unix.Statfs_t
	if again(func() error { return unix.Fstatfs(fd, &st) }) != nil {
		return volume{key: device, loose: true}
	}
	vol := volume{spins: spins(device)}
	switch uint32(st.Type) {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC,
		unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, cifsMagic, unix.V9FS_MAGIC:
		vol.loose = true
	case unix.BTRFS_SUPER_MAGIC, unix.XFS_SUPER_MAGIC:
		vol.reflink = true
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		vol.unreal = true
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%x:%x:%x", uint32(st.Type), st.Fsid.Val[0], st.Fsid.Val[1])
	vol.key = h.Sum64()
	if st.Fsid.Val[0] == 0 && st.Fsid.Val[1] == 0 {
		vol.key ^= device
	}
	return vol
}

// spins says whether the device is a hard disk, as far as the kernel knows. A
// virtual disk says so too, and is none.
func spins(device uint64) bool {
	at := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(device), unix.Minor(device))
	name, err := os.Readlink(at)
	if err != nil || strings.Contains(name, "/virtio") {
		return false
	}
	for _, queue := range []string{"/queue/rotational", "/../queue/rotational"} {
		if b, err := os.ReadFile(at + queue); err == nil {
			return strings.TrimSpace(string(b)) == "1"
		}
	}
	return false
}

// FIEMAP (linux/fiemap.h).
const (
	fiemapIoctl   = 0xC020660B
	fiemapExtents = 128
	extentLast    = 0x1
	extentUnknown = 0x2 | 0x4 | 0x200 // unknown, delayed, inline
	extentShared  = 0x2000
)

type fiemapExtent struct {
	Logical, Physical, Length uint64
	_                         [2]uint64
	Flags                     uint32
	_                         [3]uint32
}

type fiemap struct {
	Start, Length               uint64
	Flags, Mapped, Count, spare uint32
	Extents                     [fiemapExtents]fiemapExtent
}

// storageOf returns a number that two files have in common if they use the very
// same storage, all of it; 0 if this file shares none, or nobody can say.
func storageOf(fd int) uint64 {
	h := fnv.New64a()
	var start uint64
	var b [24]byte
	for range 1 << 12 {
		m := fiemap{Start: start, Length: ^uint64(0) - start, Count: fiemapExtents}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fiemapIoctl, uintptr(unsafe.Pointer(&m)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || m.Mapped == 0 || m.Mapped > fiemapExtents {
			return 0
		}
		for _, e := range m.Extents[:m.Mapped] {
			if e.Flags&extentShared == 0 || e.Flags&extentUnknown != 0 || e.Length == 0 {
				return 0
			}
			binary.LittleEndian.PutUint64(b[:], e.Logical)
			binary.LittleEndian.PutUint64(b[8:], e.Physical)
			binary.LittleEndian.PutUint64(b[16:], e.Length)
			h.Write(b[:])
			if e.Flags&extentLast != 0 {
				return max(h.Sum64(), 1)
			}
			start = e.Logical + e.Length
		}
	}
	return 0
}

func (v *volumes) find(key uint64) volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, vol := range v.byDevice {
		if vol.key == key {
			return vol
		}
	}
	return volume{}
}

func (v *volumes) loose(key uint64) bool    { return v.find(key).loose }
func (v *volumes) reflinks(key uint64) bool { return v.find(key).reflink }

// allReflink says whether files may share storage on all that was met.
func (v *volumes) allReflink() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, vol := range v.byDevice {
		if !vol.reflink {
			return false
		}
	}
	return len(v.byDevice) > 0
}

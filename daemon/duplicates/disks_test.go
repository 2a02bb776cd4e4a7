package duplicates

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mounts = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 8:1 / /media/lin/MY\040STICK rw,nosuid shared:1 - vfat /dev/sda1 rw
31 22 8:17 / /mnt/old rw - ext4 /dev/sdb1 rw
32 22 8:17 /photos /mnt/bind rw - ext4 /dev/sdb1 rw
33 22 0:44 /@home /run/media/lin/btrfs rw - btrfs /dev/sdc rw
34 22 0:45 / /mnt/share rw - nfs4 nas:/export rw
35 22 0:46 / /mnt/ram rw - tmpfs tmpfs rw
36 22 8:33 / /media rw - ext4 /dev/sdd rw
37 22 8:49 / /mediaeval rw - ext4 /dev/sde rw
38 22 8:65 / /mnt/../etc rw - ext4 /dev/sdf rw
39 22 8:1 / /mnt/old rw - vfat /dev/sda1 rw
`

// Disks that people plug in, and nothing else of the system's table.
func TestAttachedDisks(t *testing.T) {
	want := []string{"/media", "/media/lin/MY STICK", "/mnt/old", "/mnt/share", "/run/media/lin/btrfs"}
	if got := parseMounts(mounts); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func FuzzMounts(f *testing.F) {
	for line := range strings.Lines(mounts) {
		f.Add(line)
	}
	f.Add(mounts)
	f.Add(`1 1 8:1 / /mnt/\056\056/etc rw - ext4 /dev/sda rw`)
	f.Add(`1 1 8:1 / /mnt/\777\04 rw - ext4 /dev/sda rw`)
	f.Fuzz(func(t *testing.T, table string) {
		for _, at := range parseMounts(table) {
			if filepath.Clean(at) != at || !slices.ContainsFunc(strings.Fields(diskFolders), func(root string) bool { return at == root || strings.HasPrefix(at, root+"/") }) {
				t.Errorf("%q names %q", table, at)
			}
		}
	})
}

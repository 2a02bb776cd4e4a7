package reset_test

import (
	"testing"

	"yunbox.local/daemon/reset"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// A mark asks for a reset whatever became of what stands in it.
func FuzzMark(f *testing.F) {
	f.Add([]byte("yunbox reset 1\nserial " + serial + "\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := vfstest.NewDisk()
		if err := vfs.WriteFile(disk, reset.Mark, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, asked, err := reset.Asked(disk); !asked || err != nil {
			t.Errorf("%q: %v %v", data, asked, err)
		}
	})
}

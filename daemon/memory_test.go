package daemon

import (
	"testing"
	"testing/fstest"

	"yunbox.local/daemon/config"
)

func TestOneBudgetIsDivided(t *testing.T) {
	for mib := int64(config.LeastMemoryMiB); mib <= 512; mib += 8 {
		m := share(mib << 20)
		if m.heap+2*m.pages > mib<<20 { // the writer and four readers
			t.Errorf("%d MiB: %+v is more than there is", mib, m)
		}
		if m.uploads > m.heap || int64(m.passwords)*(19<<20) > m.heap || m.passwords < 1 {
			t.Errorf("%d MiB: the heap has no room for %+v", mib, m)
		}
	}
}

func TestLimitOfTheControlGroup(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"none":      {fstest.MapFS{}, 0},
		"version 2": {fstest.MapFS{"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.max": file("67108864\n")}, 64 << 20},
		"the least": {fstest.MapFS{"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("1000\n"), "sys/fs/cgroup/a/memory.max": file("67108864\n")}, 1000},
		"version 1": {fstest.MapFS{"proc/self/cgroup": file("5:devices:/\n4:memory:/x\n0::/\n"), "sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("33554432\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 32 << 20},
		"a container's": {fstest.MapFS{"proc/self/cgroup": file("4:memory:/docker/abc\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("33554432\n")}, 32 << 20},
		"no limit":      {fstest.MapFS{"proc/self/cgroup": file("4:memory:/\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
	} {
		if got, ok := groupLimit(c.root); got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
}

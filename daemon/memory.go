package daemon

import (
	"io/fs"
	"log/slog"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"yunbox.local/daemon/config"
)

// A memory says what each part of the box may take of the one budget that is set. At
// 64 MiB: 36 for what Go has, of which 16 are for bytes that come in and 19 for a
// password that is checked; 8 for SQLite's pages, which Go does not count; and the
// rest for the pages of the program itself and what the allocators waste.
type memory struct {
	heap      int64 // the limit of Go's heap, soft: near it the collector works harder
	uploads   int64 // buffers of all uploads together
	pages     int64 // cache of the database's one writer; a reader has a quarter
	passwords int   // that are checked at the same time
}

// share divides a budget of bytes.
func share(budget int64) memory {
	heap := budget / 16 * 9
	return memory{heap: heap, uploads: budget / 4, pages: budget / 16, passwords: int(min(max(heap/(20<<20), 1), 2))}
}

// LimitMemory holds the process to conf.MemoryMiB, or to three quarters of what its
// control group may take if that is less (the pages of files count there, and a group
// without room for them is killed while it writes), and returns the settings with the number that counts. A limit
// of the heap that the environment sets (GOMEMLIMIT) stays.
func LimitMemory(conf config.Config, log *slog.Logger) config.Config {
	if limit, ok := groupLimit(os.DirFS("/")); ok && limit/4*3>>20 < int64(conf.MemoryMiB) {
		conf.MemoryMiB = int(max(limit/4*3>>20, config.LeastMemoryMiB))
		log.Info("the control group allows less memory than is set", "group_mib", limit>>20, "mib", conf.MemoryMiB)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(share(int64(conf.MemoryMiB) << 20).heap)
	}
	return conf
}

// groupLimit returns how many bytes the control group of this process, and those above
// it, may take: cgroups(7), of version 2 and 1.
func groupLimit(root fs.FS) (limit int64, ok bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	least := func(n int64) {
		if !ok || n < limit {
			limit, ok = n, true
		}
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		base, file := "sys/fs/cgroup", "memory.max"
		switch {
		case f[1] == "memory":
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case f[0] != "0" || f[1] != "":
			continue
		}
		// In a container the path is often that of the host, and only the root is there.
		for dir := path.Clean("/" + f[2]); ; dir = path.Dir(dir) {
			text, err := fs.ReadFile(root, path.Join(base, dir, file))
			if n, wrong := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && wrong == nil && n < 1<<50 {
				least(n) // version 1 says "none" by a number that no machine has
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit, ok
}

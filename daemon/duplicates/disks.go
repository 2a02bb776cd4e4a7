package duplicates

import (
	"os"
	"path"
	"slices"
	"strings"
)

// diskFolders are where systems mount disks that people plug in, and where
// administrators mount those that they add (Filesystem Hierarchy Standard 3.0 §3.11, §3.12).
const diskFolders = "/media /run/media /mnt"

// attached are the disks that are mounted where people's disks are, by their mount
// points. It asks the kernel only: a disk that does not answer holds nothing up.
func attached() []string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil // another system: there is no such table
	}
	return parseMounts(string(table))
}

// parseMounts finds those disks in a table of proc_pid_mountinfo(5): whole file systems
// of a device or a server, and no folders that are mounted a second time.
func parseMounts(table string) (list []string) {
	for line := range strings.Lines(table) {
		where, what, found := strings.Cut(line, " - ")
		f, w := strings.Fields(where), strings.Fields(what)
		if !found || len(f) < 5 || len(w) < 2 {
			continue
		}
		kind, source := w[0], w[1]
		whole := f[3] == "/" || kind == "btrfs" // of that a part may be mounted
		if !whole || !strings.HasPrefix(source, "/") && !strings.Contains(source, ":") {
			continue
		}
		at := unescape(f[4])
		if path.Clean(at) != at || slices.Contains(list, at) {
			continue
		}
		for root := range strings.FieldsSeq(diskFolders) {
			if at == root || strings.HasPrefix(at, root+"/") {
				list = append(list, at)
				break
			}
		}
	}
	slices.Sort(list)
	return list
}

// unescape undoes what the kernel does to spaces, tabs, line ends and backslashes of a
// name: three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && s[i+1] < '4' && octal(s[i+2]) && octal(s[i+3]) {
			out = append(out, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

func octal(c byte) bool { return '0' <= c && c <= '7' }

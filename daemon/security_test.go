package daemon_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// asvs is every requirement of OWASP ASVS 5.0 at the levels 1 and 2 in the chapters
// V1 to V8 and V11 to V16: how many there are from the first in each section. Where
// a section has requirements of level 3 between them, its numbers stand one by one.
const asvs = `
1.1:2 1.2:9 1.3:11 1.4:3 1.5:2
2.1:3 2.2:3 2.3:4 2.4:1
3.2:2 3.3:4 3.4:6 3.5:5 3.7:2
4.1:3 4.2:1 4.3:2 4.4:4
5.1:1 5.2:3 5.3:2 5.4:3
6.1:3 6.2:11 6.3:3 6.4:4 6.5:5 6.6:3 6.8:3
7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2
8.1:2 8.2:3 8.3:1 8.4:1
11.1:2 11.2:3 11.3:3 11.4:3 11.5:1 11.6:1
12.1:3 12.2:2 12.3:4
13.1:1 13.2:5 13.3:2 13.4:5
14.1:2 14.2:4 14.3:3
15.1:3 15.2:3 15.3:7
16.1:1 16.2:5 16.3:4 16.4:3 16.5:3
`

// docs/security.md names tests. Each exists, each requirement has a row, and each row
// names a test or says plainly that there is none.
func TestSecurityTable(t *testing.T) {
	root := os.DirFS("..")
	text, err := fs.ReadFile(root, "docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for _, section := range strings.Fields(asvs) {
		id, count, _ := strings.Cut(section, ":")
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			want[fmt.Sprintf("%s.%d", id, i+1)] = 0
		}
	}
	plainly := regexp.MustCompile(`^(does not apply|open|written|by construction): \S`)
	tests, rows := 0, 0
	for line := range strings.Lines(string(text)) {
		tests += namedTests(t, root, line)
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || cells[0] == "" || !strings.ContainsAny(cells[0][:min(len(cells[0]), 3)], "0123456789") {
			continue
		}
		rows++
		for _, id := range requirements(t, cells[0]) {
			if n, known := want[id]; !known || n > 0 {
				t.Errorf("%s is no requirement of these levels, or has two rows", id)
			}
			want[id]++
		}
		shown := strings.TrimSpace(cells[2])
		if !strings.HasPrefix(shown, "`") && !plainly.MatchString(shown) {
			t.Errorf("%s: %q is neither a test nor a plain word", cells[0], shown)
		}
	}
	for id, n := range want {
		if n == 0 {
			t.Errorf("%s has no row", id)
		}
	}
	if rows < 50 || tests < 100 {
		t.Errorf("%d rows with %d tests", rows, tests)
	}
}

// requirements reads "1.2.6–1.2.8, 1.3.1".
func requirements(t *testing.T, cell string) (list []string) {
	t.Helper()
	for part := range strings.SplitSeq(cell, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(part), "–")
		if !ranged {
			to = from
		}
		section, first := from[:strings.LastIndex(from, ".")+1], from[strings.LastIndex(from, ".")+1:]
		last, ok := strings.CutPrefix(to, section)
		a, err1 := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if !ok || err1 != nil || err2 != nil || b < a {
			t.Fatalf("%q in %q", part, cell)
		}
		for n := a; n <= b; n++ {
			list = append(list, section+strconv.Itoa(n))
		}
	}
	return list
}

var (
	goTest  = regexp.MustCompile("`((?:[a-z]+/)*[a-z]+)\\.((?:Test|Fuzz)\\w+)`")
	webTest = regexp.MustCompile("`web/e2e \"([^\"]+)\"`")
)

// namedTests checks that the tests that a line names are in the package that it says.
func namedTests(t *testing.T, root fs.FS, line string) (count int) {
	t.Helper()
	for _, m := range goTest.FindAllStringSubmatch(line, -1) {
		count++
		files, err := fs.Glob(root, path.Join(m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !anyHas(t, root, files, "\nfunc "+m[2]+"(") {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
	for _, m := range webTest.FindAllStringSubmatch(line, -1) {
		count++
		if !anyHas(t, root, []string{"daemon/gateway/web/e2e/page.test.mjs", "daemon/gateway/web/e2e/backup.test.mjs", "daemon/gateway/web/e2e/protect.test.mjs", "daemon/gateway/web/e2e/outside.test.mjs"}, "\ntest('"+m[1]) {
			t.Errorf("the page has no test %q", m[1])
		}
	}
	if all := strings.Count(line, ".Test") + strings.Count(line, ".Fuzz") + strings.Count(line, "`web/e2e"); all != count {
		t.Errorf("a test is named in a way that is not understood: %s", line)
	}
	return count
}

func anyHas(t *testing.T, root fs.FS, files []string, what string) bool {
	t.Helper()
	for _, name := range files {
		src, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(src), what) {
			return true
		}
	}
	return false
}

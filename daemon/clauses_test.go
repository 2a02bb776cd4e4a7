package daemon_test

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateClauses = flag.Bool("update-clauses", false, "write docs/clauses.md")

// policyClauses is every numbered clause of the privacy policy that the box was asked to
// keep; those below 1.2.1, 1.3, 5.2, 5.4, 6.3 and 6.4 belong to the one above.
const policyClauses = `1.1 1.1.1 1.1.2 1.1.3 1.1.4 1.1.5 1.1.6 1.1.8 1.2.1 1.2.2 1.2.3 1.2.4 1.2.5 1.3 2.1 2.2 3 3.1 3.2
4.1.1 4.1.2 4.1.3 4.1.4 4.1.5 4.2 4.3 4.4 4.5 4.6 5.1.1 5.1.2 5.1.3 5.2 5.3 5.4 6.1.1 6.1.2 6.2.1 6.2.2 6.3 6.4 7 8 9 10 11`

type requirement struct {
	id, text string
	clauses  []string
	later    bool
}

var requirementID = regexp.MustCompile(`\bR(?:0[1-9]|[1-3][0-9])\b`)

func readRequirements(t *testing.T, root fs.FS) (list []requirement, idle []string) {
	t.Helper()
	text, err := fs.ReadFile(root, "docs/requirements.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case len(cells) == 4 && requirementID.MatchString(cells[0]):
			list = append(list, requirement{cells[0], cells[2], strings.Split(cells[1], ", "), cells[3] == "later"})
		case len(cells) == 2 && cells[0] != "" && cells[0][0] >= '0' && cells[0][0] <= '9':
			idle = append(idle, cells[0])
		}
	}
	return list, idle
}

var (
	goFunc  = regexp.MustCompile(`^func ((?:Test|Fuzz)\w+)\(`)
	webFunc = regexp.MustCompile(`^test\('([^']+)'`)
)

// testsOf finds the tests that carry each id: in their comment, beside their name or in
// their body. A comment belongs to the test that follows it.
func testsOf(t *testing.T, root fs.FS) map[string][]string {
	t.Helper()
	found := map[string]map[string]bool{}
	note := func(ids []string, name string) {
		for _, id := range ids {
			if found[id] == nil {
				found[id] = map[string]bool{}
			}
			found[id][name] = true
		}
	}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"node_modules", "third_party", "var", "dist"}, d.Name()) || strings.HasPrefix(d.Name(), ".") && name != "." {
				return fs.SkipDir
			}
			return nil
		}
		script, _, isScript := strings.Cut(d.Name(), ".txtar")
		isGo, isWeb := strings.HasSuffix(name, "_test.go"), strings.HasSuffix(name, ".test.mjs")
		if !isGo && !isWeb && !(isScript && strings.HasPrefix(name, "cmd/yunboxctl/testdata/")) {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if isScript {
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "#") {
					note(requirementID.FindAllString(line, -1), "cmd/yunboxctl.TestScripts/"+script)
				}
			}
			return nil
		}
		dir, current, waiting := name[:strings.LastIndex(name, "/")], "", []string(nil)
		for line := range strings.Lines(string(text)) {
			_, comment, _ := strings.Cut(line, "//")
			ids := requirementID.FindAllString(comment, -1)
			m, prefix := goFunc.FindStringSubmatch(line), dir+"."
			if isWeb {
				m, prefix = webFunc.FindStringSubmatch(line), "web/e2e "
			}
			switch {
			case m != nil:
				current = prefix + m[1]
				note(append(waiting, ids...), current)
				waiting = nil
			case line != "" && line[0] != ' ' && line[0] != '\t': // outside of a test
				if current, waiting = "", append(waiting, ids...); !strings.HasPrefix(line, "//") {
					waiting = nil
				}
			case current != "":
				note(ids, current)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for id, names := range found {
		out[id] = slices.Sorted(maps.Keys(names))
	}
	return out
}

// clauseOrder sorts 1.1.8 before 1.2 and 9 before 10.
func clauseOrder(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		if c := cmp.Or(cmp.Compare(len(x[i]), len(y[i])), strings.Compare(x[i], y[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

// Every clause of the policy leads to something that the box does, or is said to ask
// nothing of it; everything that it does has tests; and docs/clauses.md names tests that
// exist, for each. It is made by `go test ./daemon -run TestClauses -update-clauses`.
func TestClauses(t *testing.T) {
	root := os.DirFS("..")
	list, idle := readRequirements(t, root)
	if len(list) != 39 {
		t.Fatalf("docs/requirements.md has %d rows", len(list))
	}
	tests := testsOf(t, root)
	by := map[string][]requirement{}
	for _, c := range idle {
		by[c] = nil
	}
	for _, r := range list {
		for _, c := range r.clauses {
			by[c] = append(by[c], r)
		}
		if len(tests[r.id]) == 0 && !r.later {
			t.Errorf("%s has no test: the box %s", r.id, r.text)
		}
		delete(tests, r.id)
	}
	for id := range tests {
		t.Errorf("%s is in tests, and no row of docs/requirements.md", id)
	}
	known := strings.Fields(policyClauses)
	for _, c := range known {
		if _, ok := by[c]; !ok {
			t.Errorf("clause %s leads nowhere", c)
		}
	}
	for c := range by {
		if !slices.Contains(known, c) {
			t.Errorf("there is no clause %s", c)
		}
	}
	if *updateClauses {
		if err := os.WriteFile("../docs/clauses.md", []byte(clausePage(by, testsOf(t, root))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	checkClausePage(t, root, by)
}

func clausePage(by map[string][]requirement, tests map[string][]string) string {
	var b strings.Builder
	b.WriteString("# The policy's clauses and the tests that hold them\n\nMade by `go test ./daemon -run TestClauses -update-clauses` from [requirements.md](requirements.md) and the ids in tests. Do not edit.\n\n## Clauses\n\n| clause | requirements |\n|---|---|\n")
	for _, c := range slices.SortedFunc(maps.Keys(by), clauseOrder) {
		var ids []string
		for _, r := range by[c] {
			ids = append(ids, r.id)
		}
		if len(ids) == 0 {
			ids = []string{"asks nothing of the software"}
		}
		fmt.Fprintf(&b, "| %s | %s |\n", c, strings.Join(ids, ", "))
	}
	b.WriteString("\n## Requirements\n")
	all := map[string]requirement{}
	for _, list := range by {
		for _, r := range list {
			all[r.id] = r
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "\n**%s** The box %s.\n", id, all[id].text)
		if all[id].later {
			b.WriteString("Not built, or in part.\n")
		}
		for _, name := range tests[id] {
			fmt.Fprintf(&b, "- `%s`\n", name)
		}
	}
	return b.String()
}

// checkClausePage wants each clause and requirement on the page, and each test that it
// names to carry the id.
func checkClausePage(t *testing.T, root fs.FS, by map[string][]requirement) {
	t.Helper()
	text, err := fs.ReadFile(root, "docs/clauses.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, id, named := testsOf(t, root), "", map[string]int{}
	for line := range strings.Lines(string(text)) {
		if m := regexp.MustCompile(`^\*\*(R\d\d)\*\*`).FindStringSubmatch(line); m != nil {
			id = m[1]
			named[id] = 0
		}
		if m := regexp.MustCompile("^- `(.+)`").FindStringSubmatch(line); m != nil {
			if named[id]++; !slices.Contains(tests[id], m[1]) {
				t.Errorf("docs/clauses.md says that %s is held by %s, which does not name it: run TestClauses with -update-clauses", id, m[1])
			}
		}
	}
	for clause, list := range by {
		if !strings.Contains(string(text), "| "+clause+" |") {
			t.Errorf("docs/clauses.md lacks clause %s", clause)
		}
		for _, r := range list {
			if n, ok := named[r.id]; !ok || n == 0 && !r.later {
				t.Errorf("docs/clauses.md names no test of %s", r.id)
			}
		}
	}
}

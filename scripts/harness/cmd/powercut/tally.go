package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"yunbox.local/scripts/harness/internal/blockdev"
)

// A tally counts, for each file system, model and row (such as "files by FTP"), the
// cuts that had something acknowledged to compare, and what was compared.
type tally struct {
	counts map[cell]count
	rows   map[string]bool
}

type cell struct {
	fsType string
	model  blockdev.Model
	row    string
}

type count struct{ cuts, checks int }

// everyCut is the row of all cuts, whatever was compared.
const everyCut = "cuts"

func (t *tally) count(fsType string, model blockdev.Model, compared map[string]int) {
	t.put(cell{fsType, model, everyCut}, count{1, 0})
	for row, n := range compared {
		t.put(cell{fsType, model, row}, count{1, n})
	}
}

func (t *tally) put(c cell, n count) {
	if t.counts == nil {
		t.counts, t.rows = map[cell]count{}, map[string]bool{}
	}
	t.rows[c.row] = true
	old := t.counts[c]
	t.counts[c] = count{old.cuts + n.cuts, old.checks + n.checks}
}

func (t *tally) add(other tally) {
	for c, n := range other.counts {
		t.put(c, n)
	}
}

// least is the number of cuts of the row, file system and model that has the fewest.
func (t *tally) least(fileSystems []string, models []blockdev.Model) int {
	least := -1
	for row := range t.rows {
		for _, fsType := range fileSystems {
			for _, model := range models {
				if n := t.counts[cell{fsType, model, row}].cuts; least < 0 || n < least {
					least = n
				}
			}
		}
	}
	return max(least, 0)
}

// print writes a table: for each row and file system how many cuts of each model
// had something to compare, and how much was compared in all.
func (t *tally) print(out io.Writer, fileSystems []string, models []blockdev.Model) {
	fmt.Fprintf(out, "| acknowledged | %s |\n|---|%s\n", strings.Join(fileSystems, " | "), strings.Repeat("---|", len(fileSystems)))
	for _, row := range slices.Sorted(maps.Keys(t.rows)) {
		fmt.Fprintf(out, "| %s |", row)
		for _, fsType := range fileSystems {
			checks := 0
			var cuts []string
			for _, model := range models {
				n := t.counts[cell{fsType, model, row}]
				cuts, checks = append(cuts, fmt.Sprint(n.cuts)), checks+n.checks
			}
			fmt.Fprint(out, " ", strings.Join(cuts, "+"))
			if row != everyCut {
				fmt.Fprintf(out, ": %d", checks)
			}
			fmt.Fprint(out, " |")
		}
		fmt.Fprintln(out)
	}
}

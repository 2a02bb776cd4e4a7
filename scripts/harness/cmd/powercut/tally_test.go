package main

import (
	"strings"
	"testing"

	"yunbox.local/scripts/harness/internal/blockdev"
)

func TestTally(t *testing.T) {
	models := []blockdev.Model{blockdev.Drop, blockdev.Keep}
	var sum tally
	for range 2 {
		var one tally
		one.count("ext4", blockdev.Drop, map[string]int{"files by API": 3, "session": 1})
		one.count("ext4", blockdev.Keep, map[string]int{"files by API": 4})
		one.count("ext4", blockdev.Keep, map[string]int{"files by API": 5, "session": 2})
		sum.add(one)
	}
	var out strings.Builder
	sum.print(&out, []string{"ext4"}, models)
	const want = `| acknowledged | ext4 |
|---|---|
| cuts | 2+4 |
| files by API | 2+4: 24 |
| session | 2+2: 6 |
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if n := sum.least([]string{"ext4"}, models); n != 2 {
		t.Errorf("least is %d", n)
	}
	if n := sum.least([]string{"ext4", "xfs"}, models); n != 0 {
		t.Errorf("least with a file system that was not cut is %d", n)
	}
}

package ingest_test

import (
	"strings"
	"testing"

	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

// A disk that others filled beyond what is for the box is told as having nothing
// left, not less than that.
func TestNothingLeftIsNotLessThanNothing(t *testing.T) {
	disk := vfstest.NewDisk()
	b := start(t, settings{disk: disk})
	if _, err := b.put(ann, "a", make([]byte, 500_000)); err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(400_000)
	_, err := b.put(ann, "b", []byte("one more"))
	want(t, err, problem.Full)
	p := problem.As(err)
	if p.Members["left"] != int64(0) || strings.Contains(p.Detail, "-") {
		t.Errorf("%v left: %s", p.Members["left"], p.Detail)
	}
	list, _, err := b.cat.Ledger(t.Context(), ann, phone, "declined", "", 0)
	must(t, err)
	if len(list) != 1 || list[0].Path != "b" || list[0].Kind != problem.Full {
		t.Errorf("the refusal before the body is not in the ledger: %+v", list)
	}
}

package daemon

import (
	"testing"
	"time"
)

// The mark that says which records belong to a volume comes back as it was, or not at all.
func FuzzRecordsMark(f *testing.F) {
	f.Add(recordsMark{opened: 3, time: time.Unix(1_700_000_000, 0)}.marshal())
	f.Add([]byte("yunbox records 1\nopened  -1\ntime    2026-01-01T00:00:00Z\n"))
	f.Add([]byte("yunbox records 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseRecordsMark(data)
		if err != nil {
			return
		}
		again, err := parseRecordsMark(m.marshal())
		if err != nil || again.opened != m.opened || !again.time.Equal(m.time.Truncate(time.Second)) || m.opened < 0 {
			t.Errorf("%q: %+v, then %+v, %v", data, m, again, err)
		}
	})
}

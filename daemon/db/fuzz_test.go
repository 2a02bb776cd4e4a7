package db

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever became of a record of the log, reading it ends, and gives no more than
// is in it.
func FuzzJournalBody(f *testing.F) {
	o := &ops{known: statements{}}
	if err := o.add("INSERT INTO t VALUES (?, ?, ?, ?)", 1, []any{int64(-1), "text", []byte{1, 2}, nil}); err != nil {
		f.Fatal(err)
	}
	if err := o.add("DELETE FROM t WHERE a = ?", 2, []any{1.5}); err != nil {
		f.Fatal(err)
	}
	body := o.appendBody(nil, map[string]uint64{})
	f.Add(body)
	f.Add(body[:len(body)/2])
	f.Add([]byte{0, 1, 'x', 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var known []string
		n := 0
		err := parseBody(b, &known, func(c change) error {
			n += 1 + len(c.args)
			return nil
		})
		if err != nil && !errors.Is(err, errBody) {
			t.Fatal(err)
		}
		if n > len(b) || len(known) > len(b) {
			t.Errorf("%d values of %d bytes", n, len(b))
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	h := segmentHeader{after: point{3, 4}, schema: schemaHash{1}, at: time.UnixMilli(1_700_000_000_000)}
	f.Add(h.marshal())
	f.Add(h.marshal()[:segmentHead-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := parseSegmentHeader(b); ok && !bytes.Equal(got.marshal()[16:72], b[16:72]) {
			t.Errorf("%x is read as %+v", b, got)
		}
	})
}

// A generation's label is right, or it is none.
func FuzzGeneration(f *testing.F) {
	g := generation{point: point{7, 8}, schema: schemaHash{1}, at: time.Unix(1_700_000_000, 0), size: 9}
	f.Add(g.marshal())
	f.Add(bytes.Replace(g.marshal(), []byte("size    9"), []byte("size    8"), 1))
	f.Add([]byte("crc "))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		got := generation{point: point{number: 7}}
		os.Remove(filepath.Join(dir, got.label())) // some file systems flush what is written over
		if err := os.WriteFile(filepath.Join(dir, got.label()), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := got.read(dir); err == nil && got.number != 7 {
			t.Errorf("%q is read as %+v", b, got)
		} else if err != nil && got.mark != 0 {
			t.Errorf("%q is damaged and was believed: %+v", b, got)
		}
	})
}

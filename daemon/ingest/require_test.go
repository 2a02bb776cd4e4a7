package ingest_test

import (
	"bytes"
	"context"
	"testing"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// A gateway's own condition is asked in the transaction that gives the name; what it
// refuses leaves nothing.
func TestRequire(t *testing.T) {
	b := start(t, settings{dir: t.TempDir(), disk: realDisk(t)})
	ctx := context.Background()
	g := b.grant(ann, consent.AlbumBackup)
	for _, locked := range []bool{true, false} {
		asked := false
		m := album("a", 3)
		m.Require = func(*db.Tx) error {
			if asked = true; locked {
				return &problem.Error{Kind: problem.Locked, Title: "Locked"}
			}
			return nil
		}
		i, err := b.in.Begin(ctx, g, m)
		must(t, err)
		if _, err := i.Write(ctx, 0, bytes.NewReader([]byte("abc"))); err != nil || asked {
			t.Fatal(err, asked)
		}
		_, err = i.Finish(ctx)
		if !asked || locked != (problem.KindOf(err) == problem.Locked) || !locked && err != nil {
			t.Errorf("asked %v: %v", asked, err)
		}
		must(t, i.Close())
	}
}

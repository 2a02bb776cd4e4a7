package db

import (
	"context"
	"testing"
)

func TestTryChangesNothingAndNoticesAWriterThatIsGone(t *testing.T) {
	d := openTest(t, t.TempDir())
	err := d.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO box(key, value) VALUES ('volume', 'x') ON CONFLICT DO NOTHING")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	before := d.commits.Load()
	for range 3 {
		if err := d.Try(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.commits.Load() - before; n != 0 {
		t.Errorf("%d commits", n)
	}
	held := make(chan struct{})
	began := make(chan struct{})
	go d.Write(context.Background(), func(*Tx) error { close(began); <-held; return nil }) //nolint:errcheck // it only takes time
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Try(ctx); err == nil {
		t.Error("the writer does not answer, and that was not noticed")
	}
	close(held)
}

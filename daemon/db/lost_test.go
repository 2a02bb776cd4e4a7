package db

import (
	"sync"
	"testing"
	"time"
)

// A caller may not notice that SQLite gave up the whole transaction (a full disk
// does that). Nobody in the group is then told a lie: who heard of a failure has
// nothing in the database, who heard of none has all of it.
func TestATransactionThatIsGoneTakesNobodyAlong(t *testing.T) {
	d := openTest(t, t.TempDir())
	if err := put(d, "taken"); err != nil {
		t.Fatal(err)
	}
	entered, queued := make(chan struct{}), make(chan struct{})
	var first, second error
	var wg sync.WaitGroup
	wg.Go(func() {
		first = d.Write(t.Context(), func(tx *Tx) error {
			close(entered)
			<-queued
			time.Sleep(50 * time.Millisecond) // the second stands in the queue: later or sooner, it must hold
			_, _ = tx.Exec("INSERT INTO box(key, value) VALUES ('first', '')")
			_, _ = tx.Exec("INSERT OR ROLLBACK INTO box(key, value) VALUES ('taken', '')") // swallowed
			return nil
		})
	})
	<-entered
	wg.Go(func() {
		close(queued)
		second = d.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO box(key, value) VALUES ('second', '')")
			return err
		})
	})
	wg.Wait()
	for key, err := range map[string]error{"first": first, "second": second} {
		if has(t, d, key) != (err == nil) {
			t.Errorf("%s: there is %v, told was %v", key, has(t, d, key), err)
		}
	}
	if err := put(d, "after"); err != nil || !has(t, d, "after") {
		t.Errorf("the writer did not recover: %v", err)
	}
}

package catalog_test

import (
	"fmt"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
)

// BenchmarkAdd is what the catalogue costs per upload, in transactions of 8.
func BenchmarkAdd(b *testing.B) {
	x := open(b)
	const group = 8
	entries := make([]catalog.Entry, b.N)
	for i := range entries {
		entries[i] = entry(ann, fmt.Sprintf("DCIM/%d/IMG_%d.jpg", i%100, i), fmt.Sprint(i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for at := 0; at < b.N; at += group {
		x.write(func(tx *db.Tx) error {
			for _, e := range entries[at:min(at+group, b.N)] {
				if err := tx.Savepoint(func() error {
					a, err := x.Add(tx, e)
					if err != nil {
						return err
					}
					return x.Offer(tx, catalog.Offer{User: ann, Device: 7, Path: e.Path, Ref: e.Ref, Size: e.Size, Outcome: catalog.OfferStored, Item: a.Item.ID})
				}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

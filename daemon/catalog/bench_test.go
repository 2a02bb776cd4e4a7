package catalog_test

import (
	"fmt"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/storage"
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

// BenchmarkAddTogether is BenchmarkAdd in the way of whole rounds of uploads, one and together.
func BenchmarkAddTogether(b *testing.B) {
	for _, together := range []bool{false, true} {
		b.Run(fmt.Sprint(together), func(b *testing.B) {
			x := open(b)
			const group = 40
			entries := make([]catalog.Entry, (b.N+group-1)/group*group)
			for i := range entries {
				entries[i] = entry(ann, fmt.Sprintf("DCIM/%d/IMG_%d.jpg", i/2000, i), fmt.Sprint(i))
				entries[i].Device = 7
			}
			b.ReportAllocs()
			b.ResetTimer()
			for at := 0; at < b.N; at += group {
				x.write(func(tx *db.Tx) error {
					for at, end := at, min(at+group, len(entries)); at < end; {
						if together && end-at >= catalog.Together {
							_, ok, err := x.AddTogether(tx, entries[at:at+catalog.Together])
							if err != nil {
								return err
							}
							if ok {
								at += catalog.Together
								continue
							}
						}
						e := entries[at]
						a, err := x.Add(tx, e)
						if err != nil {
							return err
						}
						if err := x.Offer(tx, catalog.Offer{User: ann, Device: 7, Path: e.Path, Ref: e.Ref, Size: e.Size, Outcome: catalog.OfferStored, Item: a.Item.ID}); err != nil {
							return err
						}
						at++
					}
					return nil
				})
			}
		})
	}
}

// BenchmarkKnown is one pre-flight: 5,000 contents, half of which are known,
// asked of a person who keeps 20,000.
func BenchmarkKnown(b *testing.B) {
	x := open(b)
	const items = 20_000
	var refs []storage.Ref
	x.write(func(tx *db.Tx) error {
		for i := range items {
			e := entry(ann, fmt.Sprintf("DCIM/%d/IMG_%d.jpg", i%100, i), fmt.Sprint(i))
			if _, err := x.Add(tx, e); err != nil {
				return err
			}
			if i%(items/catalog.MaxKnown) == 0 {
				if i%8 == 0 {
					e = entry(ann, "", fmt.Sprint("unknown", i))
				}
				refs = append(refs, e.Ref)
			}
		}
		return nil
	})
	b.ReportAllocs()
	for b.Loop() {
		known, err := x.Known(b.Context(), ann, refs)
		if err != nil || len(refs) != catalog.MaxKnown || len(known) != catalog.MaxKnown/2 {
			b.Fatal(len(refs), len(known), err)
		}
	}
}

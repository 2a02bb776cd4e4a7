package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

// dump is all that is in the catalogue but times and identifiers, in an order of its own.
func (b *box) dump() string {
	b.t.Helper()
	var s strings.Builder
	for _, query := range []string{
		`SELECT 'item', i.user, coalesce(f.path, '-'), i.name, hex(i.ref), i.size, i.mtime, i.source, i.device, i.source_by, i.taken, i.taken_local, i.taken_from, i.seq
			FROM item i LEFT JOIN folder f ON f.id = i.folder ORDER BY i.user, i.seq`,
		`SELECT 'version', v.user, i.name, v.seq, hex(v.ref), v.size FROM version v JOIN item i ON i.id = v.item ORDER BY v.user, v.seq`,
		`SELECT 'blob', hex(ref), hex(sha1), size, dead, doubted, verified FROM blob ORDER BY ref`,
		`SELECT 'sums', hex(ref), length(sums) FROM blob_sums ORDER BY ref`,
		`SELECT 'total', blobs, bytes FROM blob_total`,
		`SELECT 'usage', user, items, bytes, distinct_bytes, seq FROM usage ORDER BY user`,
		`SELECT 'folder', user, path, name, seq FROM folder ORDER BY user, path`,
		`SELECT 'change', c.user, c.seq, c.kind, coalesce(i.name, '-') FROM change c LEFT JOIN item i ON i.id = c.item ORDER BY c.user, c.seq`,
		`SELECT 'ledger', l.user, l.device, l.n, l.path, hex(l.ref), l.size, l.outcome, l.kind, l.reason, coalesce(i.name, '-')
			FROM ledger l LEFT JOIN item i ON i.id = l.item ORDER BY l.user, l.device, l.n`,
	} {
		must(b.t.(*testing.T), b.db.Read(context.Background(), func(tx *db.Tx) error {
			rows, err := tx.Query(query)
			if err != nil {
				return err
			}
			defer rows.Close()
			names, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values, places := make([]any, len(names)), make([]any, len(names))
				for i := range values {
					places[i] = &values[i]
				}
				if err := rows.Scan(places...); err != nil {
					return err
				}
				fmt.Fprintln(&s, values...)
			}
			return rows.Err()
		}))
	}
	return s.String()
}

// addOffered is what ingest does with one upload.
func (b *box) addOffered(tx *db.Tx, e catalog.Entry) (catalog.Added, error) {
	a, err := b.Add(tx, e)
	if err != nil {
		return a, err
	}
	outcome := catalog.OfferStored
	if a.Had {
		outcome = catalog.OfferKnown
	}
	return a, b.Offer(tx, catalog.Offer{User: e.User, Device: e.Device, Path: e.Path, Ref: e.Ref, Size: e.Size, Outcome: outcome, Item: a.Item.ID})
}

// Whatever entries come together, what is kept of them is the same as if they had come
// one by one.
func TestTogetherIsAsOneByOne(t *testing.T) { // R01 R13
	n := seed(t)
	rng := rand.New(rand.NewPCG(n, 2))
	one, all := open(t), open(t)
	for _, b := range []*box{one, all} {
		b.add(ann, "DCIM/Camera/first.jpg", "first")
		b.add(bob, "first.jpg", "first")
		b.add(ann, "DCIM/Camera/first.jpg", "second") // the first content is only a version's
		b.add(bob, "first.jpg", "second")
		b.write(func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE user SET quota_bytes = 300 WHERE id = ?`, int64(bob))
			return err
		})
	}
	together := 0
	const rounds = 180
	for round := range rounds {
		entries := someEntries(rng, round)
		var added [2][]catalog.Added
		singly := func(b *box, added *[]catalog.Added) {
			b.write(func(tx *db.Tx) error {
				for _, e := range entries {
					var a catalog.Added
					_ = tx.Savepoint(func() (err error) { a, err = b.addOffered(tx, e); return err })
					*added = append(*added, a)
				}
				return nil
			})
		}
		singly(one, &added[0])
		err := all.db.Write(t.Context(), func(tx *db.Tx) error {
			list, ok, err := all.AddTogether(tx, entries)
			if err != nil {
				return err
			}
			if ok {
				together++
				added[1] = list
				return nil
			}
			for _, e := range entries {
				a, err := all.addOffered(tx, e)
				if err != nil {
					return err
				}
				added[1] = append(added[1], a)
			}
			return nil
		})
		if err != nil {
			added[1] = nil
			singly(all, &added[1])
		}
		for i := range entries {
			a, b := added[0][i], added[1][i]
			a.Item.ID, a.Item.Added = b.Item.ID, b.Item.Added
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("round %d, %s: one by one %+v, together %+v", round, entries[i].Path, a, b)
			}
		}
		if round%9 != 8 {
			continue
		}
		if a, b := one.dump(), all.dump(); a != b {
			t.Fatalf("round %d: one by one\n%s\ntogether\n%s", round, a, b)
		}
	}
	if together == 0 || together == rounds {
		t.Errorf("%d of %d rounds went together: the test does not show much", together, rounds)
	}
}

// someEntries are eight, in most rounds such as they nearly always are.
func someEntries(rng *rand.Rand, round int) []catalog.Entry {
	u, odd := ann, rng.IntN(2*catalog.Together) // that one, if it is one of them
	if rng.IntN(4) == 0 {
		u = bob
	}
	list := make([]catalog.Entry, catalog.Together)
	for i := range list {
		dir := pick(rng, []string{"DCIM/Camera/", "DCIM/Camera/", "DCIM/", ""})
		e := entry(u, fmt.Sprintf("%s%d-%d.jpg", dir, round, i), fmt.Sprintf("%d %d", round, i))
		e.SourceBy, e.Taken = pick(rng, []string{"", "name"}), catalog.Taken{Time: e.MTime, Local: rng.IntN(2) == 0, From: "name"}
		if i == odd {
			switch old := max(round-rng.IntN(4), 0); rng.IntN(14) {
			case 0:
				e.Path = fmt.Sprintf("DCIM/Camera/%d-%d.jpg", old, rng.IntN(8))
			case 1:
				content := fmt.Sprintf("%d %d", old, rng.IntN(8))
				e = entry(u, e.Path, content)
			case 2:
				e.Path = fmt.Sprintf("new %d/%s", round, e.Path)
			case 3:
				e.Path = pick(rng, []string{"DCIM", "DCIM/Camera"})
			case 4:
				if e.Once = true; rng.IntN(2) == 0 {
					o := entry(u, "", fmt.Sprintf("%d %d", old, rng.IntN(8)))
					e.Ref, e.SHA1, e.Size = o.Ref, o.SHA1, o.Size
				}
			case 5, 6:
				if e.Beside, e.IfAbsent = rng.IntN(2) == 0, true; e.Beside {
					e.IfAbsent = false
				}
				if rng.IntN(2) == 0 {
					e.Path = fmt.Sprintf("DCIM/Camera/%d-%d.jpg", old, rng.IntN(8))
				}
			case 7:
				e.User = ident.UserID(3 - u)
			case 8:
				e.Device = 8
			case 9:
				e = entry(u, e.Path, "first")
			case 10:
				if i > 0 {
					e.Path = list[rng.IntN(i)].Path
				}
			case 12:
				e.IfRef = list[0].Ref
			case 13:
				e.Sums = make(storage.Sums, storage.SumsFrom/storage.SumChunk+1)
			case 11:
				if i > 0 {
					o := list[rng.IntN(i)]
					e.Ref, e.SHA1, e.Size = o.Ref, o.SHA1, o.Size
				}
			}
		}
		list[i] = e
	}
	return list
}

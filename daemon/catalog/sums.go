package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"yunbox.local/daemon/db"
	"yunbox.local/storage"
)

const addSums = `INSERT INTO blob_sums (ref, sums) SELECT ref, ?2 FROM blob WHERE ref = ?1
ON CONFLICT (ref) DO UPDATE SET sums = excluded.sums WHERE sums <> excluded.sums`

// setSums keeps the sums of a content that has a record, in the place of others. nil
// are not known and change nothing.
func setSums(tx *db.Tx, ref storage.Ref, sums storage.Sums) error {
	if !kept(sums) {
		return nil
	}
	_, err := tx.Exec(addSums, ref[:], sums.Marshal())
	return err
}

const sumsOf = `SELECT sums FROM blob_sums WHERE ref = +?`

// learnSums is setSums for who has read what was there already: that is written only
// where it was not known, or wrong.
func learnSums(tx *db.Tx, ref storage.Ref, sums storage.Sums) error {
	if !kept(sums) {
		return nil
	}
	if known, err := sumsAre(tx, ref, sums); err != nil || known {
		return err
	}
	return setSums(tx, ref, sums)
}

// LearnSums notes the sums of a content whose bytes were read and had its hash.
func (c *Catalog) LearnSums(ctx context.Context, ref storage.Ref, sums storage.Sums) error {
	if !kept(sums) {
		return nil
	}
	known := false
	err := c.db.Read(ctx, func(tx *db.Tx) (err error) {
		known, err = sumsAre(tx, ref, sums)
		return err
	})
	if err != nil || known {
		return err
	}
	return c.db.Write(ctx, func(tx *db.Tx) error { return learnSums(tx, ref, sums) })
}

// kept says whether there is a row for such sums.
func kept(sums storage.Sums) bool { return len(sums) > storage.SumsFrom/storage.SumChunk }

func sumsAre(tx *db.Tx, ref storage.Ref, sums storage.Sums) (bool, error) {
	var have []byte
	err := tx.QueryRow(sumsOf, ref[:]).Scan(&have)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return bytes.Equal(have, sums.Marshal()), err
}

const someSums = `SELECT substr(sums, 1 + 4 * ?2, 4 * ?3) FROM blob_sums WHERE ref = +?1 AND length(sums) / 4 = ?4`

// Sums returns up to n sums of a content of size bytes, from that of chunk number
// from on. nil: they are not known.
func (c *Catalog) Sums(ctx context.Context, ref storage.Ref, size, from int64, n int) (sums storage.Sums, err error) {
	var some []byte
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(someSums, ref[:], from, n, storage.SumChunks(size)).Scan(&some)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return storage.ParseSums(some), err
}

package catalog

import (
	"context"
	"database/sql"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/storage"
)

// Shards is how many parts the contents fall into, of about the same size: by the
// first byte of their refs. Who goes through all of them goes part by part, in the
// order of the table, so that what is noted about one part touches few pages.
const Shards = 256

// A content was last read back at `verified`, else written at `added`. A time that
// has not come yet is from a clock that was wrong and counts as never.
const age = `CASE WHEN coalesce(verified, added) <= ?3 THEN coalesce(verified, added) ELSE 0 END`

const listStale = `SELECT ref, size, doubted IS NOT NULL FROM blob
WHERE ref > ?1 AND ref <= ?2 AND dead IS NULL AND ` + age + ` <= ?4 ORDER BY ref LIMIT +?5`

const sumStale = `SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE ref >= ?1 AND ref <= ?2 AND dead IS NULL AND ` + age + ` <= ?4`

const oldestInShard = `SELECT min(` + age + `) FROM blob WHERE ref >= ?1 AND ref <= ?2 AND dead IS NULL AND doubted IS NULL`

func shardEnds(shard int) (first, last storage.Ref) {
	for i := range last {
		last[i] = 0xff
	}
	first[0], last[0] = byte(shard), byte(shard)
	return first, last
}

// Stale returns up to limit (MaxLimit at most) contents of a shard that somebody
// keeps and that were neither written nor read back after the given time, after
// the given one in the order of their refs. The zero Ref begins.
func (c *Catalog) Stale(ctx context.Context, shard int, since time.Time, after storage.Ref, limit int) (list []Blob, err error) {
	first, last := shardEnds(shard)
	if after.IsZero() {
		if after = first; shard > 0 {
			after = before(first)
		}
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		list, err = scanBlobs(tx.QueryContext(ctx, listStale, after[:], last[:], tx.Sure.UnixMilli(), since.UnixMilli(), clampLimit(limit)))
		return err
	})
	return list, err
}

// before is the greatest ref below the first one of a shard other than shard 0.
func before(first storage.Ref) storage.Ref {
	_, last := shardEnds(int(first[0]) - 1)
	return last
}

// StaleTotal counts what Stale returns for a shard.
func (c *Catalog) StaleTotal(ctx context.Context, shard int, since time.Time) (blobs, bytes int64, err error) {
	first, last := shardEnds(shard)
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, sumStale, first[:], last[:], tx.Sure.UnixMilli(), since.UnixMilli()).Scan(&blobs, &bytes)
	})
	return blobs, bytes, err
}

// Oldest returns for each of some shards when that content of it was written or last
// read back of which this is longest ago. Those on the list of damages do not count:
// how they are is known. The zero time: there is none.
func (c *Catalog) Oldest(ctx context.Context, shards ...int) ([]time.Time, error) {
	list := make([]time.Time, len(shards))
	return list, c.db.Read(ctx, func(tx *db.Tx) error {
		for i, shard := range shards {
			first, last := shardEnds(shard)
			var oldest sql.NullInt64
			if err := tx.QueryRowContext(ctx, oldestInShard, first[:], last[:], tx.Sure.UnixMilli()).Scan(&oldest); err != nil {
				return err
			}
			list[i] = fromMillis(oldest)
		}
		return nil
	})
}

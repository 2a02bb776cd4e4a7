package api

import (
	"context"
	"net/http"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// The lines of the answer of POST /local/check. Damage names the content only:
// whose file it is does not concern who maintains the box.
type (
	checkProgress struct {
		Event string `json:"event"` // progress
		Done  int64  `json:"done"`  // contents
		Total int64  `json:"total"`
		Bytes int64  `json:"bytes"` // of the contents that are done
		Size  int64  `json:"size"`  // of all
	}
	checkDamage struct {
		Event  string `json:"event"` // damage
		SHA256 string `json:"sha256"`
		Reason string `json:"reason"` // missing, not-a-file, size, bytes, unreadable
		Size   int64  `json:"size"`
	}
	checkOrphan struct {
		Event  string `json:"event"` // orphan
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	}
	checkDatabase struct {
		Event   string `json:"event"` // database
		Problem string `json:"problem"`
	}
	checkDone struct {
		Event   string `json:"event"` // done
		Blobs   int64  `json:"blobs"`
		Bytes   int64  `json:"bytes"`
		Damaged int64  `json:"damaged"`
		Orphans int64  `json:"orphans"`
		// Database is what SQLite's own checks complain of, 100 at most.
		Database int64  `json:"database"`
		Error    string `json:"error,omitempty"` // why the check ended early
	}
)

const (
	checkPage     = 500
	checkSums     = 256 << 10   // sums of contents that are held at most, 1 MiB
	checkInterval = time.Second // between two progress lines
)

// checker compares the catalogue with the disk.
type checker struct {
	store   *storage.Store
	catalog *catalog.Catalog
	db      *db.DB
	deep    bool
	total   int64
	size    int64
	emit    func(line any) error

	found checkDone         // so far
	sound []catalog.Finding // of this page, to be remembered
	sums  int               // how many are in sound
	last  time.Time         // of the last progress line
}

// check streams what it finds as it goes, one JSON value a line. The last line
// is always done; without it the check was cut off.
func (l *Local) check(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Deep bool `json:"deep"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	totals, err := l.api.catalog.Totals(r.Context())
	if err != nil {
		return err
	}
	c := &checker{
		store: l.api.store, catalog: l.api.catalog, db: l.api.db, deep: in.Deep, total: totals.Blobs, size: totals.PhysicalBytes, found: checkDone{Event: "done"},
		emit: httpd.Lines(w),
	}
	if err := c.run(r.Context()); err != nil {
		c.found.Error = problem.Sentence(err)
	}
	if err := c.emit(c.found); err != nil {
		l.api.log.WarnContext(r.Context(), "the answer of a check was not read to its end", "error", err)
	}
	return nil
}

func (c *checker) run(ctx context.Context) error {
	problems, err := c.db.Check(ctx)
	if err != nil {
		return err
	}
	for _, p := range problems {
		c.found.Database++
		if err := c.emit(checkDatabase{Event: "database", Problem: p}); err != nil {
			return err
		}
	}
	if err := c.contents(ctx); err != nil {
		return err
	}
	return c.orphans(ctx)
}

// contents looks for every content that somebody keeps: there, of the right
// size, and with deep of the right bytes.
func (c *checker) contents(ctx context.Context) error {
	var after storage.Ref
	for {
		blobs, err := c.catalog.Blobs(ctx, after, checkPage)
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if err := c.content(ctx, b); err != nil {
				return err
			}
			if c.sums > checkSums {
				if err := c.note(ctx); err != nil {
					return err
				}
			}
		}
		if err := c.note(ctx); err != nil {
			return err
		}
		if len(blobs) < checkPage {
			return nil
		}
		after = blobs[len(blobs)-1].Ref
	}
}

// note writes down what proved sound.
func (c *checker) note(ctx context.Context) error {
	err := c.catalog.Found(ctx, catalog.ByCheck, c.sound)
	clear(c.sound)
	c.sound, c.sums = c.sound[:0], 0
	return err
}

func (c *checker) content(ctx context.Context, b catalog.Blob) error {
	var damage storage.Damage
	var sums storage.Sums
	var err error
	if c.deep {
		read := int64(0)
		damage, sums, err = c.store.ReadBack(ctx, b.Ref, b.Size, &storage.Pace{Read: func(n int64) {
			read += n
			_ = c.progress(min(read, b.Size)) // the last line tells whether anybody listens
		}})
	} else {
		damage, err = c.store.Look(ctx, b.Ref, b.Size)
	}
	if err == nil && damage != storage.Sound {
		var live bool
		if live, err = c.catalog.Live(ctx, b.Ref); !live {
			damage = storage.Sound // its last owner let it go while we looked
		}
	}
	if err != nil {
		return err
	}
	c.found.Blobs++
	c.found.Bytes += b.Size
	if damage == storage.Sound {
		if c.deep { // what proved sound by reading it whole is trusted again
			c.sound = append(c.sound, catalog.Finding{Ref: b.Ref, Time: time.Now(), Sums: sums})
			c.sums += len(sums)
		}
		return c.progress(0)
	}
	// What is damaged is asked for again when a phone has it.
	if err := c.catalog.Found(ctx, catalog.ByCheck, []catalog.Finding{{Ref: b.Ref, Damage: damage}}); err != nil {
		return err
	}
	c.found.Damaged++
	return c.emit(checkDamage{Event: "damage", SHA256: b.Ref.String(), Reason: string(damage), Size: b.Size})
}

// orphans looks for files that nobody keeps. They are no damage: an upload may
// be about to name one, and the sweep takes what is older than a day.
func (c *checker) orphans(ctx context.Context) error {
	for info, err := range c.store.Refs(ctx) {
		if err != nil {
			return err
		}
		live, err := c.catalog.Live(ctx, info.Ref)
		if err != nil {
			return err
		}
		if !live {
			c.found.Orphans++
			if err := c.emit(checkOrphan{Event: "orphan", SHA256: info.Ref.String(), Size: info.Size}); err != nil {
				return err
			}
		}
	}
	return nil
}

// progress tells how far it is, and with part of the next content.
func (c *checker) progress(part int64) error {
	now := time.Now()
	if now.Sub(c.last) < checkInterval {
		return nil
	}
	c.last = now
	return c.emit(checkProgress{Event: "progress", Done: c.found.Blobs, Total: c.total, Bytes: c.found.Bytes + part, Size: c.size})
}

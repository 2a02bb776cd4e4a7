package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"yunbox.local/daemon/catalog"
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
	}
	checkDamage struct {
		Event  string `json:"event"` // damage
		SHA256 string `json:"sha256"`
		Reason string `json:"reason"` // missing, size, bytes, unreadable
		Size   int64  `json:"size"`
	}
	checkOrphan struct {
		Event  string `json:"event"` // orphan
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	}
	checkDone struct {
		Event   string `json:"event"` // done
		Blobs   int64  `json:"blobs"`
		Bytes   int64  `json:"bytes"`
		Damaged int64  `json:"damaged"`
		Orphans int64  `json:"orphans"`
		Error   string `json:"error,omitempty"` // why the check ended early
	}
)

const (
	checkPage     = 500
	checkInterval = time.Second // between two progress lines
)

// checker compares the catalogue with the disk.
type checker struct {
	store   *storage.Store
	catalog *catalog.Catalog
	deep    bool
	total   int64
	emit    func(line any) error

	found checkDone         // so far
	sound []catalog.Finding // of this page, to be remembered
	last  time.Time         // of the last progress line
}

// check streams what it finds as it goes, one JSON value a line. The last line
// is always done; without it the check was cut off.
func (l *Local) check(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Deep bool `json:"deep"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	totals, err := l.api.catalog.Totals(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	c := &checker{
		store: l.api.store, catalog: l.api.catalog, deep: in.Deep, total: totals.Blobs, found: checkDone{Event: "done"},
		emit: func(line any) error {
			return errors.Join(rc.SetWriteDeadline(time.Now().Add(time.Minute)), enc.Encode(line), rc.Flush())
		},
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
		}
		if err := c.catalog.Verified(ctx, c.sound); err != nil {
			return err
		}
		c.sound = c.sound[:0]
		if len(blobs) < checkPage {
			return nil
		}
		after = blobs[len(blobs)-1].Ref
	}
}

func (c *checker) content(ctx context.Context, b catalog.Blob) error {
	reason, err := c.look(ctx, b)
	if err == nil && reason != "" {
		var live bool
		if live, err = c.catalog.Live(ctx, b.Ref); !live {
			reason = "" // its last owner let it go while we looked
		}
	}
	if err != nil {
		return err
	}
	c.found.Blobs++
	c.found.Bytes += b.Size
	if (reason != "") != b.Doubted && (reason != "" || c.deep) {
		// What is damaged is asked for again when a phone has it; what proved
		// sound by reading it whole is trusted again.
		if err := c.catalog.Doubt(ctx, b.Ref, reason != ""); err != nil {
			return err
		}
	}
	if reason == "" {
		if c.deep {
			c.sound = append(c.sound, catalog.Finding{Ref: b.Ref, Sound: true, Time: time.Now()})
		}
		return c.progress()
	}
	c.found.Damaged++
	return c.emit(checkDamage{Event: "damage", SHA256: b.Ref.String(), Reason: reason, Size: b.Size})
}

// look returns what is wrong with a content, "" if nothing is. An error means
// that the check itself cannot go on.
func (c *checker) look(ctx context.Context, b catalog.Blob) (reason string, err error) {
	blob, err := c.store.Get(ctx, b.Ref)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return "missing", nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "unreadable", nil
	}
	size := blob.Size()
	if err := blob.Close(); err != nil {
		return "unreadable", nil
	}
	if size != b.Size {
		return "size", nil
	}
	if !c.deep {
		return "", nil
	}
	err = c.store.Verify(ctx, b.Ref)
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, storage.ErrDamaged):
		return "bytes", nil
	case errors.Is(err, storage.ErrNotFound):
		return "missing", nil
	}
	return "unreadable", nil
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

func (c *checker) progress() error {
	now := time.Now()
	if now.Sub(c.last) < checkInterval {
		return nil
	}
	c.last = now
	return c.emit(checkProgress{Event: "progress", Done: c.found.Blobs, Total: c.total, Bytes: c.found.Bytes})
}

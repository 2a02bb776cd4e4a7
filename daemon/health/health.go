// Package health keeps what the box stored sound: it reads every content back
// within a given time (the scrub), keeps the list of what it found damaged, and
// heals that from other copies where there are some. What no copy has, whoever
// still has the file is asked for: the catalogue says that it is not known, and
// the next backup sends it again.
//
// # When it reads
//
// Once a day a portion is due: those contents that were not read for the longest
// time, as many as bring all of them round in time with a few days to spare. It
// waits for a moment in which the disk is awake, because somebody uses it, and
// otherwise for the small hours. Between portions it neither reads nor writes.
//
// What was read is noted in the catalogue, content by content. So a portion that a
// restart cut short goes on where it was, and no other state is needed but when the
// last one ended.
package health

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/storage"
)

// Source is another copy of the contents, from which damaged ones are healed: the
// second copy of the box, for example.
type Source interface {
	// Name is what people call it.
	Name() string
	// Open returns the bytes of a content. They are compared with ref while they
	// are copied. storage.ErrNotFound: it has no such content.
	Open(ctx context.Context, ref storage.Ref) (io.ReadCloser, error)
}

// Options of New.
type Options struct {
	Catalog *catalog.Catalog
	Store   *storage.Store
	DB      *db.DB
	Log     *slog.Logger     // nil: none
	Now     func() time.Time // nil: time.Now

	// Days within which every content is read back; 0: the box does not begin by
	// itself.
	Days int
	// Rate is how many bytes a second the box reads when it begins by itself; 0:
	// no limit.
	Rate int64
	// Dir lies on the disk whose sleep is respected.
	Dir string
	// Sources are asked in this order.
	Sources []Source
}

// Health is safe for concurrent use.
type Health struct {
	o     Options
	log   *slog.Logger
	wake  chan struct{} // holds one when a run was asked for
	drive drive

	mu     sync.Mutex
	asked  bool      // a run was asked for
	whole  time.Time // since when a run of everything goes on; zero: none
	run    Progress
	stop   context.CancelFunc // ends the run that goes on; nil: there is none
	bounds [catalog.Shards]bound
	subs   []Source
}

// New returns the health of a box. Nothing is read before Run.
func New(o Options) *Health {
	h := &Health{o: o, log: o.Log, wake: make(chan struct{}, 1), subs: slices.Clone(o.Sources)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.o.Now == nil {
		h.o.Now = time.Now
	}
	h.drive.dir = o.Dir
	return h
}

// AddSource adds another copy, asked after those that are there.
func (h *Health) AddSource(s Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = append(h.subs, s)
}

func (h *Health) sources() []Source {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.subs)
}

// Progress is how a run of the scrub stands, or how the last one ended.
type Progress struct {
	Number  int64 // of the run, since the start of the box; 0: there was none
	Running bool
	Whole   bool // of everything, not of a portion
	Begun   time.Time
	Ended   time.Time // zero: it runs
	Blobs   int64     // contents that are done, and
	Total   int64     // of how many
	Bytes   int64     // that were read, and
	Size    int64     // of how many
	Damaged int64     // contents that were found damaged
	Healed  int64     // damaged ones that are sound again
	Error   string    // why it ended early; "": it did not, or was stopped
	Stopped bool      // somebody stopped it
}

// Progress returns how the current run stands, or how the last one ended.
func (h *Health) Progress() Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.run
}

// Begin asks for a run now: of everything that is kept, or of the next portion. If
// one goes on already, whole adds the rest of everything to it. It returns the
// number that the run has or will have.
func (h *Health) Begin(whole bool) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if whole && h.whole.IsZero() {
		h.whole = h.o.Now()
	}
	if h.run.Running && (!whole || h.run.Whole) {
		return h.run.Number
	}
	h.asked = true
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return h.run.Number + 1
}

// Stop ends the run that goes on or was asked for, and reports whether there was one.
// A run of everything is given up for good. What was read counts; the next portion
// comes a day later.
func (h *Health) Stop() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	pending := h.asked || !h.whole.IsZero()
	h.asked, h.whole = false, time.Time{}
	if h.stop == nil {
		return pending
	}
	h.run.Stopped = true
	h.stop()
	return true
}

// Coverage says how well the stored bytes are known.
type Coverage struct {
	// Oldest is when that content was written or last read back of which this is
	// longest ago; zero: nothing is kept.
	Oldest time.Time
	Days   int       // within which all are to be read back; 0: the box does not do it by itself
	Last   time.Time // when the last portion ended; zero: never
	Damage catalog.DamageTotals
	Run    Progress
}

// Coverage returns how well the stored bytes are known. The first call after a
// start goes through the catalogue once.
func (h *Health) Coverage(ctx context.Context) (c Coverage, err error) {
	c.Days, c.Run = h.o.Days, h.Progress()
	if c.Damage, err = h.o.Catalog.DamageTotals(ctx); err != nil {
		return c, err
	}
	if c.Last, err = h.moment(ctx, keyLast); err != nil {
		return c, err
	}
	c.Oldest, err = h.oldest(ctx)
	return c, err
}

// A bound is a time before which nothing in a shard was written or read back last.
type bound struct {
	at    time.Time // zero: not known
	empty bool      // there was nothing in the shard at that time
}

// oldest finds the shard with the lowest bound and looks whether that still is the
// truth, until it is. Bounds only rise, so this is nearly always one question.
func (h *Health) oldest(ctx context.Context) (time.Time, error) {
	begun := h.o.Now()
	for {
		shard := h.lowest(true)
		known := h.bound(shard)
		if known.empty && !known.at.Before(begun) { // and so are all that are below it
			if shard = h.lowest(false); shard < 0 {
				return time.Time{}, nil
			}
			return h.bound(shard).at, nil
		}
		shards := []int{shard}
		if known.at.IsZero() {
			shards = every()
		}
		if err := h.look(ctx, shards...); err != nil {
			return time.Time{}, err
		}
		if b := h.bound(shard); !b.empty && !known.at.IsZero() && !b.at.After(known.at) {
			return b.at, nil
		}
	}
}

func (h *Health) bound(shard int) bound {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bounds[shard]
}

// lowest returns the shard with the lowest bound, the empty ones included or not; -1
// if there is none.
func (h *Health) lowest(empty bool) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	shard := -1
	for i, x := range h.bounds {
		if (empty || !x.empty) && (shard < 0 || x.at.Before(h.bounds[shard].at)) {
			shard = i
		}
	}
	return shard
}

// look brings the bounds of shards to what the catalogue says.
func (h *Health) look(ctx context.Context, shards ...int) error {
	now := h.o.Now() // before the question: what comes meanwhile is younger
	oldest, err := h.o.Catalog.Oldest(ctx, shards...)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, t := range oldest {
		b := bound{at: t, empty: t.IsZero()}
		if b.empty {
			b.at = now
		}
		h.bounds[shards[i]] = b
	}
	return nil
}

// order returns all shards, the one that was not read for the longest time first.
func (h *Health) order(ctx context.Context) ([]int, error) {
	list := every()
	if err := h.look(ctx, list...); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	list = slices.DeleteFunc(list, func(shard int) bool { return h.bounds[shard].empty })
	slices.SortStableFunc(list, func(a, b int) int { return h.bounds[a].at.Compare(h.bounds[b].at) })
	return list, nil
}

// every returns the numbers of all shards.
func every() []int {
	list := make([]int, catalog.Shards)
	for i := range list {
		list[i] = i
	}
	return list
}

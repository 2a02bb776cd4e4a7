package ingest

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// displaceTimeout is how long a new holder waits for the old one to let go. A
// holder that takes longer is stuck in a system call, and so is the disk.
const displaceTimeout = 20 * time.Second

// displaceAgain is how soon a holder that did not let go is asked once more: one
// that is about to take the upload up cannot be asked yet.
const displaceAgain = 50 * time.Millisecond

// A holder whose connection is gone may still have bytes of it to read: they lie
// in the box's own buffers. Whoever asks where the upload stands waits for them,
// for as long as they come without a pause, and no longer than settleTimeout. Where the
// holder waits for the disk, that is no pause of theirs.
const (
	settlePause   = 250 * time.Millisecond
	settleTimeout = 3 * time.Second
)

// small is the size in bytes up to which the committer waits for a file that is
// being sealed: one short flush.
const small = 4 << 20

// A slot is the right to hold one upload.
type slot struct {
	free     chan struct{}           // closed when the holder let go
	displace context.CancelCauseFunc // asks the holder to let go; nil: it will at once
	offset   func() int64            // how many bytes the holder has received; nil with displace
	storing  *atomic.Bool            // whether the holder is at work on bytes that came; nil with displace
}

func newSlot() *slot { return &slot{free: make(chan struct{})} }

// acquire takes the upload id, away from whoever holds it: the client that asks
// now is alive, the connection that holds may be a dead one of the same client.
func (in *Ingest) acquire(ctx context.Context, id string) (*slot, error) {
	timeout, again := time.NewTimer(displaceTimeout), time.NewTicker(displaceAgain)
	defer timeout.Stop()
	defer again.Stop()
	for {
		if err := context.Cause(in.ctx); err != nil {
			return nil, err
		}
		in.mu.Lock()
		held := in.slots[id]
		if held == nil {
			s := newSlot()
			in.slots[id] = s
			in.mu.Unlock()
			return s, nil
		}
		displace := held.displace
		in.mu.Unlock()
		if displace != nil {
			displace(errDisplaced())
		}
		select {
		case <-held.free:
		case <-again.C: // it may have only been on its way in
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout.C:
			return nil, errLocked()
		}
	}
}

// settle waits until nothing more comes for the upload id.
func (in *Ingest) settle(ctx context.Context, id string) {
	held, last, _ := in.holder(id)
	if held == nil {
		return
	}
	pause, timeout := time.NewTicker(settlePause), time.NewTimer(settleTimeout)
	defer pause.Stop()
	defer timeout.Stop()
	for {
		select {
		case <-pause.C:
			_, now, storing := in.holder(id)
			if now == last && !storing {
				return
			}
			last = now
		case <-held.free:
			return
		case <-in.ctx.Done():
			return
		case <-ctx.Done():
			return
		case <-timeout.C:
			return
		}
	}
}

// holder returns the slot of who holds the upload id, nil if nobody does, how many bytes
// it has received, -1 if it is not receiving yet, and whether it is storing some.
func (in *Ingest) holder(id string) (held *slot, offset int64, storing bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if held = in.slots[id]; held == nil || held.offset == nil {
		return held, -1, false
	}
	return held, held.offset(), held.storing.Load()
}

func (in *Ingest) free(id string, s *slot) {
	in.mu.Lock()
	delete(in.slots, id)
	in.mu.Unlock()
	close(s.free)
}

func errDisplaced() error {
	return &problem.Error{
		Kind: problem.Locked, Op: "ingest", Title: "The upload goes on elsewhere",
		Detail: "Another connection has taken this upload over.", Hint: "Ask for the upload's offset before you send more.",
	}
}

func errLocked() error {
	return &problem.Error{
		Kind: problem.Locked, Op: "ingest", Title: "The upload is still being written",
		Detail: "The connection that holds it has not let go yet.", Hint: "Try again in a moment.",
		RetryAfter: 5 * time.Second,
	}
}

// Intake is a file on its way in. Its holder uses it from one goroutine and must
// Close it; Context, ID and Offset may be used from any.
type Intake struct {
	in      *Ingest
	grant   consent.Grant
	up      *storage.Upload
	slot    *slot
	ctx     context.Context // ends on withdrawal, displacement, shutdown
	release context.CancelFunc
	limit   int64 // most bytes in all
	closed  sync.Once
	storing atomic.Bool // in Write, and not waiting for more bytes

	meta        Meta
	persisted   bool
	provisional bool // see Provisional
	done        bool // finished or discarded: nothing is left to let go of
}

func (in *Ingest) intake(g consent.Grant, m Meta, up *storage.Upload, s *slot, limit int64) *Intake {
	ctx, cancel := context.WithCancelCause(in.ctx)
	granted, release := g.Context(ctx)
	i := &Intake{
		in: in, grant: g, up: up, slot: s, ctx: granted, limit: limit, meta: m,
		release: func() { release(); cancel(nil) },
	}
	in.mu.Lock()
	s.displace, s.offset, s.storing = cancel, up.Offset, &i.storing
	in.mu.Unlock()
	return i
}

// ID names the upload: 128 random bits as 26 characters. After Persist, Resume
// finds the upload by it.
func (i *Intake) ID() string { return i.up.ID() }

// Offset is how many bytes have been received.
func (i *Intake) Offset() int64 { return i.up.Offset() }

// Meta returns what Begin was told, with the path made clean and the size if it
// is known by now.
func (i *Intake) Meta() Meta { return i.meta }

// Context ends when no more bytes may be taken: the consent was withdrawn,
// another connection took the upload over, or the box is shutting down.
// context.Cause is then a *problem.Error. The end of a request does not end it:
// bytes that were received are the person's.
func (i *Intake) Context() context.Context { return i.ctx }

// Interrupter is what a body may offer besides io.Reader: Interrupt makes a Read
// that is blocked, and every later one, return an error soon.
type Interrupter interface{ Interrupt() }

// body is the reader of a Write: it ends with ctx and after left bytes.
type body struct {
	ctx   context.Context
	r     io.Reader
	left  int64
	over  func() error // what to say when more than left comes
	cause error        // why it ended before its end

	storing *atomic.Bool // false while a Read waits
}

func (b *body) Read(p []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		b.cause = err
		return 0, err
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more than allowed shows that there is more
	}
	b.storing.Store(false)
	n, err := b.r.Read(p)
	b.storing.Store(true)
	if int64(n) > b.left {
		n, err = int(b.left), b.over()
	}
	b.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.cause = err
		if why := context.Cause(b.ctx); why != nil {
			b.cause = why
		}
		return n, b.cause
	}
	return n, err
}

// Write appends what r yields at offset off, which must be Offset, and returns
// how many bytes were taken. What has arrived is kept even if the client is
// gone: ctx does not end it. What does is the end of r, an error of r, the
// withdrawal of the consent (within a second: a blocked r is interrupted if it
// is an Interrupter or an io.Closer), another holder, or a shutdown.
//
// After an error a persisted upload can be resumed with what had arrived, unless
// the consent was withdrawn: then nothing of it is kept.
func (i *Intake) Write(ctx context.Context, off int64, r io.Reader) (int64, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, i.broken(err)
	}
	b := &body{ctx: i.ctx, r: r, left: max(i.limit-i.up.Offset(), 0), over: i.tooMuch, storing: &i.storing}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(i.ctx, func() {
		defer close(interrupted)
		interrupt(r)
	})
	n, err := i.append(ctx, off, b)
	i.storing.Store(false)
	if !stop() {
		<-interrupted // r is the caller's again when Write returns
	}
	if err == nil {
		return n, nil
	}
	if b.cause == nil {
		return n, i.broken(i.in.explain(i.meta, err))
	}
	var p *problem.Error
	if !errors.As(b.cause, &p) {
		b.cause = &problem.Error{
			Kind: problem.Canceled, Op: "ingest", Title: "The body broke off", Err: b.cause,
			Detail: "The connection ended before the file did.",
			Hint:   "Go on with the upload where it stands, or send the file again.",
		}
	}
	return n, i.broken(b.cause)
}

// append writes to storage, except where nothing is missing any more: an upload
// may have been sealed before the restart, and takes no bytes then.
func (i *Intake) append(ctx context.Context, off int64, b *body) (int64, error) {
	if size := i.up.Size(); size < 0 || off != size || i.up.Offset() != size {
		return i.up.Write(context.WithoutCancel(ctx), off, b)
	}
	switch n, err := io.ReadFull(b, make([]byte, 1)); {
	case n > 0:
		return 0, storage.ErrTooLong
	case errors.Is(err, io.EOF):
		return 0, nil
	default:
		return 0, err
	}
}

func interrupt(r io.Reader) {
	switch r := r.(type) {
	case Interrupter:
		r.Interrupt()
	case io.Closer:
		r.Close()
	}
}

// tooMuch is the answer to more bytes than limit.
func (i *Intake) tooMuch() error {
	switch {
	case i.meta.Size >= 0:
		return i.in.explain(i.meta, storage.ErrTooLong)
	case i.limit >= MaxSize:
		return tooLarge()
	}
	return &problem.Error{
		Kind: problem.Quota, Op: "ingest", Detail: problem.Bytes(i.limit) + " were left, more came.",
		Hint: "Nothing was lost: the device keeps the file. Empty the trash, or ask whoever manages the box for a larger share.",
	}
}

// broken does what is due after a Write that ended with err, and returns what to
// tell the client.
func (i *Intake) broken(err error) error {
	switch problem.KindOf(err) {
	case problem.ConsentRequired:
		// Withdrawn: what has arrived may not be kept either.
		i.in.refused(i.grant.User(), i.meta.Device, err)
		return errors.Join(err, i.Discard())
	case problem.TooLarge, problem.Quota:
		// Nothing can become of it.
		i.in.note(i.grant.User(), i.meta, catalog.OfferDeclined, err)
		return errors.Join(err, i.Discard())
	case problem.Full:
		i.in.note(i.grant.User(), i.meta, catalog.OfferDeclined, err)
		if i.meta.Size < 0 {
			// Nobody knows whether it would ever fit, and what is here of it
			// keeps everybody else from storing anything.
			return errors.Join(err, i.Discard())
		}
	default:
		if !i.persisted && !i.done {
			i.in.note(i.grant.User(), i.meta, catalog.OfferFailed, err)
		}
	}
	i.keep()
	return err
}

// keep makes what has arrived of a persisted upload resumable, as far as it is
// proven.
func (i *Intake) keep() {
	if !i.persisted || i.provisional || i.done {
		return
	}
	if err := i.up.Checkpoint(context.WithoutCancel(i.ctx)); err != nil && !errors.Is(err, storage.ErrClosed) {
		i.in.log.Warn("what had arrived of an upload could not be kept", "err", err)
	}
}

// Provisional says whether the bytes of the next Writes are yet to be proven (by
// a checksum that follows them). While they are, no Write that breaks off makes
// them durable: Close leaves a persisted upload at its last Checkpoint.
func (i *Intake) Provisional(on bool) { i.provisional = on }

// Checkpoint makes what was received durable and resumable, if the upload is
// persisted; otherwise it does nothing.
func (i *Intake) Checkpoint(ctx context.Context) error {
	if !i.persisted || i.done {
		return nil
	}
	return i.in.explain(i.meta, i.up.Checkpoint(ctx))
}

// SetSize says how large the file is that was begun without a size.
func (i *Intake) SetSize(size int64) error {
	if size < 0 {
		size = -2 // -1 is not a size here
	}
	if err := checkSize(size); err != nil {
		return err
	}
	m := i.meta
	m.Size = size
	if size > i.limit {
		return i.tooMuch()
	}
	if err := i.up.SetSize(size); err != nil {
		return i.in.explain(m, err)
	}
	if i.persisted {
		if err := i.in.saveSize(i.ctx, i.ID(), size); err != nil {
			return err
		}
	}
	i.meta, i.limit = m, size
	return nil
}

// Amend corrects the name and the time of an upload that is not persisted, for
// protocols that may say them after the bytes. It changes nothing that was
// decided: the source stays, and with it the consent. The zero time is not said.
func (i *Intake) Amend(path string, mtime time.Time) error {
	if i.persisted || i.done {
		return errors.New("ingest: amending an upload that is persisted or over")
	}
	path, err := catalog.CleanPath(path)
	if err == nil {
		i.meta.Path, i.meta.MTime = path, mtime
	}
	return err
}

// Finish makes the file durable and gives it its name. When it returns nil, file
// and name survive a power cut. ctx matters only until all bytes are known to be
// there: a client that is gone does not undo its upload.
//
// Errors are of the kinds Mismatch (the bytes are not Want or WantSHA1: they are
// dropped), Deleted (see declined.go; they are dropped, too), Invalid (bytes are
// missing: the upload can go on), ConsentRequired, Quota, Full, Conflict and
// PreconditionFailed (the name), Unavailable, and those of Meta.Require, of which
// Locked drops the bytes like these.
func (i *Intake) Finish(ctx context.Context) (Result, error) {
	if err := context.Cause(i.ctx); err != nil {
		return Result{}, i.broken(err)
	}
	x := &commitment{intake: i}
	if i.up.Offset() <= small {
		x.cohort = i.in.committer.announce()
	}
	defer x.arrive() // also in a panic: the committer waits for who announced
	var err error
	if x.sealed, err = i.up.Seal(ctx); err != nil {
		if err = i.in.explain(i.meta, err); !i.persisted {
			x.arrive()
			i.in.note(i.grant.User(), i.meta, catalog.OfferFailed, err)
		}
		return Result{}, err
	}
	if err := i.verify(x.sealed); err != nil {
		x.arrive()
		i.in.note(i.grant.User(), i.meta, catalog.OfferFailed, err)
		return Result{}, errors.Join(err, i.Discard())
	}
	if err := i.declined(ctx, x.sealed); err != nil {
		x.arrive()
		if problem.KindOf(err) == problem.Deleted {
			err = errors.Join(err, i.Discard())
		}
		return Result{}, err
	}
	if err := i.in.committer.commit(x); err != nil {
		kind := problem.KindOf(err)
		switch kind {
		case problem.Quota, problem.Conflict, problem.PreconditionFailed, problem.Locked, problem.ConsentRequired, problem.Full:
			i.in.unwanted(x.sealed.Ref)
		}
		switch kind {
		case problem.Quota, problem.Conflict, problem.PreconditionFailed, problem.Locked:
			i.in.note(i.grant.User(), i.meta, catalog.OfferDeclined, err)
			return Result{}, errors.Join(err, i.Discard())
		case problem.ConsentRequired:
			return Result{}, errors.Join(err, i.Discard())
		}
		return Result{}, err
	}
	i.done = true
	if x.result.Stored == StoredKnown {
		i.in.counts.known.Add(1)
	} else {
		i.in.counts.fresh.Add(1)
	}
	return x.result, nil
}

func (i *Intake) verify(s storage.Sealed) error {
	m := i.meta
	if (m.Want.IsZero() || m.Want == s.Ref) && (m.WantSHA1.IsZero() || m.WantSHA1 == s.SHA1) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Mismatch, Op: "ingest.finish",
		Detail:  "The checksum of the bytes that arrived is another one than was announced, so nothing was stored.",
		Hint:    "Send the file again. If it happens again, the file changes while it is read, or the device's memory is faulty.",
		Members: map[string]any{"sha256": s.Ref.String()},
	}
}

// Discard lets go of the upload and removes all of it.
func (i *Intake) Discard() error {
	if i.done {
		return nil
	}
	i.done = true
	err := i.up.Discard()
	if i.persisted {
		err = errors.Join(err, i.in.forget(i.ID()))
	}
	return err
}

// Close lets go of the upload: a persisted one can be resumed with all that has
// arrived, any other vanishes. It is harmless after Finish and Discard, and when
// called twice.
func (i *Intake) Close() (err error) {
	i.closed.Do(func() {
		i.keep()
		err = i.in.explain(i.meta, i.up.Close())
		i.release()
		i.in.free(i.ID(), i.slot)
	})
	return err
}

// blobs is the first effect of the committer.
func (in *Ingest) blobs(ctx context.Context, batch []*commitment) []error {
	sealed := make([]storage.Sealed, len(batch))
	for k, x := range batch {
		sealed[k] = x.sealed
	}
	verdicts := in.store.Commit(ctx, sealed)
	for k, err := range verdicts {
		verdicts[k] = in.explain(batch[k].intake.meta, err)
	}
	return verdicts
}

// rows is the second effect of the committer: one transaction for all uploads or, if
// one of them fails, another in which each can fail for itself. Savepoints in the first
// would copy every page that it changes.
func (in *Ingest) rows(ctx context.Context, batch []*commitment) []error {
	verdicts := make([]error, len(batch))
	err := in.db.Write(ctx, func(tx *db.Tx) error {
		r := recorder{in: in, tx: tx}
		for some := range slices.Chunk(batch, catalog.Together) {
			if err := r.some(some); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && len(batch) > 1 {
		err = in.db.Write(ctx, func(tx *db.Tx) error {
			r := recorder{in: in, tx: tx}
			for k, x := range batch {
				verdicts[k] = tx.Savepoint(func() error { return r.one(x) })
			}
			return nil
		})
	}
	for k := range verdicts {
		if verdicts[k] == nil {
			verdicts[k] = err
		}
		if verdicts[k] != nil {
			in.orphans.Store(true) // a durable blob that may have no row
		}
	}
	return verdicts
}

// A recorder writes all that is to be known of finished uploads in one transaction.
type recorder struct {
	in *Ingest
	tx *db.Tx
	// The verdicts on grants: no decision can come between two uploads of one transaction.
	checked map[consent.Grant]error
}

// some writes uploads, together if they are as uploads nearly always are.
func (r *recorder) some(batch []*commitment) error {
	if ok, err := r.together(batch); err != nil || ok {
		return err
	}
	for _, x := range batch {
		if err := r.one(x); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) together(batch []*commitment) (ok bool, err error) {
	if len(batch) != catalog.Together {
		return false, nil
	}
	entries := make([]catalog.Entry, len(batch))
	for k, x := range batch {
		if entries[k], err = r.entry(x); err != nil {
			return false, err
		}
		if x.intake.persisted {
			return false, nil
		}
	}
	added, ok, err := r.in.cat.AddTogether(r.tx, entries)
	for k := range added {
		batch[k].result = resultOf(added[k])
	}
	return ok, err
}

// entry is what the catalogue is to keep of an upload, if that may still be kept.
func (r *recorder) entry(x *commitment) (catalog.Entry, error) {
	i := x.intake
	err, known := r.checked[i.grant]
	if !known {
		err = i.grant.Check(r.tx, i.grant.Purpose())
		if r.checked == nil {
			r.checked = make(map[consent.Grant]error, 1)
		}
		r.checked[i.grant] = err
	}
	if err == nil {
		err = i.meta.required(r.tx)
	}
	e := i.meta.entry(i.grant.User(), r.tx.Now)
	e.Ref, e.SHA1, e.Size, e.Sums = x.sealed.Ref, x.sealed.SHA1, x.sealed.Size, x.sealed.Sums
	return e, err
}

// one writes what is to be known of an upload, or nothing.
func (r *recorder) one(x *commitment) error {
	e, err := r.entry(x)
	if err != nil {
		return err
	}
	added, err := r.in.cat.Add(r.tx, e)
	if err != nil {
		return err
	}
	x.result = resultOf(added)
	outcome := catalog.OfferStored
	if added.Had {
		outcome = catalog.OfferKnown
	}
	if err := r.in.cat.Offer(r.tx, catalog.Offer{
		User: e.User, Device: e.Device, Path: e.Path, Ref: e.Ref, Size: e.Size, Outcome: outcome, Item: added.Item.ID,
	}); err != nil {
		return err
	}
	if x.intake.persisted {
		return saveResult(r.tx, x.intake.ID(), x.result)
	}
	return nil
}

// release is the last effect of the committer.
func (in *Ingest) release(batch []*commitment) {
	sealed := make([]storage.Sealed, len(batch))
	for k, x := range batch {
		sealed[k] = x.sealed
	}
	in.store.Release(sealed)
}

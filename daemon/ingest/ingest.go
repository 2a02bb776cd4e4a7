// Package ingest is the one way into the box: consent, name, quota and room are
// decided before the first byte; the bytes are staged; they become a durable
// blob, then a durable row, then an acknowledgement.
//
// A gateway that received a file does four things:
//
//	intake, err := in.Begin(ctx, grant, meta) // may it come in at all?
//	defer intake.Close()
//	_, err = intake.Write(ctx, 0, body)
//	result, err := intake.Finish(ctx)         // nil: it survives a power cut
//
// and for an upload that may be interrupted also Persist, after which Resume
// goes on with it on another connection, after a restart, after a power cut.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage"
)

const (
	// MaxSize is the most bytes of one file (1 TiB): more is a mistake of the
	// sender.
	MaxSize = 1 << 40
	// MaxExtra is the most bytes of Meta.Extra.
	MaxExtra = 16 << 10
	// defaultExpiry is how long a resumable upload is kept.
	defaultExpiry = 7 * 24 * time.Hour
)

// Meta is what is said about a file before its bytes.
type Meta struct {
	Device ident.DeviceID // zero: the grant's
	Source string         // "album", "wechat", …: see consent.PurposeOf and FindSource
	Path   string         // made clean by Begin
	Size   int64          // bytes; -1: not known yet
	MTime  time.Time      // zero: not said, the time of arrival is taken

	// Want and WantSHA1 are what the content must be; zero: not said.
	Want     storage.Ref
	WantSHA1 storage.SHA1

	// IfAbsent and IfRef are conditions on the name: that it is free when the
	// upload is finished; that its content is IfRef then (zero: no condition).
	IfAbsent bool
	IfRef    storage.Ref

	// Again says that the person wants just this file, though they may have deleted
	// it; Drive that the protocol is one by which people also open their files as a
	// drive. What they decide is in declined.go.
	Again, Drive bool

	// Beside and Once are as in catalog.Entry. A persisted upload forgets them.
	Beside, Once bool

	// Require is a condition of the gateway's own: it is asked in the transaction that
	// gives the file its name, and its error refuses the file (nil: none). A persisted
	// upload forgets it.
	Require func(*db.Tx) error

	// SourceBy is how Source is known; "": the client declared it.
	SourceBy source.Confidence
	// DevicePath is what the device itself calls the file, for FindSource, where
	// that says more than Path; it is not kept.
	DevicePath string

	// Room is what many files that come together have in common; nil: they do not.
	Room *Room

	// Extra is the gateway's own and given back as it was.
	Extra string
}

// AutoSource is the Source of a client that leaves it to the box.
const AutoSource = "auto"

// FindSource derives Source from DevicePath, or else from Path, if the client did
// not declare it. A gateway calls it before it asks for the consent, so that
// what WeChat saved needs the consent for WeChat, by whatever protocol it comes.
func (m *Meta) FindSource() {
	if m.Source != "" && m.Source != AutoSource {
		m.SourceBy = source.Declared
		return
	}
	p := m.DevicePath
	if p == "" {
		p = m.Path
	}
	m.Source, m.SourceBy = source.Of(p)
}

// The values of Result.Stored.
const (
	StoredNew   = "new"   // the person did not keep this content before
	StoredKnown = "known" // the person kept it already
)

// Result is what became of a finished upload.
type Result struct {
	Item    catalog.Item
	Stored  string // StoredNew or StoredKnown; never speaks of other people
	Outcome catalog.Outcome
}

// Options of New. Store, Catalog and DB are needed.
type Options struct {
	Store   *storage.Store
	Catalog *catalog.Catalog
	DB      *db.DB
	Consent *consent.Ledger  // for Grant, and to hear of withdrawals
	Log     *slog.Logger     // nil: none
	Expiry  time.Duration    // of resumable uploads; 0: seven days
	Now     func() time.Time // nil: time.Now
	// KeepOrphans says that the catalogue may not know everything that was kept on
	// the volume: what it does not know is left alone.
	KeepOrphans bool
	// LetGo removes whatever else shows contents that nobody keeps any more, before
	// they are removed themselves, which they are not if it fails. nil: there is
	// nothing.
	LetGo func(context.Context) error
	// Refuse says why nothing is taken in for a person, whatever they consented to; nil
	// and a nil function: nothing stands against it. It asks no disk.
	Refuse func(ident.UserID) error
}

// Ingest takes files in. It is safe for concurrent use.
type Ingest struct {
	store  *storage.Store
	cat    *catalog.Catalog
	db     *db.DB
	ledger *consent.Ledger
	log    *slog.Logger
	expiry time.Duration
	now    func() time.Time
	spare  bool // Options.KeepOrphans
	refuse func(ident.UserID) error
	letGo  func(context.Context) error

	ctx       context.Context // ends at Close
	shutdown  context.CancelCauseFunc
	closing   sync.Once
	committer *committer

	mu    sync.Mutex
	slots map[string]*slot // uploads that somebody holds, by id

	endings chan struct{} // a decision ended uploads: see ended.go

	orphans atomic.Bool // a blob may be on the disk that no row knows

	counts struct{ fresh, known, declined, failed atomic.Int64 }
}

// Counts is what became of the files that were offered since the start.
type Counts struct {
	New      int64 // their owner did not keep the content before
	Known    int64
	Declined int64 // refused: for want of room, for their name, because they were deleted
	Failed   int64 // broken on their way
}

// Counts returns what became of the files that were offered. Counting costs an atomic
// addition a file.
func (in *Ingest) Counts() Counts {
	c := &in.counts
	return Counts{c.fresh.Load(), c.known.Load(), c.declined.Load(), c.failed.Load()}
}

// New returns the way in. It hears of each withdrawal from then on. Run must be running for
// anything to expire, and for the bytes to go of what a withdrawal ended.
func New(opt Options) *Ingest {
	in := &Ingest{
		store: opt.Store, cat: opt.Catalog, db: opt.DB, ledger: opt.Consent,
		log: opt.Log, expiry: opt.Expiry, now: opt.Now, spare: opt.KeepOrphans, letGo: opt.LetGo, refuse: opt.Refuse,
		slots: map[string]*slot{}, endings: make(chan struct{}, 1),
	}
	if in.log == nil {
		in.log = slog.New(slog.DiscardHandler)
	}
	if in.expiry <= 0 {
		in.expiry = defaultExpiry
	}
	if in.now == nil {
		in.now = time.Now
	}
	in.ctx, in.shutdown = context.WithCancelCause(context.Background())
	in.committer = newCommitter(in.log, in.blobs, in.rows, in.release)
	if in.ledger != nil {
		in.ledger.OnRefusal(in.endUploads)
	}
	return in
}

// Close ends what is being received (resumable uploads keep what they have),
// lets the running commit end and refuses everything after. It waits for the
// holders to let go, until ctx ends.
func (in *Ingest) Close(ctx context.Context) error {
	in.closing.Do(func() {
		in.shutdown(errShutdown())
		in.committer.close()
	})
	for {
		var s *slot
		in.mu.Lock()
		for _, s = range in.slots {
			break
		}
		in.mu.Unlock()
		if s == nil {
			return nil
		}
		select {
		case <-s.free:
		case <-ctx.Done():
			return fmt.Errorf("ingest: close: an upload is still held: %w", context.Cause(ctx))
		}
	}
}

// Left returns how long it is until a time that Info has, by the clock that counts.
func (in *Ingest) Left(expires time.Time) time.Duration { return expires.Sub(in.now()) }

// Expiry returns how long an upload that nobody goes on with is kept.
func (in *Ingest) Expiry() time.Duration { return in.expiry }

// Active returns how many uploads are being received right now.
func (in *Ingest) Active() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.slots)
}

// admit decides all that can be decided before the first byte, except for room.
// It returns m made clean.
func (in *Ingest) admit(g consent.Grant, m Meta) (Meta, error) {
	if g.User() == 0 {
		return m, errors.New("ingest: a Grant that no Ledger made")
	}
	purpose, err := consent.PurposeOf(m.Source)
	if err != nil {
		return m, err
	}
	if purpose != g.Purpose() {
		return m, fmt.Errorf("ingest: a grant for %s used for source %q", g.Purpose(), m.Source)
	}
	if m.Device == 0 {
		m.Device = g.Device()
	}
	if m.Device != g.Device() {
		return m, fmt.Errorf("ingest: a grant for one device used for another")
	}
	if m.Path, err = catalog.CleanPath(m.Path); err != nil {
		return m, err
	}
	if len(m.Extra) > MaxExtra {
		return m, &problem.Error{Kind: problem.TooLarge, Op: "ingest.begin",
			Detail: "The upload's metadata is too long.", Hint: "Send less of it."}
	}
	return m, checkSize(m.Size)
}

func checkSize(size int64) error {
	switch {
	case size < -1:
		return &problem.Error{
			Kind: problem.Invalid, Op: "ingest.begin", Title: "The size makes no sense",
			Detail: fmt.Sprintf("A file cannot have %d bytes.", size), Hint: "Send the size in bytes.",
		}
	case size > MaxSize:
		return tooLarge()
	}
	return nil
}

func tooLarge() error {
	return &problem.Error{
		Kind: problem.TooLarge, Op: "ingest.begin",
		Detail: fmt.Sprintf("A file may have %s at most.", problem.Bytes(MaxSize)),
		Hint:   "If the file really is that large, send it in parts.",
	}
}

// Known keeps m.Path for a content that the person keeps already, without any
// bytes. It returns false, and has changed nothing, if the bytes are needed:
// the person does not keep it, or there is doubt about the stored copy. Other
// people's contents play no part. What the person deleted is problem.Deleted: see
// declined.go.
func (in *Ingest) Known(ctx context.Context, g consent.Grant, m Meta) (r Result, known bool, err error) {
	if m, err = in.admit(g, m); err != nil {
		return Result{}, false, err
	}
	if m.Want.IsZero() {
		return Result{}, false, in.wanted(ctx, g.User(), m)
	}
	if err := in.alive(g); err != nil {
		return Result{}, false, err
	}
	have, err := in.cat.Known(ctx, g.User(), []storage.Ref{m.Want})
	if err != nil {
		return Result{}, false, err
	}
	if len(have) == 0 {
		return Result{}, false, in.wanted(ctx, g.User(), m)
	}
	release, err := in.store.Pin(ctx, m.Want)
	if errors.Is(err, storage.ErrNotFound) {
		in.log.Error("a blob that the catalogue needs is missing; it will be asked for again", "ref", m.Want)
		return Result{}, false, in.cat.Found(ctx, catalog.ByUpload, []catalog.Finding{{Ref: m.Want, Damage: storage.Missing}})
	}
	if err != nil {
		return Result{}, false, in.explain(m, err)
	}
	defer release()
	err = in.db.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, g.Purpose()); err != nil {
			return err
		}
		if err := m.required(tx); err != nil {
			return err
		}
		added, err := in.cat.AddKnown(tx, m.entry(g.User(), tx.Now))
		if err != nil {
			return err
		}
		r = resultOf(added)
		return in.cat.Offer(tx, catalog.Offer{
			User: g.User(), Device: m.Device, Path: m.Path, Ref: m.Want, Size: added.Item.Size,
			Outcome: catalog.OfferKnown, Item: added.Item.ID,
		})
	})
	if errors.Is(err, catalog.ErrUnknown) {
		return Result{}, false, nil
	}
	if err != nil {
		return Result{}, false, err
	}
	in.counts.known.Add(1)
	return r, true, nil
}

func resultOf(a catalog.Added) Result {
	r := Result{Item: a.Item, Stored: StoredNew, Outcome: a.Outcome}
	if a.Had {
		r.Stored = StoredKnown
	}
	return r
}

// required asks m.Require.
func (m Meta) required(tx *db.Tx) error {
	if m.Require == nil {
		return nil
	}
	return m.Require(tx)
}

// entry is what the catalogue is to keep of m; content and size are the
// announced ones.
func (m Meta) entry(u ident.UserID, now time.Time) catalog.Entry {
	if m.MTime.IsZero() {
		m.MTime = now
	}
	var taken catalog.Taken
	if c, ok := source.Taken(m.Path); ok {
		taken = catalog.Taken{Time: c.Time, Local: c.Local, From: "name"}
	}
	return catalog.Entry{
		User: u, Device: m.Device, Path: m.Path, Ref: m.Want, SHA1: m.WantSHA1, Size: m.Size,
		MTime: m.MTime, Source: m.Source, SourceBy: string(m.SourceBy), Taken: taken, IfAbsent: m.IfAbsent, IfRef: m.IfRef,
		Beside: m.Beside, Once: m.Once,
	}
}

// alive says why g no longer holds, or that the box is shutting down.
func (in *Ingest) alive(g consent.Grant) error {
	ctx, cancel := g.Context(in.ctx)
	defer cancel()
	return context.Cause(ctx)
}

// Begin admits a file: it checks, before any byte of it, that the consent is in
// force and covers the source, that the name can be kept, that the size makes
// sense, and that quota and disk have room. The caller must Close the Intake.
//
// Errors are of the kinds ConsentRequired, Invalid, TooLarge, Deleted, Quota, Full,
// Unavailable. ctx matters only for Begin itself.
func (in *Ingest) Begin(ctx context.Context, g consent.Grant, m Meta) (*Intake, error) {
	m, err := in.admit(g, m)
	if err != nil {
		return nil, err
	}
	if err := in.alive(g); err != nil {
		return nil, err
	}
	limit, err := in.room(ctx, g.User(), m)
	if err != nil {
		return nil, err
	}
	up, err := in.store.Begin(ctx, m.Size)
	if err != nil {
		err = in.explain(m, err)
		if problem.KindOf(err) == problem.Full {
			in.note(g.User(), m, catalog.OfferDeclined, err)
		}
		return nil, err
	}
	s := newSlot()
	in.mu.Lock()
	in.slots[up.ID()] = s // the id is new: nobody holds it
	in.mu.Unlock()
	return in.intake(g, m, up, s, limit), nil
}

// unfinished is how many bytes a person's resumable uploads may come to: they lie
// on the disk, though no name counts them yet.
const unfinished = `SELECT coalesce(sum(max(size, 0)), 0) FROM upload WHERE user = ? AND item IS NULL`

// limit returns the most bytes that an upload may have: the size if that is known
// and fits the quota, else what is left of the quota. All unfinished uploads
// together may come to as much as the quota once more: enough for what a phone
// gave up and began anew, and a bound for whoever only begins.
func (in *Ingest) limit(ctx context.Context, u ident.UserID, m Meta, isNew bool) (int64, error) {
	limit := int64(MaxSize)
	err := in.db.Read(ctx, func(tx *db.Tx) error {
		g, err := in.cat.UsageIn(tx, u)
		if err != nil {
			return err
		}
		if g.Quota >= 0 && isNew {
			var promised int64
			if err := tx.QueryRow(unfinished, int64(u)).Scan(&promised); err != nil {
				return err
			}
			if err := (catalog.Usage{Bytes: promised, Quota: g.Quota}).Room(max(m.Size, 0)); err != nil {
				return err
			}
		}
		if g.Quota >= 0 {
			limit = min(limit, g.Quota-g.Bytes)
		}
		return g.Room(max(m.Size, 0))
	})
	if problem.KindOf(err) == problem.Quota {
		in.note(u, m, catalog.OfferDeclined, err)
	}
	return limit, err
}

// A Room spares the files that one person sends together a question each. For a second it
// remembers how much their quota leaves, which is asked again in any case in the
// transaction that gives a file its name. The zero Room is ready for use by one person
// and one goroutine.
type Room struct {
	left  int64
	until time.Time
}

// take takes what a file of size bytes needs, if there is surely that much.
func (r *Room) take(size int64, now time.Time) bool {
	if r == nil || size < 0 || size > r.left || !now.Before(r.until) || r.until.Sub(now) > roomFor {
		return false
	}
	r.left -= size
	return true
}

// roomFor is how long a Room remembers.
const roomFor = time.Second

// room is the most bytes that a new upload of u may have, after all was asked that the
// database knows.
func (in *Ingest) room(ctx context.Context, u ident.UserID, m Meta) (limit int64, err error) {
	if err := in.wanted(ctx, u, m); err != nil {
		return 0, err
	}
	now := in.now()
	if m.Room.take(m.Size, now) {
		return m.Size, nil
	}
	limit, err = in.limit(ctx, u, m, true)
	if err == nil && m.Room != nil {
		*m.Room = Room{left: limit - max(m.Size, 0), until: now.Add(roomFor)}
	}
	return limit, err
}

// note writes a refusal into the ledger of the device, so that the person sees
// why a photo is not here. What was refused for want of consent is not noted:
// the name alone would be data that the box may not have.
func (in *Ingest) note(u ident.UserID, m Meta, outcome string, cause error) {
	if outcome == catalog.OfferFailed {
		in.counts.failed.Add(1)
	} else {
		in.counts.declined.Add(1)
	}
	p := problem.As(cause)
	err := in.db.Write(context.WithoutCancel(in.ctx), func(tx *db.Tx) error {
		return in.cat.Offer(tx, catalog.Offer{
			User: u, Device: m.Device, Path: m.Path, Ref: m.Want, Size: m.Size,
			Outcome: outcome, Kind: p.Kind, Reason: p.Title,
		})
	})
	if err != nil {
		in.log.Warn("a refusal could not be noted", "err", err)
	}
}

// Grant asks for the consent that a file needs which u's device offers: that to
// the purpose of m's source, for m's device. Gateways call it before they read the
// body. A refusal is consent.Ledger's (problem.ConsentRequired, Invalid for a
// source that does not exist) and stands in the ledger of the device.
func (in *Ingest) Grant(ctx context.Context, u ident.UserID, m Meta) (consent.Grant, error) {
	if in.refuse != nil {
		if err := in.refuse(u); err != nil {
			return consent.Grant{}, err
		}
	}
	g, err := in.ledger.GrantFor(ctx, u, m.Device, m.Source)
	if err != nil {
		in.refused(u, m.Device, err)
	}
	return g, err
}

// refused notes in the ledger of the device d that u has not consented to what it
// offered, as err says: the purpose and no more, because neither the name nor the
// content may be kept; and nothing at all of somebody who has not accepted the
// policy.
func (in *Ingest) refused(u ident.UserID, d ident.DeviceID, err error) {
	p := problem.As(err)
	purpose, _ := p.Members["purpose"].(string)
	if p.Kind != problem.ConsentRequired || purpose == "" || purpose == string(consent.Storage) {
		return
	}
	werr := in.db.Write(context.WithoutCancel(in.ctx), func(tx *db.Tx) error {
		return in.cat.OfferNameless(tx, u, d, p.Kind, p.Detail)
	})
	if werr != nil {
		in.log.Warn("a refusal could not be noted", "err", werr)
	}
}

// explain gives storage's errors the kind that a person can act on.
func (in *Ingest) explain(m Meta, err error) error {
	var p *problem.Error
	switch {
	case err == nil, errors.As(err, &p):
		return err
	case errors.Is(err, storage.ErrFull):
		left := int64(0)
		if space, serr := in.store.Space(); serr == nil {
			left = max(space.Free, 0) // a disk may be filled beyond what is for us
		}
		need := "The file needs more room than there is"
		if m.Size >= 0 {
			need = "The file needs " + problem.Bytes(m.Size)
		}
		return &problem.Error{
			Kind: problem.Full, Op: "ingest", Err: err,
			Detail:  fmt.Sprintf("%s; %s are left on the disk, of which the box keeps a part for its own records.", need, problem.Bytes(left)),
			Hint:    "Nothing was lost: the device keeps the file and tries again. Empty the trash or free space on the disk.",
			Members: map[string]any{"needed": max(m.Size, 0), "left": left},
		}
	case errors.Is(err, storage.ErrTooLong):
		return &problem.Error{
			Kind: problem.TooLarge, Op: "ingest", Title: "More bytes came than were announced", Err: err,
			Detail: fmt.Sprintf("%d bytes were announced.", m.Size),
			Hint:   "The file may have changed while it was being sent: send it again from the start.",
		}
	case errors.Is(err, storage.ErrIncomplete):
		return &problem.Error{
			Kind: problem.Invalid, Op: "ingest", Title: "The body ended early", Err: err,
			Detail: fmt.Sprintf("%d bytes were announced, fewer came.", m.Size),
			Hint:   "Send the rest, or the file again.",
		}
	case errors.Is(err, storage.ErrOffset):
		return &problem.Error{
			Kind: problem.Conflict, Op: "ingest", Title: "The bytes do not follow on what is here", Err: err,
			Detail: "The upload stands at another offset.",
			Hint:   "Ask for the upload's offset and go on from there.",
		}
	case errors.Is(err, storage.ErrClosed):
		return errShutdown()
	case errors.Is(err, storage.ErrReadOnly):
		return &problem.Error{
			Kind: problem.Unavailable, Op: "ingest", Title: "The box's disk can only be read", Err: err,
			Detail: "The file is not stored. Files that are on the box can be read as before.",
			Hint:   "The device keeps the file and tries again. Look after the disk; the box goes on once it can be written again.",
		}
	case errors.Is(err, storage.ErrSync):
		return &problem.Error{
			Kind: problem.Unavailable, Op: "ingest", Title: "The box's disk loses data", Err: err,
			Detail: "The file is not stored. The box takes nothing new; files that are on the box can be read as before.",
			Hint:   "The device keeps the file and tries again. Look after the disk, then restart the box.",
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &problem.Error{
		Kind: problem.Unavailable, Op: "ingest", Title: "The disk did not keep the file", Err: err,
		Detail: "The file is not stored. The disk reported an error while it was read or written.",
		Hint:   "The device keeps the file and tries again. Look after the disk: it may be failing.",
	}
}

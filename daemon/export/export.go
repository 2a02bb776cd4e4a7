// Package export gives people everything that the box holds about them, as one
// archive that can be read without this software: docs/export.md is its description
// (policy 6.1).
//
// An export is a list, made in one state of the records, of what is in the archive
// and where. The archive itself is never made: whatever part of it is asked for is
// put together from the list and the contents on the disk. So it costs no room, and a
// client that was cut off goes on at the byte where it was. What is deleted after the
// list was made is missing in the archive, which says so.
//
// It is a right and needs no consent.
package export

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
	"yunbox.local/storage/vfs"
)

// kept is how long an export can be fetched.
const kept = 7 * 24 * time.Hour

// Signer is the box whose export it is.
type Signer struct {
	ID   string `json:"id"`
	Key  string `json:"key"`  // fingerprint of its key
	SPKI string `json:"spki"` // the key itself, base64
}

// Options of New. All but Log and Now are needed.
type Options struct {
	DB      *db.DB
	Audit   *audit.Log
	Catalog *catalog.Catalog
	Rights  func() *rights.Register
	// Open returns a content of a person for reading.
	Open func(context.Context, catalog.Item) (io.ReadSeekCloser, error)
	// Sign signs a text as the box: a JWS in compact form with that typ.
	Sign func(typ string, payload []byte) (string, error)
	Box  func() (Signer, error)
	// Left writes down within tx that p takes the export away; nil: nobody does.
	Left func(tx *db.Tx, p ident.Principal, id string) error
	// Dir is where lists of exports are kept. It need not exist.
	Dir     string
	Version string // of the software
	Log     *slog.Logger
	Now     func() time.Time
}

// Room makes exports. It is safe for concurrent use.
type Room struct {
	opt  Options
	log  *slog.Logger
	now  func() time.Time
	jobs chan *Export

	mu     sync.Mutex
	dir    *vfs.Dir // nil before it was needed
	people map[ident.UserID]*Export
	closed bool
	ready  chan struct{} // closed once Run has read what an earlier run left
}

// State is how far an export is.
type State string

// The states of an export.
const (
	Preparing State = "preparing"
	Ready     State = "ready"
	Failed    State = "failed"
)

// Choice is what a person wants in the archive besides their files.
type Choice struct {
	Versions bool `json:"versions"` // what files held before
	Trash    bool `json:"trash"`    // what is in the trash
}

// Export is one export of one person.
type Export struct {
	plan
	cancel context.CancelFunc
	gone   context.Context // ends when it is removed

	listed  atomic.Int64 // entries so far
	sent    atomic.Int64 // where the newest reader of the archive is
	fetched atomic.Bool  // that is in the record, since the box started
	state   atomic.Pointer[State]
	failure atomic.Pointer[problem.Error]
	missing missing

	progress // the room's mu guards it
}

// plan is what is kept of an export, in plan.json.
type plan struct {
	ID      string       `json:"id"`
	User    ident.UserID `json:"user"`
	Created time.Time    `json:"created"`
	Expires time.Time    `json:"expires"`
	Choice  Choice       `json:"choice"`
	Change  int64        `json:"change"` // the person's change number
	Files   int64        `json:"files"`
	Bytes   int64        `json:"bytes"`   // of the files
	Head    int64        `json:"head"`    // length of the file head
	Entries int64        `json:"entries"` // length of what follows it
	Items   int64        `json:"items"`   // where items.jsonl begins in the head
	ItemsOf int64        `json:"items_of"`
	Marks   []mark       `json:"marks"`
	Go      string       `json:"go"` // what made it: headers are made anew for each reader
}

// mark says where the entry of every markEvery-th line begins.
type mark struct {
	Line  int64 `json:"l"` // in items.jsonl
	Entry int64 `json:"e"` // behind the head
}

const markEvery = 256

const (
	headFile = "head"
	planFile = "plan.json"
	holeList = "missing"
)

// Info is an export as its person sees it.
type Info struct {
	ID       string
	State    State
	Choice   Choice
	Created  time.Time
	Expires  time.Time
	Listed   int64 // files so far; once it is ready, all
	Bytes    int64 // of the files
	Size     int64 // of the archive; 0: not known yet
	Sent     int64 // how far it was read
	Missing  int64 // files that were gone when they were to be read
	FileName string
	Failure  *problem.Error // why it failed; nil: it did not
}

// New makes the room. It touches no disk.
func New(opt Options) *Room {
	r := &Room{
		opt: opt, log: opt.Log, now: opt.Now, jobs: make(chan *Export, 64), people: map[ident.UserID]*Export{}, ready: make(chan struct{}),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Run finds the exports of an earlier run, makes the lists that are asked for, one
// after the other, and removes what is over, until ctx ends.
func (r *Room) Run(ctx context.Context) {
	if err := r.load(); err != nil {
		r.log.Warn("exports of an earlier run cannot be read", "err", err)
	}
	close(r.ready)
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.expire()
		case e := <-r.jobs:
			r.prepare(ctx, e)
		}
	}
}

// Close lets go of the room's folder.
func (r *Room) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, e := range r.people {
		e.cancel()
	}
	if r.dir == nil {
		return nil
	}
	err := r.dir.Close()
	r.dir = nil
	return err
}

// folder opens the room's folder, made when it is missing and create is set.
func (r *Room) folder(create bool) (*vfs.Dir, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fs.ErrClosed
	}
	if r.dir != nil {
		return r.dir, nil
	}
	if create {
		if err := vfs.CreateDir(r.opt.Dir); err != nil {
			return nil, err
		}
	}
	d, err := vfs.OpenDir(r.opt.Dir)
	if err == nil {
		r.dir = d
	}
	return d, err
}

func newExport(p plan) *Export {
	e := &Export{plan: p}
	e.gone, e.cancel = context.WithCancel(context.Background())
	return e
}

func (e *Export) is(s State) { e.state.Store(&s) }

// load takes over what an earlier run finished and removes the rest.
func (r *Room) load() error {
	d, err := r.folder(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var p plan
		data, err := vfs.ReadFile(d, path.Join(entry.Name(), planFile))
		if err == nil {
			err = json.Unmarshal(data, &p)
		}
		if err != nil || p.ID != entry.Name() || p.Go != r.maker() || !r.now().Before(p.Expires) {
			if err := remove(d, entry.Name()); err != nil {
				return err
			}
			continue
		}
		e := newExport(p)
		e.listed.Store(p.Files)
		e.is(Ready)
		if err := e.missing.load(d, path.Join(p.ID, holeList)); err != nil {
			return err
		}
		r.mu.Lock()
		r.people[p.User] = e
		r.mu.Unlock()
	}
	return nil
}

// maker names what headers were made by: another program may write them longer.
func (r *Room) maker() string { return runtime.Version() + " " + r.opt.Version }

// remove removes the folder of an export.
func remove(d *vfs.Dir, id string) error {
	entries, err := d.ReadDir(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	// The plan goes first: without it nothing counts.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int {
		return strings.Compare(b.Name(), a.Name())
	})
	for _, e := range entries {
		if err := d.Remove(path.Join(id, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := d.Remove(id); err != nil {
		return err
	}
	return d.SyncDir(".")
}

func (r *Room) expire() {
	r.mu.Lock()
	var over []*Export
	for u, e := range r.people {
		if !r.now().Before(e.Expires) {
			over = append(over, e)
			delete(r.people, u)
		}
	}
	r.mu.Unlock()
	for _, e := range over {
		r.drop(e)
	}
}

func (r *Room) drop(e *Export) {
	e.cancel()
	d, err := r.folder(false)
	if err == nil {
		err = remove(d, e.ID)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("the list of an export cannot be removed", "err", err)
	}
}

var encoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Begin has the list of an export made, in the place of the person's one before.
func (r *Room) Begin(ctx context.Context, p ident.Principal, want Choice) (Info, error) {
	if err := r.settled(ctx); err != nil {
		return Info{}, err
	}
	var id [16]byte
	rand.Read(id[:])
	now := r.now().UTC().Truncate(time.Millisecond)
	e := newExport(plan{ID: encoding.EncodeToString(id[:]), User: p.User, Created: now, Expires: now.Add(kept), Choice: want, Go: r.maker()})
	e.is(Preparing)
	if err := r.note(ctx, p, "export.begin", e.ID); err != nil {
		return Info{}, err
	}
	r.mu.Lock()
	old := r.people[p.User]
	select {
	case r.jobs <- e:
		r.people[p.User] = e
	default:
		r.mu.Unlock()
		return Info{}, &problem.Error{
			Kind: problem.Unavailable, Op: "export.begin", Title: "Too many exports are waiting", Hint: "Try again in a few minutes.", RetryAfter: time.Minute,
		}
	}
	r.mu.Unlock()
	if old != nil {
		r.drop(old)
	}
	return e.info(), nil
}

func (r *Room) note(ctx context.Context, p ident.Principal, action, id string) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error { return r.append(tx, p, action, id) })
}

func (r *Room) append(tx *db.Tx, p ident.Principal, action, id string) error {
	return r.opt.Audit.Append(tx, audit.Event{Actor: p.User, Action: action, Subject: p.User, Object: id, Device: p.Device, Via: "http"})
}

// settled waits until the exports of an earlier run are known.
func (r *Room) settled(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Export) info() Info {
	i := Info{
		ID: e.ID, State: *e.state.Load(), Choice: e.Choice, Created: e.Created, Expires: e.Expires, Listed: e.listed.Load(),
		Sent: e.sent.Load(), Missing: e.missing.count(), Failure: e.failure.Load(), FileName: fmt.Sprintf("yunbox-%s.tar", e.Created.Format("2006-01-02")),
	}
	if i.State == Ready {
		i.Bytes, i.Size = e.Bytes, e.size()
	}
	return i
}

// List returns the exports of a person: one at most.
func (r *Room) List(ctx context.Context, u ident.UserID) ([]Info, error) {
	if err := r.settled(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.people[u]; e != nil && r.now().Before(e.Expires) {
		return []Info{e.info()}, nil
	}
	return []Info{}, nil
}

func (r *Room) find(ctx context.Context, u ident.UserID, id string) (*Export, error) {
	if err := r.settled(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.people[u]; e != nil && e.ID == id && r.now().Before(e.Expires) {
		return e, nil
	}
	return nil, &problem.Error{
		Kind: problem.NotFound, Op: "export.find", Title: "There is no such export",
		Detail: "It may be over, or another one has taken its place.", Hint: "Begin a new one.",
	}
}

// Info returns one export of a person.
func (r *Room) Info(ctx context.Context, u ident.UserID, id string) (Info, error) {
	e, err := r.find(ctx, u, id)
	if err != nil {
		return Info{}, err
	}
	return e.info(), nil
}

// Remove removes an export of a person. What is being fetched ends.
func (r *Room) Remove(ctx context.Context, u ident.UserID, id string) error {
	e, err := r.find(ctx, u, id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.people[u] == e {
		delete(r.people, u)
	}
	r.mu.Unlock()
	r.drop(e)
	return nil
}

// prepare makes the list of e.
func (r *Room) prepare(ctx context.Context, e *Export) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(e.gone, stop)()
	r.told(e, func(p *progress) { p.began = r.now() })
	defer r.told(e, func(p *progress) { p.ended = r.now() })
	err := r.build(ctx, e)
	if err == nil && e.gone.Err() == nil {
		e.is(Ready)
		return
	}
	if ctx.Err() == nil {
		r.log.Error("an export cannot be made", "err", err)
	}
	e.failure.Store(explain(err))
	e.is(Failed)
	if d, err := r.folder(false); err == nil {
		if err := remove(d, e.ID); err != nil {
			r.log.Warn("the list of an export cannot be removed", "err", err)
		}
	}
}

// Held says what this room keeps about people.
func (r *Room) Held() rights.Holder {
	return rights.Holder{Package: "export", Categories: []rights.Category{{
		ID: "exports", Title: rights.Words{EN: "Exports", ZH: "导出"},
		What:  rights.Words{EN: "The list of what is in an export that you asked for, until you have fetched it. Not the files themselves.", ZH: "您所请求的导出的内容清单，供下载期间使用；不含文件本身。"},
		From:  rights.Words{EN: "From the box, when you asked for it.", ZH: "由盒子应您的请求生成。"},
		Kept:  rights.Words{EN: "Seven days, or until you remove it or ask for another.", ZH: "七天；手动移除或再次请求时提前移除。"},
		Fix:   rights.Words{EN: "Ask for another one.", ZH: "重新请求一份即可。"},
		Erase: rights.Erase{Step: r.erase, Lists: "files"},
		Files: func(ctx context.Context, u ident.UserID) (list []rights.Record, err error) {
			all, err := r.List(ctx, u)
			for _, i := range all {
				list = append(list, rights.Record{Kind: "export", Fields: []rights.Field{
					{Name: "id", Value: i.ID}, {Name: "state", Value: string(i.State)}, {Name: "created", Value: i.Created.Format(rights.TimeFormat)},
					{Name: "expires", Value: i.Expires.Format(rights.TimeFormat)}, {Name: "files", Value: i.Listed},
				}})
			}
			return list, err
		},
	}}}
}

// erase removes the export of a person, and ends what is being fetched.
func (r *Room) erase(ctx context.Context, u ident.UserID, _ rights.Which, _ int) (int, error) {
	if err := r.settled(ctx); err != nil {
		return 0, err
	}
	r.mu.Lock()
	e := r.people[u]
	r.mu.Unlock()
	if e == nil {
		return 0, nil
	}
	e.cancel()
	d, err := r.folder(false)
	if err == nil {
		err = remove(d, e.ID)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	r.mu.Lock()
	if r.people[u] == e {
		delete(r.people, u)
	}
	r.mu.Unlock()
	return 1, nil
}

// Package update is the daemon's part of a change of its own software: it takes bundles
// in and verifies them, asks the updater, which is another program and root's, to put one
// in place, and proves itself after that. See docs/update.md.
package update

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update/bundle"
	"yunbox.local/daemon/update/install"
	"yunbox.local/storage/vfs"
)

// Options of New. All but Release, Software, Roots and Authorities are needed.
type Options struct {
	DB      *db.DB
	Audit   *audit.Log
	Outside *disclosure.Register
	Log     *slog.Logger
	State   vfs.FS // the state directory
	Version string // of the software
	// Release is what runs; the zero value: it was not installed, and cannot be changed.
	Release bundle.Release
	// Software is the folder in which releases lie; nil: see Release.
	Software fs.FS
	Roots    []ed25519.PublicKey // none: no bundle is taken
	// Authorities are further ones to trust when a bundle is fetched; nil: the system's.
	Authorities *x509.CertPool
	// Roll makes a generation of the database, before it may be changed.
	Roll func(context.Context) error
	// Notify tells the owner and the admins, within tx.
	Notify func(tx *db.Tx, kind string) error
	// Test has the box prove itself; it returns the word of the check that failed.
	Test func(context.Context) (failed string)
	// Answered lists the network interfaces on which the box answers by mDNS now; nil: that
	// is not known of any.
	Answered func(context.Context) []string
}

// Kinds of notices.
const (
	NoticeKept   = "update_kept"   // the software was changed
	NoticeFailed = "update_failed" // it was not, or the version before came back
)

// Room is safe for concurrent use.
type Room struct {
	opt   Options
	trial install.Trial // the zero value: this is no trial
	heard heard         // before the trial

	one    sync.Mutex    // held while a bundle comes in or is asked for
	wake   chan struct{} // something was asked for
	opened chan struct{} // closed once the box is for everybody
	once   sync.Once

	offering chan struct{} // holds one for each that fetches
}

// Who does something: a person who manages the box, or root.
type Who struct {
	User ident.UserID
	Via  string
}

// New makes the room, and reads whether this daemon is on trial.
func New(opt Options) (*Room, error) {
	r := &Room{opt: opt, wake: make(chan struct{}, 1), opened: make(chan struct{}), offering: make(chan struct{}, offers)}
	if err := opt.State.Mkdir(install.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("update: %w", err)
	}
	if _, err := install.ReadJSON(opt.State, install.TrialFile, &r.trial); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	if r.trial.ID != "" {
		if _, err := install.ReadJSON(opt.State, heardFile, &r.heard); err != nil || r.heard.ID != r.trial.ID {
			r.heard = heard{} // of another update: the version before this one noted nothing down
		}
	}
	if !r.trial.Closed {
		r.open()
	}
	return r, nil
}

// heard are the network interfaces on which the box answered by mDNS when an update was
// asked for.
type heard struct {
	ID    string   `json:"id"` // of the request
	Links []string `json:"links"`
}

// AnsweredBefore are the network interfaces on which the version before the one on trial
// answered by mDNS; none if that is not known, or this is no trial.
func (r *Room) AnsweredBefore() []string { return r.heard.Links }

func (r *Room) open() { r.once.Do(func() { close(r.opened) }) }

// Closed says why nothing may be taken from anybody now, nil if it may: the box is on
// trial with records that would be put back. It is called on every request.
func (r *Room) Closed() error {
	select {
	case <-r.opened:
		return nil
	default:
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "update", RetryAfter: 10 * time.Second, Title: "The box tries a new version out",
		Detail: "It takes nothing in until that has proved itself, in a minute or so.", Hint: "Try again in a moment. Nothing is lost."}
}

// Await returns once the box is for everybody; false: ctx ended before.
func (r *Room) Await(ctx context.Context) bool {
	select {
	case <-r.opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run tries this daemon out if it is on trial, and tells how updates ended, until ctx
// ends.
func (r *Room) Run(ctx context.Context) {
	if r.trial.ID != "" {
		r.prove(ctx)
	}
	for ctx.Err() == nil {
		if err := r.settle(ctx); err != nil && ctx.Err() == nil {
			r.opt.Log.Error("how the update ended cannot be recorded", "err", err)
		}
		var tick <-chan time.Time
		if r.pending() != "" {
			tick = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
		case <-tick:
		case <-r.wake:
		}
	}
}

// prove runs the checks, says how they went, and waits until the updater has decided.
func (r *Room) prove(ctx context.Context) {
	h := install.Health{ID: r.trial.ID, Counter: r.opt.Release.Counter}
	for range 3 { // a busy box is no broken one
		if h.Failed = r.opt.Test(ctx); h.Failed == "" || ctx.Err() != nil {
			break
		}
		r.opt.Log.Warn("a check of the new version fails", "check", h.Failed)
		pause(ctx, 2*time.Second)
	}
	if ctx.Err() != nil {
		return
	}
	h.OK = h.Failed == ""
	if err := write(r.opt.State, install.HealthFile, h); err != nil {
		r.opt.Log.Error("the updater cannot be told", "err", err)
	}
	r.opt.Log.Info("the new version was tried out", "ok", h.OK, "failed", h.Failed)
	for ctx.Err() == nil {
		if _, err := r.opt.State.Stat(install.TrialFile); errors.Is(err, fs.ErrNotExist) {
			r.open()
			return
		}
		pause(ctx, 250*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

const (
	toldKey    = "update_told"    // the last result that was recorded
	highestKey = "update_highest" // counter of the newest release that was ever kept
)

// settle records how the last request ended, once, and tells who manages the box.
func (r *Room) settle(ctx context.Context) error {
	var res install.Result
	if ok, err := install.ReadJSON(r.opt.State, install.ResultFile, &res); err != nil || !ok {
		return err
	}
	if told, err := r.value(ctx, toldKey); err != nil || told == res.ID {
		return err
	}
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		detail := map[string]string{"version": res.Version, "counter": strconv.FormatInt(res.Counter, 10), "runs": res.Runs, "what": res.Action}
		if res.Why != "" {
			detail["why"] = res.Why
		}
		if err := r.opt.Audit.Append(tx, audit.Event{Action: "update." + res.Outcome, Via: "box", Detail: detail}); err != nil {
			return err
		}
		kind := NoticeFailed
		if res.Outcome == install.OutcomeKept {
			kind = NoticeKept
			if res.Action == install.Install {
				if err := set(tx, highestKey, strconv.FormatInt(res.Counter, 10)); err != nil {
					return err
				}
			}
		}
		if err := r.opt.Notify(tx, kind); err != nil {
			return err
		}
		return set(tx, toldKey, res.ID)
	})
}

func set(tx *db.Tx, key, value string) error {
	_, err := tx.Exec(`INSERT INTO box (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return err
}

func (r *Room) value(ctx context.Context, key string) (value string, err error) {
	err = r.opt.DB.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT coalesce((SELECT value FROM box WHERE key = ?), '')`, key).Scan(&value)
	})
	return value, err
}

// fit is what a bundle must fit: the highest counter counts wherever it is kept.
func (r *Room) fit(ctx context.Context) (b bundle.Box, err error) {
	if r.opt.Release.Counter == 0 {
		return b, &problem.Error{Kind: problem.Unsupported, Op: "update", Title: "This box was not installed from a package",
			Detail: "There is no release that could be changed.", Hint: "Update it in the way it was installed."}
	}
	kept, err := r.kept()
	if err != nil {
		return b, err
	}
	text, err := r.value(ctx, highestKey)
	if err != nil {
		return b, err
	}
	known, _ := strconv.ParseInt(text, 10, 64)
	rel := r.opt.Release
	return bundle.Box{Arch: rel.Arch, Counter: rel.Counter, Highest: max(rel.Counter, kept.Highest, known), Floor: kept.Floor, Schema: rel.MaxSchema}, nil
}

func (r *Room) kept() (k install.Kept, err error) {
	_, err = install.ReadJSON(r.opt.State, install.KeptFile, &k)
	return k, err
}

const (
	keysFile    = install.Dir + "/keys" // the newest list of keys that the daemon saw
	partFile    = install.Dir + "/incoming.part"
	waitingFile = install.Dir + "/waiting" // a Waiting
	heardFile   = install.Dir + "/heard"   // a heard
)

func (r *Room) trust() (bundle.Trust, error) {
	list, err := vfs.ReadFile(r.opt.State, keysFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return bundle.Trust{Roots: r.opt.Roots, List: list}, err
}

// Waiting is a bundle that was verified and can be installed.
type Waiting struct {
	Version string `json:"version"`
	Counter int64  `json:"counter"`
	Channel string `json:"channel"`
	Created string `json:"created"`
	Size    int64  `json:"size" doc:"Bytes"`
	// Moves: while it is tried out, the box takes nothing in.
	Moves bool `json:"moves" doc:"It moves the box's records: nothing is taken in while it is tried out"`
}

// Take reads a bundle and verifies it while it is read. What it writes before all of it
// was verified is a file that nothing reads. Afterwards it waits, in the place of one
// that waited before.
func (r *Room) Take(ctx context.Context, by Who, from io.Reader) (w Waiting, err error) {
	if err := r.free(); err != nil {
		return w, err
	}
	defer r.one.Unlock()
	box, err := r.fit(ctx)
	if err != nil {
		return w, err
	}
	trust, err := r.trust()
	if err != nil {
		return w, err
	}
	if w, err = r.take(ctx, from, trust, box); err != nil {
		var p *problem.Error
		if errors.As(err, &p) {
			err = errors.Join(r.note(ctx, by, "update.refuse", map[string]string{"kind": string(p.Kind)}), err)
		}
		return w, errors.Join(err, gone(r.opt.State, partFile))
	}
	return w, r.note(ctx, by, "update.take", map[string]string{"version": w.Version, "counter": strconv.FormatInt(w.Counter, 10)})
}

func (r *Room) take(ctx context.Context, from io.Reader, trust bundle.Trust, box bundle.Box) (w Waiting, err error) {
	state := r.opt.State
	if err := gone(state, partFile); err != nil {
		return w, err
	}
	f, err := state.OpenFile(partFile, vfs.CreateNew, 0o600)
	if err != nil {
		return w, err
	}
	defer f.Close()
	out := &quarantine{ctx: ctx, from: from, to: f}
	b, err := bundle.Open(out, trust)
	if err != nil {
		return w, err
	}
	h := b.Header
	if err := h.Fits(box); err != nil {
		return w, err
	}
	space, err := state.Space()
	if err != nil {
		return w, err
	}
	if space.Free < 2*h.Size+(32<<20) {
		return w, &problem.Error{Kind: problem.Full, Op: "update", Title: "There is no room for the update",
			Detail: problem.Bytes(2*h.Size+(32<<20)-space.Free) + " more are needed.", Hint: "Nothing was changed. Make room, then try again."}
	}
	if err := b.Unpack(func(_ string, _, _ int64, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	}); err != nil {
		return w, err
	}
	if err := f.Sync(); err != nil {
		return w, err
	}
	if err := vfs.WriteFile(state, keysFile, b.KeyListFile, 0o600); err != nil {
		return w, err
	}
	w = Waiting{Version: h.Version, Counter: h.Counter, Channel: h.Channel, Created: h.Created, Size: b.Head + h.Size, Moves: h.MaxSchema != box.Schema}
	if err := gone(state, waitingFile); err != nil {
		return w, err
	}
	if err := state.Rename(partFile, install.BundleFile); err != nil {
		return w, err
	}
	if err := state.SyncDir(install.Dir); err != nil {
		return w, err
	}
	return w, write(state, waitingFile, w)
}

// quarantine writes down what a reader takes.
type quarantine struct {
	ctx  context.Context
	from io.Reader
	to   io.Writer
}

func (q *quarantine) Read(p []byte) (int, error) {
	if q.ctx.Err() != nil {
		return 0, context.Cause(q.ctx)
	}
	n, err := q.from.Read(p)
	if _, failed := q.to.Write(p[:n]); failed != nil {
		return 0, failed
	}
	return n, err
}

// free takes the lock, or says that something runs.
func (r *Room) free() error {
	if r.one.TryLock() {
		_, err := r.opt.State.Stat(install.TrialFile)
		if r.pending() == "" && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		r.one.Unlock()
	}
	return &problem.Error{Kind: problem.Locked, Op: "update", Title: "An update is running already", Hint: "Wait for it."}
}

// pending is what was asked for and has not ended, "" if nothing.
func (r *Room) pending() string {
	var req install.Request
	if ok, err := install.ReadJSON(r.opt.State, install.RequestFile, &req); err != nil || !ok {
		return ""
	}
	return req.Action
}

func (r *Room) note(ctx context.Context, by Who, action string, detail map[string]string) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		return r.opt.Audit.Append(tx, audit.Event{Actor: by.User, Action: action, Via: by.Via, Detail: detail})
	})
}

// Install asks the updater for the bundle that waits, if it is still that with counter.
func (r *Room) Install(ctx context.Context, by Who, counter int64) error {
	w, err := r.waiting()
	switch {
	case err != nil:
		return err
	case w == nil || w.Counter != counter:
		return &problem.Error{Kind: problem.NotFound, Op: "update.install", Title: "No update is waiting", Hint: "Nothing was changed. Give the box the file again."}
	}
	return r.ask(ctx, by, install.Install)
}

// Rollback asks the updater for the release before. It says no by itself where that
// cannot be.
func (r *Room) Rollback(ctx context.Context, by Who) error {
	if _, err := r.fit(ctx); err != nil {
		return err
	}
	return r.ask(ctx, by, install.Rollback)
}

func (r *Room) ask(ctx context.Context, by Who, action string) error {
	if err := r.free(); err != nil {
		return err
	}
	defer r.one.Unlock()
	// Before anything moves, a checked copy of the records is in their journal.
	if err := r.opt.Roll(ctx); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if err := r.note(ctx, by, "update."+action, nil); err != nil {
		return err
	}
	b := make([]byte, 10)
	rand.Read(b)
	id := base32.StdEncoding.EncodeToString(b)
	before := heard{ID: id}
	if r.opt.Answered != nil {
		before.Links = r.opt.Answered(ctx)
	}
	if err := write(r.opt.State, heardFile, before); err != nil {
		return err
	}
	if err := write(r.opt.State, install.RequestFile, install.Request{ID: id, Action: action}); err != nil {
		return err
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

// Discard throws away what waits.
func (r *Room) Discard(ctx context.Context, by Who) error {
	if err := r.free(); err != nil {
		return err
	}
	defer r.one.Unlock()
	for _, name := range []string{waitingFile, install.BundleFile} {
		if err := gone(r.opt.State, name); err != nil {
			return err
		}
	}
	return r.note(ctx, by, "update.discard", nil)
}

func (r *Room) waiting() (*Waiting, error) {
	var w Waiting
	ok, err := install.ReadJSON(r.opt.State, waitingFile, &w)
	if err != nil || !ok {
		return nil, err
	}
	if _, err := r.opt.State.Stat(install.BundleFile); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &w, nil
}

// State is how the box's software stands.
type State struct {
	Version   string          `json:"version"`
	Counter   int64           `json:"counter" doc:"Of the release that runs; 0: it was not installed from a package"`
	Keys      bool            `json:"keys" doc:"Whether this build knows a maker whose updates it takes"`
	KeyList   int64           `json:"key_list" doc:"Number of the newest list of keys that the box saw; 0: none"`
	Highest   int64           `json:"highest" doc:"Counter below which no update is taken"`
	Floor     int64           `json:"floor" doc:"Counter below which the box does not go back"`
	Previous  *string         `json:"previous" doc:"The version before, which the box can go back to; null: none"`
	Waiting   *Waiting        `json:"waiting" doc:"Verified, and not installed; null: none"`
	Running   *string         `json:"running" doc:"install or rollback while one runs; null: nothing runs"`
	OnTrial   bool            `json:"on_trial" doc:"This version still has to prove itself"`
	TakesNone bool            `json:"closed" doc:"Nothing is taken in until it has"`
	Last      *install.Result `json:"last" doc:"How the last one ended; null: there was none"`
}

// State says how the box's software stands.
func (r *Room) State(ctx context.Context) (s State, err error) {
	s = State{Version: r.opt.Version, Counter: r.opt.Release.Counter, Keys: len(r.opt.Roots) > 0, TakesNone: r.Closed() != nil}
	if s.Counter != 0 {
		box, err := r.fit(ctx)
		if err != nil {
			return s, err
		}
		s.Highest, s.Floor = box.Highest, box.Floor
	}
	if s.Previous, err = r.previous(); err != nil {
		return s, err
	}
	if s.Waiting, err = r.waiting(); err != nil {
		return s, err
	}
	if running := r.pending(); running != "" {
		s.Running = &running
	}
	_, err = r.opt.State.Stat(install.TrialFile)
	s.OnTrial = err == nil && r.trial.ID != ""
	if trust, err := r.trust(); err == nil && trust.List != nil {
		if l, _, err := bundle.ParseKeyList(trust.List); err == nil {
			s.KeyList = l.Counter
		}
	}
	var last install.Result
	if ok, err := install.ReadJSON(r.opt.State, install.ResultFile, &last); err != nil {
		return s, err
	} else if ok {
		s.Last = &last
	}
	return s, nil
}

// previous is the version of the release before, nil if the box cannot go back to it.
func (r *Room) previous() (*string, error) {
	kept, err := r.kept()
	if err != nil || r.opt.Software == nil || kept.Previous == "" || !fs.ValidPath(kept.Previous) {
		return nil, err
	}
	text, err := fs.ReadFile(r.opt.Software, path.Join(kept.Previous, bundle.ReleaseFile))
	if err != nil {
		return nil, nil // it is not there any more
	}
	rel, err := bundle.ParseRelease(text)
	if err != nil || rel.Counter < kept.Floor || rel.MaxSchema != r.opt.Release.MaxSchema {
		return nil, nil
	}
	return &rel.Version, nil
}

// maxFetch and patience bound what a server elsewhere can cost.
const (
	maxFetch = bundle.MaxPayload + (1 << 20)
	patience = 30 * time.Minute
)

// Fetch takes a bundle from an address on the internet or, with another box's address,
// from that. Whom it comes from does not matter: the signature does. What leaves is that
// the box asked, which is written down first.
func (r *Room) Fetch(ctx context.Context, by Who, address string, fromBox bool) (Waiting, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "https" || at.Host == "" || at.User != nil {
		return Waiting{}, &problem.Error{Kind: problem.Invalid, Op: "update.fetch", Title: "That is no address of an update", Hint: "It begins with https:// and holds no password."}
	}
	options := disclosure.ClientOptions{Hosts: []string{at.Hostname()}, Roots: r.opt.Authorities, MaxAnswer: maxFetch, Patience: patience}
	kind := "internet"
	if fromBox {
		// A box's certificate is its own, and who it is does not matter here.
		options.AnyServer, kind = true, "box"
		at.Path, at.RawQuery, at.Fragment = "/v1/update/offer", "", ""
	}
	e := disclosure.Entry{Kind: disclosure.UpdateFetch, Categories: []string{"network_address"}, Why: "update_" + kind, Basis: disclosure.ByOwner, Actor: by.User}
	req, err := http.NewRequestWithContext(disclosure.With(ctx, e), http.MethodGet, at.String(), nil)
	if err != nil {
		return Waiting{}, err
	}
	req.Header.Set("User-Agent", "")
	resp, err := r.opt.Outside.Client(options).Do(req)
	if err != nil {
		return Waiting{}, &problem.Error{Kind: problem.Unavailable, Op: "update.fetch", Err: err, Title: "The update cannot be fetched",
			Detail: "Nobody answers at " + at.Host + ", or not as it should.", Hint: "Look at the address and at the network, or fetch the file yourself and give it to the box."}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Waiting{}, &problem.Error{Kind: problem.NotFound, Op: "update.fetch", Title: "There is no update at that address",
			Detail: fmt.Sprintf("%s answers %d.", at.Host, resp.StatusCode), Hint: "Look at the address. The box follows no forwarding."}
	}
	return r.Take(ctx, by, resp.Body)
}

func write(fsys vfs.FS, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return vfs.WriteFile(fsys, name, append(b, '\n'), 0o600)
}

func gone(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

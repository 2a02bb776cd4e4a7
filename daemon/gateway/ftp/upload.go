package ftp

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

const (
	// marker is the Extra of this gateway's uploads.
	marker = "ftp"
	// persistAfter is from how many bytes on an upload survives a power cut. Photos
	// are smaller and cost no write of their own; they are sent again.
	persistAfter = 16 << 20
	// checkpointEvery is how many bytes of a larger one a power cut may cost.
	checkpointEvery = 64 << 20
	// lastLook is how long after the end of its data a client must still be there, and
	// two round trips more, but not over mostLook. A killed one closes all its
	// connections at once, and one that gives up says so within this time.
	lastLook = 10 * time.Millisecond
	mostLook = 250 * time.Millisecond
	// letGo is how long a broken upload may take to be kept.
	letGo = 20 * time.Second
)

// An upload is a STOR or APPE, as the library's file.
type upload struct {
	d         *dropBox
	s         *session
	intake    *ingest.Intake
	revoked   atomic.Pointer[problem.Error] // the password was, meanwhile; nil: not
	base      int64                         // bytes that were here before
	skip      int64                         // bytes that come again: see standsAt
	announced int64                         // by ALLO; -1: nothing
	received  atomic.Int64
	failed    error
	done      chan struct{} // closed when the intake was let go of
}

// GetHandle implements ftpserver.ClientDriverExtentionFileTransfer. Whatever can be
// refused is refused here, before the data connection is taken.
func (d *dropBox) GetHandle(name string, flags int, offset int64) (ftpserver.FileTransfer, error) {
	ctx := context.Background()
	announced := d.s.announced
	d.s.announced = -1
	if flags&os.O_WRONLY == 0 {
		return nil, d.dropOnly()
	}
	if name == "/" {
		return nil, ftpserver.ErrFileNameNotAllowed
	}
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	p, err := d.path(name)
	if err != nil {
		return nil, err
	}
	g := d.s.g
	if !g.transfers(d.s) {
		return nil, d.s.refuse(brokenOff("The client was gone before it could be answered."))
	}
	u := &upload{d: d, s: d.s, announced: announced, done: make(chan struct{})}
	if err := u.begin(ctx, p, flags&os.O_APPEND != 0, offset); err != nil {
		g.sessions.Done()
		return nil, d.s.refuse(err)
	}
	u.base = u.intake.Offset()
	g.mu.Lock()
	g.running[u] = struct{}{}
	g.mu.Unlock()
	go u.watch()
	return u, nil
}

// watch ends the upload, blocked or not, once the password that it came with was
// revoked.
func (u *upload) watch() {
	again := time.NewTicker(u.s.g.Limits.Recheck)
	defer again.Stop()
	for {
		select {
		case <-u.done:
			return
		case <-again.C:
		}
		err := u.s.g.Accounts.CameraStillIn(context.Background(), u.d.who)
		if problem.KindOf(err) == problem.Unauthenticated { // a fault of ours is no reason to drop what comes
			u.revoked.Store(problem.As(err))
			u.s.breakData()
			return
		}
	}
}

// begin takes up what the client goes on with, or a new upload.
func (u *upload) begin(ctx context.Context, p string, appends bool, offset int64) error {
	g, who := u.s.g, u.d.who
	meta := ingest.Meta{Device: who.Device, Source: source, Path: p, Size: -1, Extra: marker}
	grant, err := g.Ingest.Grant(ctx, who.User, meta)
	if err != nil {
		return err
	}
	if _, err := g.Catalog.Folder(ctx, who.User, p); err == nil {
		return &problem.Error{Kind: problem.Conflict, Op: "ftp.store", Title: "A folder has that name",
			Hint: "Give the file another name, or put it into the folder."}
	} else if problem.KindOf(err) != problem.NotFound {
		return err
	}
	if u.announced > 0 {
		// What ALLO announces is refused before it is sent. It is no size to hold the
		// client to: it may be the rest of a file, or more than comes.
		ahead := meta
		ahead.Size = u.announced
		test, err := g.Ingest.Begin(ctx, grant, ahead)
		if err != nil {
			return err
		}
		if err := test.Close(); err != nil {
			return err
		}
	}
	if !appends && offset == 0 {
		u.intake, err = g.Ingest.Begin(ctx, grant, meta)
		return err
	}
	g.displace(ctx, u.d, p)
	ids, err := g.Ingest.Pending(ctx, who.User, p, marker)
	if err != nil {
		return err
	}
	if appends {
		told, asked := u.s.told[p]
		if !asked && len(ids) > 0 {
			return &problem.Error{Kind: problem.Conflict, Op: "ftp.append", Title: "An unfinished upload of that name is here",
				Detail: "Where the bytes belong is not said.", Hint: "Ask with SIZE how much of it there is, and go on from there."}
		}
		offset = told
	}
	if len(ids) > 0 {
		if u.intake, err = g.Ingest.Resume(ctx, grant, ids[0]); err != nil {
			return err
		}
		u.skip = u.intake.Offset() - offset
		if u.skip == 0 || u.skip == 1 {
			return nil
		}
		return errors.Join(wrongPlace(), u.intake.Close())
	}
	it, err := u.d.item(ctx, p)
	if problem.KindOf(err) == problem.NotFound && offset == 0 {
		u.intake, err = g.Ingest.Begin(ctx, grant, meta)
		return err
	}
	if err != nil {
		return err
	}
	if appends && offset == 0 {
		offset = it.Size
	}
	if offset != it.Size {
		return wrongPlace()
	}
	if u.intake, err = g.Ingest.Begin(ctx, grant, meta); err != nil {
		return err
	}
	if err := u.copy(ctx, it); err != nil {
		return errors.Join(err, u.intake.Close())
	}
	return nil
}

func wrongPlace() error {
	return &problem.Error{Kind: problem.Conflict, Op: "ftp.resume", Title: "The bytes do not follow on what is here",
		Detail: "The upload stands at another place.", Hint: "Ask with SIZE where it stands, or send the file again."}
}

// copy begins with the bytes of a stored file: its sender goes on with it. They must
// be the stored ones: what came out damaged would become a good file otherwise.
func (u *upload) copy(ctx context.Context, it catalog.Item) error {
	b, err := u.s.g.Store.Get(ctx, it.Ref)
	if err != nil {
		return err
	}
	defer b.Close()
	hash := sha256.New()
	if _, err := u.intake.Write(ctx, 0, io.TeeReader(b, hash)); err != nil {
		return err
	}
	if storage.Ref(hash.Sum(nil)) != it.Ref {
		return &problem.Error{Kind: problem.Damaged, Op: "ftp.resume", Hint: "Send the file again from its beginning."}
	}
	return nil
}

// standsAt returns from where an upload of p that broke off is to go on, and whether
// there is one: one byte before its end, see the package's comment.
func (d *dropBox) standsAt(ctx context.Context, p string) (size int64, pending bool, err error) {
	d.s.g.displace(ctx, d, p)
	ids, err := d.s.g.Ingest.Pending(ctx, d.who.User, p, marker)
	if err != nil || len(ids) == 0 {
		return 0, false, err
	}
	info, err := d.s.g.Ingest.Describe(ctx, d.who.User, ids[0])
	if problem.KindOf(err) == problem.NotFound || err == nil && info.Finished != nil {
		return 0, false, nil // finished or given up meanwhile
	}
	return max(info.Offset-1, 0), true, err
}

// tell remembers what SIZE told, for the APPE after it.
func (s *session) tell(p string, size int64) {
	if len(s.told) >= maxTold {
		clear(s.told)
	}
	s.told[p] = size
}

// displace ends running uploads of p on other connections once nothing comes for
// them: a camera that asks again has lost its connection and waits for nobody. What
// has arrived is kept.
func (g *Gateway) displace(ctx context.Context, d *dropBox, p string) {
	for _, u := range g.uploadsOf(d, p) {
		u.settle(ctx)
		u.s.close()
		select {
		case <-u.done:
		case <-ctx.Done():
		case <-time.After(letGo):
		}
	}
}

// settle waits until nothing more comes for u: what was sent may lie in the box's own
// buffers still.
func (u *upload) settle(ctx context.Context) {
	const pause, most = 250 * time.Millisecond, 3 * time.Second
	last := int64(-1)
	for end := time.Now().Add(most); time.Now().Before(end); {
		now := u.received.Load()
		if now == last {
			return
		}
		last = now
		select {
		case <-u.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (g *Gateway) uploadsOf(d *dropBox, p string) (list []*upload) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for u := range g.running {
		if u.s != d.s && u.d.who.User == d.who.User && u.intake.Meta().Path == p {
			list = append(list, u)
		}
	}
	return list
}

// ReadFrom implements io.ReaderFrom: io.Copy hands the data connection over.
func (u *upload) ReadFrom(r io.Reader) (int64, error) {
	src := &stream{r: r, u: u}
	switch n, err := io.CopyN(io.Discard, src, u.skip); {
	case errors.Is(err, io.EOF):
		return n, u.s.refuse(wrongPlace())
	case err != nil:
		if revoked := u.revoked.Load(); revoked != nil {
			return n, u.s.refuse(revoked)
		}
		return n, u.s.refuse(brokenOff("The connection ended before the file did."))
	}
	ctx := u.intake.Context()
	for limit := int64(persistAfter); ; limit = checkpointEvery {
		part := &part{stream: src, left: limit}
		n, err := u.intake.Write(ctx, u.intake.Offset(), part)
		if err != nil {
			return u.received.Load(), u.s.refuse(err)
		}
		if n < limit {
			return u.received.Load(), nil
		}
		if err := u.midway(ctx); err != nil {
			return u.received.Load(), u.s.refuse(err)
		}
	}
}

// midway makes what has arrived safe.
func (u *upload) midway(ctx context.Context) error {
	if err := u.intake.Persist(ctx); err != nil { // once
		return err
	}
	return u.intake.Checkpoint(ctx)
}

// Write implements io.Writer. The library writes nothing to an empty file.
func (u *upload) Write(p []byte) (int, error) {
	if len(p) > 0 {
		return 0, errors.ErrUnsupported
	}
	return 0, nil
}

// Read implements io.Reader.
func (u *upload) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Seek implements io.Seeker. Where the upload goes on was settled by GetHandle.
func (u *upload) Seek(offset int64, _ int) (int64, error) { return offset, nil }

// TransferError implements ftpserver.FileTransferError.
func (u *upload) TransferError(err error) { u.failed = err }

// Close ends the upload: whole, it is stored when Close returns nil, which the client
// is told by 226. Broken, what has arrived is kept for another time.
func (u *upload) Close() error {
	g := u.s.g
	defer g.sessions.Done()
	defer func() {
		g.mu.Lock()
		delete(g.running, u)
		g.mu.Unlock()
		close(u.done)
	}()
	ctx := context.WithoutCancel(u.intake.Context())
	var err error
	if u.failed == nil {
		if _, err = u.intake.Finish(ctx); err == nil {
			g.supersede(ctx, u, true)
			return u.s.refuse(u.intake.Close())
		}
	}
	if u.received.Load() > 0 {
		if kept := u.keep(ctx); kept != nil && problem.KindOf(kept) != problem.ConsentRequired {
			g.Log.Warn("what had arrived of a camera's upload could not be kept", "err", kept)
		}
	}
	return u.s.refuse(errors.Join(err, u.intake.Close()))
}

// keep makes what has arrived resumable. Where nothing may be kept, ingest has
// dropped it already.
func (u *upload) keep(ctx context.Context) error {
	if err := u.intake.Persist(ctx); err != nil {
		return err
	}
	u.s.g.supersede(ctx, u, false)
	return nil
}

// supersede gives up what was begun of the same file before and broke off, unless
// somebody is sending it at this moment: u is stored, or is what will be gone on with.
func (g *Gateway) supersede(ctx context.Context, u *upload, stored bool) {
	who, p := u.d.who.User, u.intake.Meta().Path
	ids, err := g.Ingest.Pending(ctx, who, p, marker)
	if !stored && !slices.Contains(ids, u.intake.ID()) {
		return
	}
	for _, id := range ids {
		if id == u.intake.ID() || g.holds(id) {
			continue
		}
		err = errors.Join(err, g.Ingest.Cancel(ctx, who, id))
	}
	if err != nil {
		g.Log.Warn("an earlier try of a camera's upload stays until it expires", "err", err)
	}
}

func (g *Gateway) holds(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for u := range g.running {
		if u.intake.ID() == id {
			return true
		}
	}
	return false
}

// stream is the data connection up to its orderly end: any other end is an error.
type stream struct {
	r io.Reader
	u *upload
}

// Read implements io.Reader.
func (t *stream) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.u.received.Add(int64(n))
	if revoked := t.u.revoked.Load(); revoked != nil {
		return n, revoked
	}
	if errors.Is(err, io.EOF) {
		if broken := t.u.whole(t.r); broken != nil {
			err = broken
		}
	}
	return n, err
}

// Interrupt implements ingest.Interrupter.
func (t *stream) Interrupt() { t.u.s.breakData() }

// part is a stream up to the next checkpoint.
type part struct {
	*stream
	left int64
}

// Read implements io.Reader.
func (p *part) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.stream.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	return n, err
}

// whole judges the end of the data: nil if it was orderly.
func (u *upload) whole(r io.Reader) error {
	s := u.s
	s.mu.Lock()
	data := s.data
	s.mu.Unlock()
	if _, secure := r.(*tls.Conn); secure {
		lastWord := !data.fin.Load() // close_notify comes before FIN
		if s.notifies && !lastWord {
			return brokenOff("The encrypted connection ended without its last word.")
		}
		s.notifies = s.notifies || lastWord
	}
	got := u.received.Load()
	if u.announced > 0 && u.base == 0 && got == u.announced {
		return nil // nothing is missing, whatever its sender does now
	}
	// The look counts from when the end arrived, not from when it was read.
	data.endedBy(time.Now())
	look := min(lastLook+2*roundTrip(data.Conn), mostLook)
	select {
	case <-time.After(time.Until(data.ended.Add(look))):
	case <-u.intake.Context().Done():
		return context.Cause(u.intake.Context())
	}
	switch last := s.context.GetLastCommand(); {
	case last == "ABOR":
		return brokenOff("The transfer was aborted.")
	case last != "QUIT" && !alive(s.control.Conn):
		return brokenOff("The client was gone before it could be answered.")
	}
	// Some clients announce the rest where they go on, others the whole file.
	if max(got, u.base+got-u.skip) < u.announced {
		return brokenOff("Fewer bytes came than ALLO announced.")
	}
	return nil
}

func brokenOff(detail string) error {
	return &problem.Error{Kind: problem.Canceled, Op: "ftp.store", Title: "The upload broke off", Detail: detail,
		Hint: "What has arrived is kept: go on from where SIZE says, or send the file again."}
}

package nextcloud

import (
	"context"
	"errors"
	"hash/crc64"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// A large file comes in chunks (Nextcloud's "chunked upload v2"): MKCOL makes a
// folder for them, PUT sends each, MOVE of the name ".file" makes a file of them.
//
// Here the folder is one resumable upload of ingest, and each chunk is appended to
// it and hashed as it comes, so that the MOVE has nothing left to read, whatever the
// size. A chunk counts when it is whole and durable; until then nobody sees it. One
// that comes before its turn is set aside, see early.go. One that comes again is
// compared with what was taken; if it is another, the folder is given up, and its
// client begins anew. docs/decisions/0015 has the reasons.

const (
	// maxFolders is how many unfinished files one person may have.
	maxFolders = 100
	// keepFolder is how long an unfinished file is kept at least since its last chunk,
	// also when there are too many of them.
	keepFolder = 24 * time.Hour
	// maxChunks is how many chunks a file may have: the clients' own bound is 10,000.
	maxChunks = 20_000
	// waitTurn is how long a chunk that cannot be set aside waits for those before it:
	// clients take a line for dead that is silent for longer.
	waitTurn = 20 * time.Second
	// wholeFile is the name that the chunks of a folder together have.
	wholeFile = ".file"
)

// An errand is a request about a chunk folder.
type errand struct {
	w     http.ResponseWriter
	r     *http.Request
	name  string // of the folder
	chunk string // name of what is in it; "": the folder itself
}

// uploads answers for chunk folders.
func (h *Handler) uploads(w http.ResponseWriter, r *http.Request) {
	e, err := newErrand(w, r)
	if err == nil {
		err = h.run(e)
	}
	if err != nil {
		h.refuse(w, r, err)
	}
}

func newErrand(w http.ResponseWriter, r *http.Request) (*errand, error) {
	user, rest, _ := cutUser(r.URL)
	if err := isOwn(r, user); err != nil {
		return nil, err
	}
	name, chunk, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(name)
	if err != nil || name == "" || len(name) > 255 || strings.Contains(chunk, "/") {
		return nil, &problem.Error{
			Kind: problem.NotFound, Op: "nextcloud.uploads", Detail: "That is no chunk folder.",
			Hint: "Its name has 1 to 255 bytes, and there are no folders in it.",
		}
	}
	return &errand{w: w, r: r, name: name, chunk: chunk}, nil
}

// cutUser divides the address of a chunk folder into the name of its owner,
// percent-encoded, and the rest.
func cutUser(u *url.URL) (user, rest string, found bool) {
	return strings.Cut(strings.TrimSuffix(strings.TrimPrefix(u.EscapedPath(), uploadsPrefix), "/"), "/")
}

func (h *Handler) run(e *errand) error {
	switch {
	case e.chunk == "" && e.r.Method == "MKCOL":
		return h.begin(e)
	case e.chunk == "" && e.r.Method == http.MethodDelete:
		return h.giveUp(e)
	case e.r.Method == "PROPFIND":
		return h.list(e)
	case e.chunk == wholeFile && e.r.Method == "MOVE":
		return h.assemble(e)
	case e.chunk != "" && e.r.Method == http.MethodPut:
		return h.take(e)
	}
	e.w.Header().Set("Allow", "MKCOL, PROPFIND, PUT, MOVE, DELETE")
	return &problem.Error{
		Kind: problem.MethodNotAllowed, Op: "nextcloud.uploads", Detail: "Chunks do not know that method.",
		Hint: "Make a folder with MKCOL, put chunks into it, and move its .file to where the file goes.",
	}
}

// destination is the path that the Destination header of r names; "": it has none.
func (h *Handler) destination(r *http.Request) (string, error) {
	address := r.Header.Get("Destination")
	if address == "" {
		return "", nil
	}
	u, err := url.Parse(address)
	if err != nil || strings.HasSuffix(u.Path, "/") {
		return "", badHeader("Destination is no address of a file.")
	}
	m, err := h.mount(r, u)
	if err != nil {
		return "", err
	}
	path, err := m.Path(r, address)
	if err == nil && path == "" {
		err = badHeader("Destination is no address of a file.")
	}
	return path, err
}

// begin makes a folder.
func (h *Handler) begin(e *errand) error {
	who := principal(e.r)
	path, err := h.destination(e.r)
	if err != nil {
		return err
	}
	total, err := totalLength(e.r)
	if err != nil {
		return err
	}
	meta, err := webdav.Mount{}.Meta(e.r, path)
	if err != nil {
		return err
	}
	if meta.Size = total; path == "" {
		meta.Path = "unnamed" // until MOVE says where it goes
	}
	grant, err := h.grant(e.r.Context(), who.User, &meta, path == "")
	if err != nil {
		return err
	}
	if err := h.clear(e.r.Context(), who.User, e.name, path); err != nil {
		return err
	}
	if err := h.makeRoom(e.r.Context(), who.User); err != nil {
		return err
	}
	intake, err := h.Ingest.Begin(e.r.Context(), grant, meta)
	if err != nil {
		return err
	}
	err = intake.Persist(e.r.Context())
	if err == nil {
		if err = h.insertFolder(e.r.Context(), who.User, e.name, path, intake.ID()); err != nil {
			err = errors.Join(err, intake.Discard())
		}
	}
	if err = errors.Join(err, intake.Close()); err != nil {
		return err
	}
	e.w.WriteHeader(http.StatusCreated)
	return nil
}

// grant asks for the consent that the file needs. If its client does not say where
// it goes, it is not known where it comes from either: then that for other files or
// that for the album will do until it is, at the MOVE.
func (h *Handler) grant(ctx context.Context, user ident.UserID, meta *ingest.Meta, nameless bool) (consent.Grant, error) {
	if nameless {
		if _, err := h.Consent.GrantFor(ctx, user, meta.Device, meta.Source); problem.KindOf(err) == problem.ConsentRequired {
			if other, err := h.Consent.GrantFor(ctx, user, meta.Device, "album"); err == nil {
				meta.Source = "album"
				return other, nil
			}
		}
	}
	return h.Ingest.Grant(ctx, user, *meta)
}

// giveUp ends an unfinished file.
func (h *Handler) giveUp(e *errand) error {
	f, err := h.find(e)
	if err != nil {
		return err
	}
	if err := h.drop(e.r.Context(), principal(e.r).User, f.upload); err != nil {
		return err
	}
	e.w.WriteHeader(http.StatusNoContent)
	return nil
}

// A chunkName is the name of a chunk: a number, or the offsets of its first and last
// byte.
type chunkName struct {
	number int64
	last   int64 // -1: not said
	digits int   // of the number
}

// isOffset reports whether the number is that of a byte: rclone names both ends, and
// no client has so many chunks.
func (n chunkName) isOffset() bool { return n.last >= 0 || n.number > maxChunks }

// fits fails unless a chunk of that name can have so many bytes; -1: not known yet.
func (n chunkName) fits(size int64) error {
	if n.last < 0 || size < 0 || size == n.last-n.number+1 {
		return nil
	}
	return &problem.Error{
		Kind: problem.Invalid, Op: "nextcloud.chunk", Title: "The chunk is not as long as its name says",
		Detail: "The name holds the offsets of the first and the last byte.", Hint: "Send the chunk again.",
	}
}

// parseChunkName reads "7", "000007", or "000000000000000-000000010485759".
func parseChunkName(s string) (n chunkName, err error) {
	first, last, ranged := strings.Cut(s, "-")
	n = chunkName{last: -1, digits: len(first)}
	ok := true
	read := func(s string) int64 {
		v, err := strconv.ParseInt(s, 10, 64)
		ok = ok && err == nil && len(s) <= 20 && strings.Trim(s, "0123456789") == "" && v < ingest.MaxSize
		return v
	}
	if n.number = read(first); ranged {
		n.last = read(last)
		ok = ok && n.last >= n.number
	}
	if !ok {
		return chunkName{}, &problem.Error{
			Kind: problem.Invalid, Op: "nextcloud.chunk", Title: "The name of a chunk is no number",
			Detail: "Chunks are named 1, 2, 3 and so on, with any number of leading zeros, or by the offsets of their first and last byte.", Hint: "Name it so.",
		}
	}
	return n, nil
}

// take answers PUT of a chunk.
func (h *Handler) take(e *errand) error {
	n, err := parseChunkName(e.chunk)
	if err != nil {
		return err
	}
	if err := n.fits(e.r.ContentLength); err != nil {
		return err
	}
	f, err := h.find(e)
	if err != nil {
		return err
	}
	ctx := e.r.Context()
	info, err := h.Ingest.Look(ctx, principal(e.r).User, f.upload)
	if err != nil {
		return err
	}
	grant, err := h.Consent.GrantFor(ctx, principal(e.r).User, info.Meta.Device, info.Meta.Source)
	if err != nil {
		return err
	}
	timeout := time.NewTimer(waitTurn)
	defer timeout.Stop()
	for {
		again, err := h.tryTake(e, f, grant, n, timeout.C)
		if err != nil || !again {
			return err
		}
	}
}

// tryTake takes chunk n if it is its turn, else sets it aside, or waits for another
// one to be taken. again: the records changed, look at them once more.
func (h *Handler) tryTake(e *errand, f chunkFolder, grant consent.Grant, n chunkName, timeout <-chan time.Time) (again bool, err error) {
	ctx := e.r.Context()
	taken, done := h.turns.next(f.upload) // asked before the records, so that none is missed
	defer done()
	chunks, err := h.chunks(ctx, f.upload)
	if err != nil {
		return false, err
	}
	has, err := h.has(ctx, f.upload, n.number)
	switch {
	case err != nil:
		return false, err
	case has:
		return h.compare(e, f, grant, n)
	case chunks.isNext(n):
		return h.append(e, f, grant, n)
	case n.number < chunks.next, n.isOffset() && n.number < chunks.end:
		return false, h.spoiled(e, f, "A chunk came that belongs before those that came first.")
	}
	switch early, err := h.mayWait(ctx, f, n, e.r.ContentLength); {
	case err != nil:
		return false, err
	case early == known:
		return false, h.compareEarly(e, f, grant, n)
	case early == fits:
		return false, h.setAside(e, f, grant, n)
	}
	select {
	case <-taken:
		return true, nil
	case <-timeout:
		return false, tooEarly()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-httpd.Stopping(ctx):
		return false, &problem.Error{Kind: problem.Canceled, Op: "nextcloud.chunk", Detail: "The box is shutting down.", Hint: "Go on when it is back."}
	}
}

func tooEarly() error {
	return &problem.Error{
		Kind: problem.Locked, Op: "nextcloud.chunk", Title: "A chunk came before its turn", RetryAfter: time.Second,
		Detail: "Too many chunks came already of which one before is missing.", Hint: "Send that one first.",
	}
}

// append takes the body of e as the next chunk. again: the records changed
// meanwhile, look at them once more.
func (h *Handler) append(e *errand, f chunkFolder, grant consent.Grant, n chunkName) (again bool, err error) {
	c, again, err := h.receive(e, f, grant, n)
	if err != nil || again {
		return again, err
	}
	h.turns.advance(f.upload)
	if err := h.catchUp(e.r.Context(), f, grant, false); err != nil {
		return false, err
	}
	e.w.Header().Set("ETag", c.etag())
	e.w.WriteHeader(http.StatusCreated)
	return false, nil
}

func (h *Handler) receive(e *errand, f chunkFolder, grant consent.Grant, n chunkName) (c chunk, again bool, err error) {
	ctx := e.r.Context()
	if err := h.roomFor(ctx, f, principal(e.r).User, max(e.r.ContentLength, 0)); err != nil {
		return c, false, err
	}
	intake, err := h.Ingest.Resume(ctx, grant, f.upload)
	if err != nil {
		return c, false, err
	}
	defer func() { err = errors.Join(err, intake.Close()) }()
	body := httpd.ProgressReader(e.w, e.r.WithContext(intake.Context()))
	return h.write(ctx, intake, grant, piece{chunkName: n, name: e.chunk, body: body})
}

// A piece is a chunk that is to be appended.
type piece struct {
	chunkName
	name  string
	body  io.Reader
	early *chunk // as which it was set aside; nil: it was not
	gap   bool   // whatever is missing before it
}

// write appends p to the upload that the caller holds. again: it is not its turn any
// more, and nothing was read.
func (h *Handler) write(ctx context.Context, intake *ingest.Intake, grant consent.Grant, p piece) (c chunk, again bool, err error) {
	at := intake.Offset()
	dropped, err := h.dropBehind(ctx, intake.ID(), at)
	if err != nil {
		return c, false, err
	}
	chunks, err := h.chunks(ctx, intake.ID())
	if err != nil {
		return c, false, err
	}
	if dropped || !chunks.isNext(p.chunkName) && (!p.gap || p.number < chunks.next) {
		return c, true, nil
	}
	if chunks.count >= maxChunks {
		return c, false, &problem.Error{
			Kind: problem.TooLarge, Op: "nextcloud.chunk", Detail: "A file may have 20,000 chunks.", Hint: "Let the chunks be larger.",
		}
	}
	granted := intake.Context()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	intake.Provisional(true) // a part of a chunk is none
	size, err := intake.Write(granted, at, io.TeeReader(p.body, sum))
	if err == nil {
		err = p.fits(size)
	}
	if err != nil {
		return c, false, err
	}
	c = chunk{number: p.number, name: p.name, size: size, end: at + size, crc: sum.Sum64()}
	if p.early != nil && (c.size != p.early.size || c.crc != p.early.crc) {
		return c, false, errDamaged
	}
	if err := h.insertChunk(granted, grant, intake.ID(), c); err != nil {
		return c, false, err
	}
	intake.Provisional(false)
	return c, false, intake.Checkpoint(context.WithoutCancel(granted))
}

// compare holds a chunk that came before against the body of e: its client did not
// hear that it had been taken.
func (h *Handler) compare(e *errand, f chunkFolder, grant consent.Grant, n chunkName) (again bool, err error) {
	info, err := h.Ingest.Describe(e.r.Context(), principal(e.r).User, f.upload)
	if err != nil {
		return false, err
	}
	if dropped, err := h.dropBehind(e.r.Context(), f.upload, info.Offset); err != nil || dropped {
		return dropped, err
	}
	c, err := h.chunk(e.r.Context(), f.upload, n.number)
	if err != nil {
		return false, err
	}
	return false, h.same(e, f, grant, c)
}

// same answers for a chunk that came before, as c.
func (h *Handler) same(e *errand, f chunkFolder, grant consent.Grant, c chunk) error {
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	size, err := io.Copy(sum, io.LimitReader(e.r.Body, c.size+1))
	if err != nil {
		return &problem.Error{
			Kind: problem.Canceled, Op: "nextcloud.chunk", Title: "The body broke off", Err: err,
			Detail: "The connection ended before the request did.", Hint: "Send it again.",
		}
	}
	if size != c.size || sum.Sum64() != c.crc {
		return h.spoiled(e, f, "A chunk came again and was another one.")
	}
	if err := h.catchUp(e.r.Context(), f, grant, false); err != nil {
		return err
	}
	e.w.Header().Set("ETag", c.etag())
	e.w.WriteHeader(http.StatusNoContent)
	return nil
}

// spoiled gives a folder up whose chunks are of more than one file.
func (h *Handler) spoiled(e *errand, f chunkFolder, detail string) error {
	return errors.Join(&problem.Error{
		Kind: problem.Conflict, Op: "nextcloud.chunk", Title: "The chunks do not make one file", Detail: detail,
		Hint: "Nothing of them was kept: the app begins anew.",
	}, h.drop(e.r.Context(), principal(e.r).User, f.upload))
}

// assemble answers MOVE of .file: it makes a file of what has come.
func (h *Handler) assemble(e *errand) error {
	address := e.r.Header.Get("Destination")
	path, err := h.destination(e.r)
	if err != nil {
		return err
	}
	if path == "" {
		return badHeader("Destination is missing: it says where the file goes.")
	}
	f, err := h.findAt(e, path)
	if err != nil {
		return err
	}
	user := principal(e.r).User
	info, err := h.Ingest.Look(e.r.Context(), user, f.upload)
	if err != nil {
		return err
	}
	if info.Finished != nil { // the last answer was lost and is asked for again
		h.stored(e.w.Header(), info.Finished.Item)
		e.w.Header().Set("ETag", content.ETag(info.Finished.Item.Ref))
		e.w.Header().Set("Yunbox-Stored", info.Finished.Stored)
		e.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return badHeader("Destination is no address.")
	}
	m, err := h.mount(e.r, u)
	if err != nil {
		return err
	}
	// What came before its consent was asked for by name goes if there is none.
	said, err := m.Meta(e.r, path)
	if err != nil {
		return err
	}
	if _, err := h.grant(e.r.Context(), user, &said, false); problem.KindOf(err) == problem.ConsentRequired {
		return errors.Join(err, h.drop(e.r.Context(), user, f.upload))
	}
	if err := h.complete(e, f, info.Meta); err != nil {
		return err
	}
	h.Files.Place(e.w, e.r, m, u, func(grant consent.Grant, meta ingest.Meta) (ingest.Result, error) {
		return h.finish(e.r.Context(), f, grant, meta)
	})
	return nil
}

func (h *Handler) finish(ctx context.Context, f chunkFolder, grant consent.Grant, meta ingest.Meta) (result ingest.Result, err error) {
	if err := h.Ingest.Restate(ctx, grant, f.upload, meta); err != nil {
		return result, err
	}
	intake, err := h.Ingest.Resume(ctx, grant, f.upload)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, intake.Close()) }()
	intake.Require(meta.Require)
	if _, err := h.dropBehind(ctx, f.upload, intake.Offset()); err != nil {
		return result, err
	}
	chunks, err := h.chunks(ctx, f.upload)
	if err != nil {
		return result, err
	}
	if meta.Size >= 0 && meta.Size != intake.Offset() || chunks.count == 0 && meta.Size != 0 {
		return result, missingChunks()
	}
	return intake.Finish(intake.Context())
}

func missingChunks() error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "nextcloud.finish", Title: "Chunks are missing",
		Detail: "What has come is not as long as OC-Total-Length says, or nothing has come.", Hint: "Send the others, then move the file again.",
	}
}

package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"yunbox.local/daemon/problem"
)

const (
	// oneRequest is the size up to which a file is sent in one request; larger ones
	// are sent as resumable uploads.
	oneRequest = 8 << 20
	// expectFrom is the size from which a request waits for the box's "continue":
	// below, the round trip costs more than the bytes it may save. Until the box has
	// taken a first file every request waits: nothing leaves that is not consented to.
	expectFrom = 256 << 10

	tusVersion = "1.0.0"
	chunkType  = "application/offset+octet-stream"
)

// errChanged: the file is no longer what was hashed.
var errChanged = errors.New("it changed while it was sent")

// name gives a content that the box has a further name: a request without a body.
func (p *pusher) name(ctx context.Context, e *entry) error {
	return p.retry(ctx, func() error { return p.put(ctx, e, nil) })
}

// sendBytes sends a file and returns when the box has confirmed its hash.
func (p *pusher) sendBytes(ctx context.Context, e *entry) error {
	f, err := os.Open(e.abs)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if statID(info) != e.id {
		return errChanged
	}
	if e.id.size > oneRequest {
		return p.resumable(ctx, e, f)
	}
	return p.retry(ctx, func() error {
		err := p.put(ctx, e, f)
		if err != nil {
			p.showOnly(e, 0)
		}
		return err
	})
}

// show counts bytes of a file in the progress bar while they leave.
func (p *pusher) show(e *entry, n int64) {
	e.shown.Add(n)
	p.rep.bar.step(n, n, 0)
}

// showOnly sets how much of a file the progress bar counts.
func (p *pusher) showOnly(e *entry, n int64) { p.rep.bar.step(n-e.shown.Swap(n), 0, 0) }

// put sends PUT /v1/files/…: with the bytes of f, or without a body if it is nil.
func (p *pusher) put(ctx context.Context, e *entry, f *os.File) error {
	ctx, flow := newFlow(ctx)
	defer flow.stop()
	query := url.Values{}
	if p.opt.source == autoSource {
		query.Set("source_path", p.sourcePath(e))
	} else {
		query.Set("source", p.opt.source)
	}
	if t := mtime(e.id); t != "" {
		query.Set("mtime", t)
	}
	if p.device != "" {
		query.Set("device", p.device)
	}
	if p.opt.again {
		query.Set("again", "true")
	}
	req, err := p.c.request(ctx, http.MethodPut, filePath(p.target(e))+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(e.sum[:])+":")
	var body *sendReader
	if f != nil && e.id.size > 0 {
		body = p.body(e, f, 0, e.id.size, flow)
		defer body.wait()
		req.Body, req.ContentLength = body, e.id.size
		req.Header.Set("Content-Type", "application/octet-stream")
		if e.id.size >= expectFrom || !p.welcome.Load() || p.cautious.Load() {
			req.Header.Set("Expect", "100-continue")
		}
	}
	res, err := p.c.do(req)
	if err != nil {
		return body.instead(err)
	}
	defer res.Body.Close()
	var reply struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(err)
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return &problem.Error{Kind: problem.Internal, Op: "push", Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of the box's version.", Err: err}
	}
	if body != nil && body.changed(e.sum) {
		return errChanged
	}
	return p.confirm(e, reply.SHA256)
}

// confirm compares what the box says it has with what was hashed here.
func (p *pusher) confirm(e *entry, sha256 string) error {
	if sha256 == hex.EncodeToString(e.sum[:]) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Mismatch, Op: "push", Title: "The box confirmed another content than was sent",
		Hint: "Keep the file. Run `yunboxctl check --deep` on the box.",
	}
}

// resumable sends a large file by tus 1.0.0, from where an earlier try stopped.
func (p *pusher) resumable(ctx context.Context, e *entry, f *os.File) error {
	u := &tusUpload{p: p, e: e, f: f, target: p.target(e), offset: -1}
	u.where = p.cache.pending(e.rel, u.target, e.id, e.sum)
	best := int64(-1) // offset that the box has confirmed
	for wait := newBackoff(); ; {
		confirmed, err := u.step(ctx)
		if u.offset > best {
			best, wait = u.offset, newBackoff()
			p.alive.beat()
		}
		switch kind := problem.KindOf(err); {
		case err == nil && confirmed == "":
			continue
		case err == nil:
			p.alive.beat()
			p.forget(e, u.target)
			return p.confirm(e, confirmed)
		case (kind == problem.NotFound || kind == problem.Gone) && u.where != "" && wait.tries < maxTries:
			p.forget(e, u.target) // expired, or finished long ago: begin again
			u.where, best = "", -1
			err = &problem.Error{Kind: problem.Unavailable, Op: "push", Title: "The box has no such upload any more", Err: err}
		case (kind == problem.Conflict || kind == problem.PreconditionFailed) && u.where != "" && wait.tries < 8:
			// It stands elsewhere than we thought: an earlier request is still being taken.
			err = &problem.Error{Kind: problem.Locked, Op: "push", Title: "The upload is busy", Err: err}
		case kind == problem.Mismatch || errors.Is(err, errChanged):
			p.forget(e, u.target)
			return err
		}
		u.offset = -1 // only the box knows how far it got
		if err := p.alive.again(ctx, wait, err); err != nil {
			return err
		}
	}
}

// tusUpload is one upload on its way.
type tusUpload struct {
	p      *pusher
	e      *entry
	f      *os.File
	target string
	where  string // path on the box; empty: not made yet
	offset int64  // that the box has; -1: not known
}

// step makes one request: create, ask, or send the rest. It returns the hash that
// the box confirms once the upload is finished.
func (u *tusUpload) step(ctx context.Context) (confirmed string, err error) {
	p := u.p
	switch {
	case u.where == "":
		if u.where, err = p.createUpload(ctx, u.e, u.target); err != nil {
			return "", err
		}
		u.offset = 0
		if err := p.cache.setPending(u.e.rel, u.target, u.e.id, u.e.sum, u.where); err != nil {
			p.rep.warn("an upload could not be remembered: %v", err)
		}
	case u.offset < 0:
		u.offset, confirmed, err = p.uploadOffset(ctx, u.where)
	default:
		before := u.offset
		p.showOnly(u.e, before)
		u.offset, confirmed, err = p.patch(ctx, u.e, u.f, u.where, before)
		if err == nil && confirmed == "" && u.offset <= before {
			err = &problem.Error{Kind: problem.Unavailable, Op: "push", Title: "The box does not go on with an upload", Hint: "Its log says more."}
		}
	}
	return confirmed, err
}

func (p *pusher) forget(e *entry, target string) {
	if err := p.cache.setPending(e.rel, target, e.id, e.sum, ""); err != nil {
		p.rep.warn("an upload could not be forgotten: %v", err)
	}
}

// createUpload makes an upload and returns its path on the box.
func (p *pusher) createUpload(ctx context.Context, e *entry, target string) (string, error) {
	meta := []string{
		"path " + base64.StdEncoding.EncodeToString([]byte(target)),
		"sha256 " + base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(e.sum[:]))),
	}
	if p.opt.source == autoSource {
		meta = append(meta, "source_path "+base64.StdEncoding.EncodeToString([]byte(p.sourcePath(e))))
	} else {
		meta = append(meta, "source "+base64.StdEncoding.EncodeToString([]byte(p.opt.source)))
	}
	if t := mtime(e.id); t != "" {
		meta = append(meta, "mtime "+base64.StdEncoding.EncodeToString([]byte(t)))
	}
	if p.opt.again {
		meta = append(meta, "again "+base64.StdEncoding.EncodeToString([]byte("true")))
	}
	if p.device != "" {
		meta = append(meta, "device "+base64.StdEncoding.EncodeToString([]byte(p.device)))
	}
	req, err := p.c.request(ctx, http.MethodPost, "/v1/uploads", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	req.Header.Set("Upload-Length", strconv.FormatInt(e.id.size, 10))
	req.Header.Set("Upload-Metadata", strings.Join(meta, ","))
	res, err := p.c.do(req)
	if err != nil {
		return "", err
	}
	res.Body.Close()
	// Only the path counts: the box may have another address by the time of the next try.
	u, err := url.Parse(res.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(u.Path, "/v1/uploads/") {
		return "", &problem.Error{Kind: problem.Internal, Op: "push", Title: "The box did not say where the upload is", Hint: "Use a yunboxctl of the box's version."}
	}
	return u.EscapedPath(), nil
}

// uploadOffset asks how much of an upload the box has. confirmed is the hash if it
// is finished: the answer to the last request was lost.
func (p *pusher) uploadOffset(ctx context.Context, where string) (offset int64, confirmed string, err error) {
	req, err := p.c.request(ctx, http.MethodHead, where, nil)
	if err != nil {
		return -1, "", err
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	res, err := p.c.do(req)
	if err != nil {
		return -1, "", err
	}
	res.Body.Close()
	return uploadAnswer(res)
}

func uploadAnswer(res *http.Response) (offset int64, confirmed string, err error) {
	offset, err = strconv.ParseInt(res.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || offset < 0 {
		return -1, "", &problem.Error{Kind: problem.Internal, Op: "push", Title: "The box did not say how far the upload is", Hint: "Use a yunboxctl of the box's version."}
	}
	return offset, res.Header.Get("Yunbox-Sha256"), nil
}

// patch sends the bytes from offset to the end.
func (p *pusher) patch(ctx context.Context, e *entry, f *os.File, where string, offset int64) (int64, string, error) {
	if offset > e.id.size {
		return -1, "", &problem.Error{Kind: problem.Gone, Op: "push", Title: "The upload on the box is of another file"}
	}
	ctx, flow := newFlow(ctx)
	defer flow.stop()
	req, err := p.c.request(ctx, http.MethodPatch, where, nil)
	if err != nil {
		return -1, "", err
	}
	req.Header.Set("Tus-Resumable", tusVersion)
	req.Header.Set("Content-Type", chunkType)
	req.Header.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	var body *sendReader
	if left := e.id.size - offset; left > 0 {
		body = p.body(e, f, offset, left, flow)
		defer body.wait()
		req.Body, req.ContentLength = body, left
		req.Header.Set("Expect", "100-continue")
	}
	res, err := p.c.do(req)
	if err != nil {
		return -1, "", body.instead(err)
	}
	res.Body.Close()
	return uploadAnswer(res)
}

// mtime is a modification time for the box: Unix seconds with decimals, nothing if
// it is beyond what the box takes (a camera without a clock says anything).
func mtime(id fileID) string {
	s, ns := id.mtime/1e9, id.mtime%1e9
	if id.mtime < 0 || s >= 1<<32 {
		return ""
	}
	return fmt.Sprintf("%d.%09d", s, ns)
}

// sendReader is the body of an upload: exactly n bytes of a file from an offset on,
// hashed and counted while they leave. The transport may still be reading it when
// the answer is here; wait until it is closed before the file is touched again.
type sendReader struct {
	src    io.Reader
	left   int64
	hash   hash.Hash
	end    chan struct{} // closed by Close
	once   sync.Once
	result atomic.Pointer[[sha256.Size]byte] // set once everything was read
	short  atomic.Bool                       // the file is shorter than it was
}

func (p *pusher) body(e *entry, f *os.File, offset, n int64, fl *flow) *sendReader {
	r := &sendReader{left: n, hash: sha256.New(), end: make(chan struct{})}
	r.src = fl.reader(io.NewSectionReader(f, offset, n), func(n int) {
		p.show(e, int64(n))
		p.rep.moved(int64(n))
	})
	return r
}

func (r *sendReader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.src.Read(b)
	r.hash.Write(b[:n])
	if r.left -= int64(n); r.left == 0 {
		r.result.Store((*[sha256.Size]byte)(r.hash.Sum(nil)))
		return n, nil
	}
	if err == io.EOF {
		r.short.Store(true)
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close is called by the transport, always and once it reads no more.
func (r *sendReader) Close() error {
	r.once.Do(func() { close(r.end) })
	return nil
}

func (r *sendReader) wait() {
	if r != nil {
		<-r.end
	}
}

// changed reports whether other bytes left than were hashed before. A body that the
// box did not want, because it has the content, proves nothing.
func (r *sendReader) changed(want [sha256.Size]byte) bool {
	sum := r.result.Load()
	return sum != nil && *sum != want
}

// instead returns what really went wrong if the file itself did.
func (r *sendReader) instead(err error) error {
	if r != nil && r.short.Load() {
		return errChanged
	}
	return err
}

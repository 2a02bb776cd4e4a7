package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// Many files in one request: docs/decisions/0039. What is refused with one of them
// says so in its line, and the others go on.
const (
	manyType = "application/vnd.yunbox.files"
	// maxManyFile is the most bytes of a file that comes this way. A larger one is worth
	// a request that can be gone on with.
	maxManyFile = 8 << 20
	// maxManySkip is how large a file may be said to be that is refused and skipped;
	// beyond it the request ends.
	maxManySkip = 64 << 20
	// maxManyHead is the most bytes of what is said of one file.
	maxManyHead = 16 << 10
	// manyAhead is how many files of one request may wait for their answer, and
	// manyAheadOfAll those of all requests: each is an open file.
	manyAhead      = 64
	manyAheadOfAll = 128
	// manyPatience is how long the bytes of a file whose consent ended meanwhile may
	// not come before the whole request ends.
	manyPatience = 500 * time.Millisecond
)

func (a *API) registerMany() {
	stream[putManyInput, struct{}](a, route{
		Method: "POST", Path: "/v1/files", ID: "put-files", Tag: "files", Status: 200,
		Summary: "Keep many small files, sent in one request",
		Description: "The body is a row of files, each a line of JSON (16 KiB at most) and then exactly `size` bytes: " +
			"`{\"path\":\"DCIM/Camera/IMG_0001.jpg\",\"size\":48213}`, and if they are known `sha256` (hex; verified), `mtime`, `source`, `source_path` and `again`, all as in PUT /v1/files/{path}, and `absent`, as its If-None-Match: * (what is there already is left alone). " +
			"The answer is a line of JSON for each file as soon as that one is on stable storage or is refused, in whatever order that happens: " +
			"FileLine, with `n`, its place in the request from 0. A file that is refused (no consent, another hash than announced, no room …) " +
			"does not stop those after it; its bytes are skipped. A line without `n` says why the request ended before its end. " +
			"After a cut exactly the files are kept whose lines came, and perhaps some whose lines were on their way. " +
			"Read the answer while you send, or send a hundred files at most. A file may have 8 MiB; larger ones go to PUT /v1/files/{path} or /v1/uploads. " +
			"Of two files with one path in a request either may become the version of the other.",
	}, httpd.Files, "/v1/files", map[string]*huma.Response{"200": {
		Description: "A line for each file",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: a.json.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[FileLine](), true, "")}},
	}}, a.putMany)
}

type putManyInput struct {
	Device  string `query:"device" pattern:"^[0-9a-hjkmnp-tv-z]{13}$" doc:"The sending device; left out: the one of the session"`
	RawBody []byte `contentType:"application/vnd.yunbox.files"`
}

// fileAhead is the line before the bytes of a file.
type fileAhead struct {
	Path       string `json:"path"`
	Size       *int64 `json:"size"`
	SHA256     string `json:"sha256"`
	Source     string `json:"source"`
	SourcePath string `json:"source_path"`
	MTime      string `json:"mtime"`
	Again      bool   `json:"again"`
	Absent     bool   `json:"absent"`

	noText bool // the line is not UTF-8
}

// FileLine is one line of the answer to many files: the receipt of one, or why there
// is none.
type FileLine struct {
	N       *int          `json:"n,omitempty" minimum:"0" doc:"Place of the file in the request, from 0; left out: the line is about all that follow"`
	ID      *ident.ItemID `json:"id,omitempty"`
	Path    string        `json:"path,omitempty" doc:"As kept: in Unicode NFC"`
	SHA256  *storage.Ref  `json:"sha256,omitempty"`
	Size    *int64        `json:"size,omitempty" minimum:"0"`
	Stored  string        `json:"stored,omitempty" enum:"new,known" doc:"known: the asker had this content already"`
	MTime   *moment       `json:"mtime,omitempty"`
	Problem document      `json:"problem,omitempty"`
}

// document is an error as it is sent.
type document json.RawMessage

// MarshalJSON implements json.Marshaler.
func (d document) MarshalJSON() ([]byte, error) { return d, nil }

// Schema implements huma.SchemaProvider.
func (document) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Ref: schemaPrefix + "Problem"}
}

// A many is one request with many files.
type many struct {
	a      *API
	w      http.ResponseWriter
	r      *http.Request
	user   ident.UserID
	device ident.DeviceID
	room   ingest.Room

	body *bufio.Reader
	end  context.CancelCauseFunc // ends the reading of the body

	ahead   chan struct{} // holds one for each file that waits for its answer
	waiting sync.WaitGroup
	lines   chan []byte

	between  atomic.Bool // no file is coming
	stopping atomic.Bool // the box is
}

func (a *API) putMany(w http.ResponseWriter, r *http.Request) {
	m := &many{a: a, w: w, r: r, user: principal(r.Context()).User, ahead: make(chan struct{}, manyAhead), lines: make(chan []byte, manyAhead)}
	if err := m.admit(); err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	if r.ProtoMajor == 1 {
		// Without it net/http would read all of the body before the first line leaves.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			httpd.WriteProblem(w, r, &problem.Error{Kind: problem.Internal, Op: "api.many", Err: err})
			return
		}
	}
	ctx, end := context.WithCancelCause(r.Context())
	defer end(nil)
	m.end = end
	defer httpd.LongReads(r)()
	m.body = bufio.NewReaderSize(httpd.ProgressReader(w, r.WithContext(ctx)), maxManyHead)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")

	read := make(chan struct{})
	go func() { // the server waits for requests when it shuts down: this one could last
		select {
		case <-httpd.Stopping(ctx):
			if m.stopping.Store(true); m.between.Load() {
				end(errManyStopping())
			}
		case <-read:
		}
	}()
	written := make(chan struct{})
	go func() {
		defer close(written)
		m.write()
	}()
	// Also in a panic, whose trace is net/http's to tell: nothing may write afterwards.
	defer func() {
		close(read)
		m.waiting.Wait()
		close(m.lines)
		<-written
	}()
	if err := m.readAll(); err != nil {
		m.say(nil, nil, err)
	}
}

// admit refuses what makes no sense before the body is read.
func (m *many) admit() error {
	if t, _, err := mime.ParseMediaType(m.r.Header.Get("Content-Type")); err != nil || t != manyType {
		return &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "api.many", Title: "A row of files has a media type of its own",
			Hint: "Send Content-Type: " + manyType + ", or each file by PUT /v1/files/{path}.",
		}
	}
	if c := m.r.Header.Get("Content-Encoding"); c != "" && c != "identity" {
		return &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "api.many", Title: "Files are taken as they are, not compressed",
			Hint: "Send the file without Content-Encoding.",
		}
	}
	query := m.r.URL.Query()
	for name, values := range query {
		if name != "device" || len(values) != 1 {
			return &problem.Error{
				Kind: problem.Invalid, Op: "api.many", Title: "The query of the address has a parameter that is not expected",
				Hint: "device may be there, once. All else is said with each file.",
			}
		}
	}
	var err error
	m.device, err = m.a.sendingDevice(m.r, query.Get("device"))
	return err
}

// readAll takes one file after the other until the body ends. Its error is why
// nothing after the last one could be read.
func (m *many) readAll() error {
	for n := 0; ; n++ {
		head, err := m.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f := &manyFile{m: m, left: *head.Size}
		if err := m.take(n, head, f); err != nil {
			m.say(&n, nil, err)
		}
		if f.err != nil { // the body broke off within this file
			return nil
		}
		if f.left > maxManySkip {
			return nil
		}
		if err := f.skip(); err != nil {
			return nil
		}
	}
}

// next reads what is said of the next file. io.EOF: there is none.
func (m *many) next() (head fileAhead, err error) {
	m.between.Store(true)
	defer m.between.Store(false)
	if m.stopping.Load() {
		return head, errManyStopping()
	}
	line, err := m.body.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) == 0:
		return head, io.EOF
	case errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF):
		return head, errManyHead(fmt.Errorf("no line within %d bytes", maxManyHead))
	case err != nil:
		return head, brokeOff(err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields() // a source or time that is misspelt would be noticed years later
	if err := d.Decode(&head); err != nil {
		return head, errManyHead(err)
	}
	head.noText = !utf8.Valid(line) // JSON would make other names of it
	if head.Size == nil || *head.Size < 0 || d.More() {
		return head, errManyHead(errors.New("no size"))
	}
	return head, nil
}

// take decides about a file, receives it, and lets it be finished beside those that
// follow. An error is why it is not kept, and f stands somewhere in its bytes.
func (m *many) take(n int, head fileAhead, f *manyFile) error {
	meta, err := m.meta(head)
	if err != nil {
		return err
	}
	ctx := m.r.Context()
	grant, err := m.a.ingest.Grant(ctx, m.user, meta)
	if err != nil {
		return err
	}
	if head.Absent {
		if err := m.a.mustBeAbsent(ctx, &meta); err != nil {
			return err
		}
	}
	intake, err := m.a.ingest.Begin(ctx, grant, meta)
	if err != nil {
		return err
	}
	_, err = intake.Write(ctx, 0, f)
	f.heedNot()
	if err != nil {
		return errors.Join(err, intake.Close())
	}
	m.ahead <- struct{}{}
	m.a.ahead <- struct{}{}
	m.waiting.Go(func() {
		defer func() { <-m.ahead }()
		result, err := m.finish(intake)
		<-m.a.ahead // whoever does not read the answer holds up nobody else
		m.say(&n, &result, err)
	})
	return nil
}

// finish makes a file durable. Nobody else would catch a panic here.
func (m *many) finish(intake *ingest.Intake) (result ingest.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			m.a.log.Error("a panic while a file was finished", "panic", p, "stack", string(debug.Stack()))
			err = &problem.Error{Kind: problem.Internal, Op: "api.many"}
		}
	}()
	result, err = intake.Finish(intake.Context())
	return result, errors.Join(err, intake.Close())
}

func (m *many) meta(head fileAhead) (meta ingest.Meta, err error) {
	if *head.Size > maxManyFile {
		return meta, &problem.Error{
			Kind: problem.TooLarge, Op: "api.many", Title: "The file is too large to come with others",
			Detail: fmt.Sprintf("It may have %s there.", problem.Bytes(maxManyFile)),
			Hint:   "Send it by itself, best as a resumable upload at /v1/uploads.",
		}
	}
	if head.noText {
		return meta, &problem.Error{
			Kind: problem.Invalid, Op: "api.many", Title: "The name is not valid UTF-8",
			Hint: "Rename the file on the device, then send it again.",
		}
	}
	meta = ingest.Meta{
		Path: head.Path, Source: head.Source, DevicePath: head.SourcePath, Size: *head.Size,
		Device: m.device, Again: head.Again, Room: &m.room,
	}
	if head.SHA256 != "" {
		if meta.Want, err = storage.ParseRef(head.SHA256); err != nil {
			return meta, &problem.Error{Kind: problem.Invalid, Op: "api.many", Title: "That is not a SHA-256", Hint: "Send 64 lower-case hex digits."}
		}
	}
	meta.FindSource()
	if head.MTime != "" {
		meta.MTime, err = ingest.ParseMTime(head.MTime)
	}
	return meta, err
}

// say sends the line of a file (nil: of all that follow): its receipt, or why there is
// none.
func (m *many) say(n *int, kept *ingest.Result, err error) {
	line := FileLine{N: n}
	if err != nil {
		line.Problem = httpd.ProblemDocument(m.w, err)
	} else {
		it := &kept.Item
		line.ID, line.Path, line.SHA256, line.Size, line.Stored, line.MTime = &it.ID, it.Path, &it.Ref, &it.Size, kept.Stored, momentOrNull(it.MTime)
	}
	b, err := json.Marshal(line)
	if err != nil {
		panic(err) // all of it can be written as JSON
	}
	m.lines <- append(b, '\n')
}

// write sends lines until there are no more, those of one moment together.
func (m *many) write() {
	var buf []byte
	var failed error
	for line := range m.lines {
		buf = append(buf[:0], line...)
		for more := true; more && len(buf) < 32<<10; {
			select {
			case line, open := <-m.lines:
				buf, more = append(buf, line...), open
			default:
				more = false
			}
		}
		if failed != nil {
			continue // the client is gone; what it sent is kept all the same
		}
		if _, failed = m.w.Write(buf); failed == nil {
			failed = http.NewResponseController(m.w).Flush()
		}
	}
}

// A manyFile is the bytes of one file within the body.
type manyFile struct {
	m    *many
	left int64
	err  error // the body broke off

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// Read implements io.Reader.
func (f *manyFile) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.m.body.Read(p[:min(int64(len(p)), f.left)])
	if f.left -= int64(n); err != nil && f.left > 0 {
		f.err = brokeOff(err)
		return n, f.err
	}
	return n, nil
}

// Interrupt implements ingest.Interrupter: this file is to end, but not those after
// it, if its bytes still come.
func (f *manyFile) Interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.timer = time.AfterFunc(manyPatience, func() { f.m.end(errors.New("the bytes of a file that is not wanted any more do not come")) })
	}
}

// heedNot ends what Interrupt has begun: the bytes that are left came.
func (f *manyFile) heedNot() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over = true; f.timer != nil {
		f.timer.Stop()
	}
}

// skip reads what is left.
func (f *manyFile) skip() error {
	_, err := f.m.body.Discard(int(f.left))
	return err
}

// brokeOff is the end of a body in the middle, as ingest would say it, unless it is
// one that says more itself.
func brokeOff(err error) error {
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // not the end of a file
	}
	return &problem.Error{
		Kind: problem.Canceled, Op: "api.many", Title: "The body broke off", Err: err,
		Detail: "The connection ended before the file did.",
		Hint:   "Send the files again whose lines did not come.",
	}
}

func errManyHead(err error) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "api.many", Title: "What should be said of a file cannot be read", Err: err,
		Detail: "Where the line of a file should be is something else, so where the next one begins is not known.",
		Hint:   "Before each file send one line of JSON with its path and its size, at most 16 KiB, and then exactly that many bytes.",
	}
}

func errManyStopping() error {
	return &problem.Error{
		Kind: problem.Unavailable, Op: "api.many", Title: "The box is shutting down",
		Detail: "It takes no more uploads until it is back.",
		Hint:   "Nothing was lost: the device keeps the file and tries again.",
	}
}

// Package gatewaytest is one suite for every gateway: no rule of the box can be
// true in one protocol and false in another.
//
// A gateway is done when Run passes for a client of its protocol that was
// written without the box's own code. Each case says what the person sees, and
// then looks from the side, through the box's interface and its maintenance
// socket, that nothing half-visible is there and that nothing was lost.
package gatewaytest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// Sent is the modification time that every client sends.
var Sent = time.UnixMilli(1_700_000_000_123).UTC()

// A File is what a client sends.
type File struct {
	Path   string
	Source string // "album", "wechat", …; "": the client does not say
	Size   int64  // bytes that are announced; -1: the client does not say
	SHA256 string // hex, announced if the protocol can; "": not announced
	Again  bool   // the person wants just this file, though they deleted it from the box
	// Body returns the bytes from an offset on. What it yields may be more or
	// less than was announced, or break off. A Reader that is an io.Closer must be
	// closed when nobody reads on.
	Body func(from int64) io.Reader
}

// A Receipt is a protocol's final "stored".
type Receipt struct {
	SHA256  string // hex
	Known   bool   // the person had this content before
	Resumed int64  // the offset from which a Resume went on
}

// A Refusal is a box that says no, as the client understood it.
type Refusal struct {
	Status int               // the protocol's own number
	Kind   string            // last part of the problem's type; "" if the protocol has no room for it
	Text   string            // title, detail and hint
	Member map[string]string // of the problem, those that are text
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("refused: %d %s: %s", r.Status, r.Kind, r.Text) }

// A Client is a phone, a camera or a file manager in the hands of one person,
// over a real connection. Errors are *Refusal when the box said no.
type Client interface {
	// Put sends a file from its first byte.
	Put(ctx context.Context, f File) (Receipt, error)
	// Resume goes on with the Put of the same path that broke off, from where the
	// box says that it stands. errors.ErrUnsupported: the protocol cannot.
	Resume(ctx context.Context, f File) (Receipt, error)
	// Cancel gives up the Put of the path that broke off.
	// errors.ErrUnsupported: the box forgets it by itself.
	Cancel(ctx context.Context, path string) error
	// Announce says all that Put says before the bytes, with the size written as
	// in the text, on a connection of its own, and sends no byte of the body. nil:
	// the box would take it.
	Announce(ctx context.Context, f File, size string) error
	// Get reads a file.
	Get(ctx context.Context, path string) ([]byte, error)
}

// A Terse client speaks a protocol that has no words for some of what the suite asks.
type Terse interface {
	// Folder is where all that the client sends lies.
	Folder() string
	// Source is what the box takes it for, whatever File.Source says.
	Source() string
	// Cannot says why the protocol cannot express the case of that name, "" if it
	// can. "known" is not only a case: a receipt that says so.
	Cannot(name string) string
}

// What a Client says of its protocol.
type (
	// Drive says that people open their files by it, too. A credential of no device is theirs.
	Drive interface{ Drive() }
	// Wordless says that it has no word for File.Again.
	Wordless interface{ CannotSayAgain() }
	// HashComesLast says that the hash is announced after the bytes.
	HashComesLast interface{ HashComesLast() }
)

// Connect makes a client for a person. It is called again after a restart.
type Connect func(t testing.TB, p *daemontest.Person) Client

// Run holds a gateway against the suite.
func Run(t *testing.T, connect Connect) {
	t.Helper()
	RunWire(t, connect)
	t.Run("disk", func(t *testing.T) {
		disk := vfstest.NewDisk()
		runAll(t, connect, start(t, disk), disk, diskCases)
	})
}

// RunWire is Run without the cases of a disk that fails, for a second way on
// which the same protocol may come, such as another version of HTTP.
func RunWire(t *testing.T, connect Connect) {
	t.Helper()
	t.Run("box", func(t *testing.T) { runAll(t, connect, start(t, nil), nil, cases) })
}

// start runs a box with every gateway on.
func start(t *testing.T, disk vfs.FS) *daemontest.Box {
	t.Helper()
	return daemontest.StartWith(t, t.TempDir(), disk, func(c *config.Config) { c.FTP, c.FTPPlain = "127.0.0.1:0", true })
}

type testCase struct {
	name string
	run  func(*suite)
}

func runAll(t *testing.T, connect Connect, box *daemontest.Box, disk *vfstest.Disk, cases []testCase) {
	ada := box.Bind()
	bob := box.AddPerson("bob")
	ada.Grant("storage", "album_backup", "camera_transfer")
	s := &suite{box: box, disk: disk, ada: ada, bob: bob, connect: connect, waste: map[string]bool{}}
	if disk != nil {
		s.rng = vfstest.Seed(t)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			box.For(t)
			s.T, s.folder, s.client = t, c.name, connect(t, ada)
			s.source, s.purpose, s.tellsKnown = "album", "album_backup", true
			if terse, ok := s.client.(Terse); ok {
				if why := terse.Cannot(c.name); why != "" {
					t.Skip(why)
				}
				s.speakTersely(terse)
			}
			c.run(s)
		})
	}
	t.Run("nothing damaged, nothing left over", func(t *testing.T) {
		box.For(t)
		check(t, box, s.waste)
	})
}

// suite is what a case works with. Each has a folder of its own.
type suite struct {
	*testing.T
	box      *daemontest.Box
	disk     *vfstest.Disk // nil: the real one
	ada, bob *daemontest.Person
	connect  Connect
	client   Client // ada's
	folder   string
	source   string // of honest files
	purpose  string // that covers it
	rng      *rand.Rand
	// tellsKnown: receipts say whether the person had the content.
	tellsKnown bool
	waste      map[string]bool // contents that may lie about for a day: they lost a race for the last room
}

func (s *suite) speakTersely(terse Terse) {
	s.folder = terse.Folder() + "/" + s.folder
	s.source, s.purpose, s.tellsKnown = terse.Source(), terse.Source()+"_transfer", terse.Cannot("known") == ""
}

// isKnown checks what a receipt says about whether the content was new.
func (s *suite) isKnown(r Receipt, want bool, what string) {
	s.Helper()
	if s.tellsKnown && r.Known != want {
		s.Errorf("%s: known is %v", what, r.Known)
	}
}

func (s *suite) path(name string) string { return s.folder + "/" + name }

// file is an honest file from the album, or whatever else the protocol is for.
func (s *suite) file(name string, body []byte) File {
	return File{Path: s.path(name), Source: s.source, Size: int64(len(body)), Body: from(body)}
}

// put sends a file that must be kept, and reads it back.
func (s *suite) put(f File, body []byte) Receipt {
	s.Helper()
	r, err := s.client.Put(s.Context(), f)
	if err != nil {
		s.Fatalf("%s: %v", f.Path, err)
	}
	s.kept(f.Path, body)
	if r.SHA256 != sum(body) {
		s.Fatalf("%s: the receipt names %s", f.Path, r.SHA256)
	}
	for _, i := range s.items(s.ada) {
		if i.Path == f.Path && (i.Size != int64(len(body)) || i.SHA256 != sum(body) || i.Source != f.Source || !i.MTime.Equal(Sent)) {
			s.Errorf("%s is listed as %+v", f.Path, i)
		}
	}
	return r
}

// kept checks that ada's file is there with exactly these bytes.
func (s *suite) kept(path string, body []byte) {
	s.Helper()
	got, err := s.client.Get(s.Context(), path)
	if err != nil {
		s.Fatalf("%s: %v", path, err)
	}
	if sum(got) != sum(body) {
		s.Fatalf("%s: %d bytes came back, %d were sent, and they differ", path, len(got), len(body))
	}
}

// absent checks that nothing of that name is visible to ada in any way.
func (s *suite) absent(path string) {
	s.Helper()
	var refusal *Refusal
	if b, err := s.client.Get(s.Context(), path); !errors.As(err, &refusal) || refusal.Kind != "not-found" {
		s.Errorf("%s can be read (%d bytes): %v", path, len(b), err)
	}
	for _, i := range s.items(s.ada) {
		if i.Path == path {
			s.Errorf("%s is listed: %+v", path, i)
		}
	}
}

// refused checks that err is a refusal of that kind which says what to do.
func (s *suite) refused(what string, err error, kind string) *Refusal {
	s.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		s.Fatalf("%s: %v; a refusal as %s was expected", what, err, kind)
	}
	if r.Kind != kind {
		s.Errorf("%s: %v; it should be %s", what, r, kind)
	}
	if r.Kind != "" && r.Text == "" {
		s.Errorf("%s: the refusal says nothing to the person", what)
	}
	return r
}

// An item is a file as the box's interface lists it.
type item struct {
	ID, Path, SHA256, Source string
	Size                     int64
	MTime                    time.Time
	SourceBy                 string `json:"source_by"`
	Taken                    *time.Time
	TakenLocal               bool   `json:"taken_local"`
	TakenFrom                string `json:"taken_from"`
}

// items lists everything that the person keeps.
func (s *suite) items(p *daemontest.Person) (all []item) {
	s.Helper()
	cursor := ""
	for {
		var page struct {
			Items []item
			Next  *string
		}
		p.Call("GET", "/v1/items?recursive=true&limit=1000"+cursor, nil, &page)
		all = append(all, page.Items...)
		if page.Next == nil {
			return all
		}
		cursor = "&cursor=" + *page.Next
	}
}

// A status is what the box says of itself over its maintenance socket.
type status struct {
	Blobs, Items, Uploads int64
	Volume                struct {
		OK    bool
		Error *string
	}
	Disk struct{ Free int64 }
}

func (s *suite) status() (st status) {
	s.Helper()
	s.box.Local("GET", "/local/status", nil, &st)
	return st
}

// quiet waits until the box holds no upload any more.
func (s *suite) quiet() {
	s.Helper()
	s.eventually("the box lets go of the upload", func() bool { return s.status().Uploads == 0 })
}

// cancel gives an upload that broke off up, if its protocol keeps it.
func (s *suite) cancel(f File) {
	s.Helper()
	if err := s.client.Cancel(s.Context(), f.Path); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		s.Errorf("%s: cancelling: %v", f.Path, err)
	}
}

// eventually waits for something that the box does by itself.
func (s *suite) eventually(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("%s: not within two minutes", what)
		}
	}
}

// unchanged runs do and checks that after it the box keeps what it kept before.
func (s *suite) unchanged(do func()) {
	s.Helper()
	items, blobs := s.items(s.ada), s.status().Blobs
	do()
	s.quiet()
	after := s.items(s.ada)
	if len(after) != len(items) {
		s.Errorf("%d files were listed, now %d", len(items), len(after))
	}
	if now := s.status().Blobs; now != blobs {
		s.Errorf("%d contents were kept, now %d", blobs, now)
	}
}

// check lets the box compare its records with its disk.
func check(t *testing.T, box *daemontest.Box, waste map[string]bool) {
	t.Helper()
	var found struct {
		Event, SHA256    string
		Damaged, Orphans int64
		Error            string
	}
	for _, line := range box.LocalLines("POST", "/local/check", map[string]any{"deep": true}) {
		if err := json.Unmarshal(line, &found); err != nil {
			t.Fatal(err)
		}
		if found.Event == "damage" || found.Event == "orphan" && !waste[found.SHA256] {
			t.Errorf("%s", line)
		}
	}
	if found.Event != "done" || found.Error != "" {
		t.Errorf("the check did not come to its end: %+v", found)
	}
}

// content is n bytes that no other call with another name returns.
func content(name string, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b) // never fails
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

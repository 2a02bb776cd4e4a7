package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

const manyType = "application/vnd.yunbox.files"

// oneOf is one file of a row.
func oneOf(path, content, more string) string {
	return fmt.Sprintf(`{"path":%q,"size":%d%s}`, path, len(content), more) + "\n" + content
}

// A fileLine is one line of the answer.
type fileLine struct {
	stored
	N       *int
	Problem struct{ Type, Title, Hint, Purpose string }
}

func (l fileLine) kind() string { return strings.TrimPrefix(l.Problem.Type, "urn:yunbox:problem:") }

// sending is a request with many files that the test writes piece by piece.
type sending struct {
	t     *testing.T
	w     *world
	body  *io.PipeWriter
	lines *bufio.Reader
	ready chan error
	proto int
}

func (w *world) sendMany(p *daemontest.Person) *sending {
	r, body := io.Pipe()
	s := &sending{t: w.t, w: w, body: body, ready: make(chan error, 1)}
	req := p.Request("POST", "/v1/files", r)
	req.Header.Set("Content-Type", manyType)
	go func() {
		resp, err := w.Client.Do(req)
		if err == nil {
			w.t.Cleanup(func() { resp.Body.Close() })
			if s.lines = bufio.NewReader(resp.Body); resp.StatusCode != 200 {
				err = fmt.Errorf("%s", resp.Status)
			}
			s.proto = resp.ProtoMajor
		}
		s.ready <- err
	}()
	return s
}

func (s *sending) write(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.body, text); err != nil {
		s.t.Fatal(err)
	}
}

// line reads the next line and holds it against the document.
func (s *sending) line() (l fileLine, err error) {
	s.t.Helper()
	if s.ready != nil {
		if err := <-s.ready; err != nil {
			s.t.Fatal(err)
		}
		s.ready = nil
	}
	b, err := s.lines.ReadBytes('\n')
	if err != nil {
		return l, err
	}
	if err := s.w.spec.checkAnswer("POST", "/v1/files", 200, http.Header{"Content-Type": {"application/x-ndjson"}}, b); err != nil {
		s.t.Error(err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		s.t.Fatalf("%v in %s", err, b)
	}
	return l, nil
}

// rest reads all lines that come, by the place of their file; -1: of none.
func (s *sending) rest() map[int]fileLine {
	s.t.Helper()
	all := map[int]fileLine{}
	for {
		l, err := s.line()
		if err != nil {
			return all
		}
		n := -1
		if l.N != nil {
			n = *l.N
		}
		if _, twice := all[n]; twice {
			s.t.Errorf("two lines of %d", n)
		}
		all[n] = l
	}
}

// R01 R20: each file of a row is its own: what is refused with one says so, and those
// around it are kept.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := w.Client
	for _, version := range []int{1, 2} {
		w.Client = plain
		if version == 2 {
			w.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: w.TLS(), ForceAttemptHTTP2: true}}
			t.Cleanup(w.Client.CloseIdleConnections)
		}
		in := fmt.Sprintf("v%d/", version)
		photo := strings.Repeat("the bytes of a photo ", 9000) + in
		files := []struct{ path, content, more, kind string }{
			{"first.jpg", photo, `,"source":"album","mtime":"1700000000.123"`, ""},
			{"wechat.jpg", photo + "w", `,"source":"wechat"`, "consent-required"},
			{"other hash.jpg", photo + "h", `,"sha256":"` + sha("x") + `"`, "mismatch"},
			{"no hash.jpg", "h", `,"sha256":"x"`, "invalid"},
			{"../up.jpg", "up", "", "invalid"},
			{"mmexport1598266474988.jpg", "found by its name", "", "consent-required"},
			{"empty", "", "", ""},
			{"a time.jpg", "t", `,"mtime":"yesterday"`, "invalid"},
			{"source.jpg", "s", `,"source":"facebook"`, "invalid"},
			{"giant.mp4", strings.Repeat("g", 8<<20+1), "", "too-large"},
			{"proven.txt", photo + "p", `,"source":"other","sha256":"` + sha(photo+"p") + `"`, ""},
		}
		s := w.sendMany(w.ada)
		go func() {
			for _, f := range files {
				_, _ = io.WriteString(s.body, oneOf(in+f.path, f.content, f.more)) // a failure shows in the lines
			}
			s.body.Close()
		}()
		said := s.rest()
		if len(said) != len(files) || s.proto != version {
			t.Errorf("HTTP/%d: %d lines for %d files", s.proto, len(said), len(files))
		}
		for n, f := range files {
			l := said[n]
			if l.kind() != f.kind || f.kind != "" && (l.Problem.Title == "" || l.Problem.Hint == "") {
				t.Errorf("%s: %+v, want %q", f.path, l, f.kind)
			}
			if f.kind != "" {
				continue
			}
			if l.SHA256 != sha(f.content) || l.Path != in+f.path || (l.Stored == "new") != (f.content != "" || version == 1) || l.Size != int64(len(f.content)) {
				t.Errorf("%s: %+v", f.path, l)
			}
			if got := w.ask(w.ada, "GET", "/v1/files/"+strings.ReplaceAll(in+f.path, " ", "%20"), ""); string(got.body) != f.content {
				t.Errorf("%s came back with %d bytes", f.path, len(got.body))
			}
		}
		if l := said[1]; l.Problem.Purpose != "wechat_backup" {
			t.Errorf("the refusal names %q", l.Problem.Purpose)
		}
		if n := len(slices.DeleteFunc(w.names(w.ada), func(name string) bool { return !strings.HasPrefix(name, in) })); n != 3 {
			t.Errorf("%d files are kept of 3", n)
		}
	}
	// What is there is left alone, if that is wanted.
	s := w.sendMany(w.ada)
	go func() {
		_, _ = io.WriteString(s.body, oneOf("v1/first.jpg", "another", `,"absent":true`)+oneOf("v1/second.jpg", "another", `,"absent":true`))
		s.body.Close()
	}()
	if said := s.rest(); len(said) != 2 || said[0].kind() != "precondition-failed" || said[1].SHA256 != sha("another") {
		t.Errorf("%+v", said)
	}
	if got := w.ask(w.ada, "GET", "/v1/files/v1/first.jpg", ""); string(got.body) == "another" {
		t.Error("what was there was replaced")
	}
	w.ask(w.ada, "POST", "/v1/files", "x", "Content-Type", "text/plain").is(t, "another media type", 415, "unsupported-media")
	w.ask(w.ada, "POST", "/v1/files?source=album", "x", "Content-Type", manyType).is(t, "a source for all", 400, "invalid")
	w.ask(w.ada, "POST", "/v1/files?device=x", "x", "Content-Type", manyType).is(t, "no device", 400, "invalid")
	w.ask(nil, "POST", "/v1/files", "x", "Content-Type", manyType).is(t, "nobody", 401, "unauthenticated")
}

// R20: a file is refused before its bytes, and those of a file come to an answer
// before the next one is sent.
func TestManyFilesAreAnsweredOneByOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.sendMany(w.ada)
	s.write(`{"path":"private.jpg","size":1000000,"source":"wechat"}` + "\n")
	if l, err := s.line(); err != nil || l.kind() != "consent-required" || *l.N != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	s.write(strings.Repeat("p", 1000000))
	s.write(oneOf("a.txt", "one", ""))
	if l, err := s.line(); err != nil || l.SHA256 != sha("one") || *l.N != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	if got := w.names(w.ada); !slices.Equal(got, []string{"a.txt"}) {
		t.Errorf("before the request ended there is %q", got)
	}
	// A cut in the middle of a file leaves what was acknowledged.
	s.write(oneOf("b.txt", "two", ""))
	if l, err := s.line(); err != nil || *l.N != 2 {
		t.Fatalf("%+v, %v", l, err)
	}
	s.write(`{"path":"c.txt","size":100}` + "\nhalf")
	eventually(t, "the box receives it", func() bool { return w.status().Uploads == 1 })
	s.body.CloseWithError(io.ErrClosedPipe)
	eventually(t, "the box lets go of it", func() bool { return w.status().Uploads == 0 })
	if got := w.names(w.ada); !slices.Equal(got, []string{"a.txt", "b.txt"}) {
		t.Errorf("after the cut there is %q", got)
	}
}

// R22: a withdrawal stops the file that comes; those of other purposes go on, as
// long as the bytes come.
func TestManyFilesWithdrawn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.sendMany(w.ada)
	s.write(`{"path":"a.jpg","size":300000,"source":"album"}` + "\n" + strings.Repeat("a", 200000))
	eventually(t, "the box receives it", func() bool { return w.status().Uploads == 1 })
	w.ada.Withdraw("album_backup")
	s.write(strings.Repeat("a", 100000) + oneOf("b.jpg", "album again", `,"source":"album"`) + oneOf("c.txt", "no album", `,"source":"other"`))
	s.body.Close()
	said := s.rest()
	if len(said) != 3 || said[0].kind() != "consent-required" || said[1].kind() != "consent-required" || said[2].SHA256 != sha("no album") {
		t.Errorf("%+v", said)
	}
	if got := w.names(w.ada); !slices.Equal(got, []string{"c.txt"}) {
		t.Errorf("there is %q", got)
	}
	// Where nothing comes any more the whole request ends.
	w.ada.Grant("album_backup")
	s = w.sendMany(w.ada)
	s.write(`{"path":"d.jpg","size":300000,"source":"album"}` + "\n" + strings.Repeat("a", 200000))
	eventually(t, "the box receives it", func() bool { return w.status().Uploads == 1 })
	w.ada.Withdraw("album_backup")
	if said := s.rest(); len(said) > 1 || len(said) == 1 && said[0].kind() != "consent-required" {
		t.Errorf("%+v", said)
	}
	eventually(t, "the box lets go of it", func() bool { return w.status().Uploads == 0 })
}

// Where the next file begins must be beyond doubt.
func TestManyFilesWithoutAFrame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for what, line := range map[string]string{
		"no JSON": "hello\n", "no size": `{"path":"x"}` + "\n", "a size below zero": `{"path":"x","size":-1}` + "\n",
		"a size that is text": `{"path":"x","size":"1"}` + "\n", "a misspelt member": `{"path":"x","size":1,"sourse":"album"}` + "\n",
		"two objects": `{"path":"x","size":1}{}` + "\n", "a giant line": strings.Repeat(" ", 20<<10) + "\n", "no end": `{"path":"x"`,
	} {
		s := w.sendMany(w.ada)
		go func() {
			_, _ = io.WriteString(s.body, oneOf("before.txt", "before", "")+line+oneOf("after.txt", "after", "")) // it may not be read
			s.body.Close()
		}()
		said := s.rest()
		if said[0].SHA256 != sha("before") || said[-1].kind() != "invalid" || len(said) != 2 {
			t.Errorf("%s: %+v", what, said)
		}
	}
	if got := w.names(w.ada); !slices.Equal(got, []string{"before.txt"}) {
		t.Errorf("there is %q", got)
	}
}

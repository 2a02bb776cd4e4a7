package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A rowBox is a box that takes many files in one request, and is not always honest.
type rowBox struct {
	t  *testing.T
	mu sync.Mutex
	// by path
	kept, alone map[string]string
	requests    int
	verdict     func(request int, path, sum string) (line string, cut bool)
	// for an import
	head  func(fileAhead)   // hears what is said of each file; nil: nobody asks
	taken map[string]string // names that have something, and its hash
	old   bool              // does not know all that is said of a file
}

// cutsTwo says when to cut two of the requests: each after it has brought some files, and
// long before all are there, however they are shared out.
func (b *rowBox) cutsTwo() func(request int) bool {
	cuts, said := 0, map[int]int{}
	return func(request int) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if said[request]++; cuts == 2 || said[request] <= 20 || len(b.kept) > 150 {
			return false
		}
		cuts++
		return true
	}
}

func (b *rowBox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/.well-known/yunbox":
		fmt.Fprint(w, `{"id":"box"}`)
	case r.URL.Path == "/v1/me":
		fmt.Fprint(w, `{"id":"me","username":"ada"}`)
	case r.URL.Path == "/v1/blobs/known":
		fmt.Fprint(w, `{"known":[]}`)
	case b.taken[strings.TrimPrefix(r.URL.Path, "/v1/files/")] != "":
		if r.Method == http.MethodHead {
			w.Header().Set("ETag", `"`+b.taken[strings.TrimPrefix(r.URL.Path, "/v1/files/")]+`"`)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusPreconditionFailed)
		fmt.Fprint(w, `{"type":"urn:yunbox:problem:precondition-failed","title":"t"}`)
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			b.t.Error(err)
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(body))
		b.mu.Lock()
		b.alone[strings.TrimPrefix(r.URL.Path, "/v1/files/")] = sum
		b.mu.Unlock()
		fmt.Fprintf(w, `{"sha256":%q}`, sum)
	case r.URL.Path == "/v1/files":
		b.row(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (b *rowBox) row(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.requests++
	request := b.requests
	b.mu.Unlock()
	flow := http.NewResponseController(w)
	if err := flow.EnableFullDuplex(); err != nil {
		b.t.Error(err)
	}
	body := bufio.NewReader(r.Body)
	for n := 0; ; n++ {
		line, err := body.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return
		}
		var head fileAhead
		if err := errors.Join(err, json.Unmarshal(line, &head)); err != nil {
			b.t.Errorf("%q: %v", line, err)
			return
		}
		if b.old {
			fmt.Fprint(w, `{"problem":{"type":"urn:yunbox:problem:invalid","title":"t"}}`+"\n")
			return
		}
		if b.head != nil {
			b.head(head)
		}
		h := sha256.New()
		if _, err := io.CopyN(h, body, head.Size); err != nil {
			b.t.Errorf("%s: %v", head.Path, err)
			return
		}
		answer, cut := b.verdict(request, head.Path, head.SHA256)
		if cut {
			panic(http.ErrAbortHandler)
		}
		if answer == "" {
			if sum := fmt.Sprintf("%x", h.Sum(nil)); sum != head.SHA256 {
				answer = `"problem":{"type":"urn:yunbox:problem:mismatch","title":"t"}`
			} else {
				b.mu.Lock()
				b.kept[head.Path] = sum
				b.mu.Unlock()
				answer = `"sha256":"` + sum + `"`
			}
		}
		fmt.Fprintf(w, `{"n":%d,%s}`+"\n", n, answer)
		if err := flow.Flush(); err != nil {
			return
		}
	}
}

// R05: whatever becomes of a row, each file is safe in the end, and only what was
// confirmed with its own hash counts.
func TestPushManyToARequest(t *testing.T) {
	dir, big := t.TempDir(), strings.Repeat("x", manyUpTo+1)
	want := map[string]string{}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		want[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	}
	for i := range 300 {
		write(fmt.Sprintf("%03d", i), strings.Repeat(fmt.Sprint("photo ", i), i))
	}
	write("big", big)
	write("lied about", "the box says another hash")
	write("refused once", "the box had no time")
	write("deleted", "its owner deleted it a moment ago")
	b := &rowBox{t: t, kept: map[string]string{}, alone: map[string]string{}}
	cut := b.cutsTwo()
	b.verdict = func(request int, path, _ string) (string, bool) {
		switch path {
		case "lied about":
			return `"sha256":"` + strings.Repeat("0", 64) + `"`, false
		case "refused once":
			return `"problem":{"type":"urn:yunbox:problem:unavailable","title":"t"}`, false
		case "deleted":
			return `"problem":{"type":"urn:yunbox:problem:deleted","title":"t"}`, false
		}
		return "", cut(request)
	}
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	t.Setenv("YUNBOX_TOKEN", "token")
	var out strings.Builder
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: io.Discard, json: true, box: srv.URL, profile: filepath.Join(t.TempDir(), "none")}
	if err := a.push(t.Context(), dir, pushOptions{source: "other", jobs: 8, retryFor: time.Minute, cacheDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	delete(want, "deleted")
	for name, sum := range want {
		if b.kept[name] != sum && b.alone[name] != sum {
			t.Errorf("%s is not on the box", name)
		}
	}
	// Alone go the first, which asks for all, the large one, and what the box said nothing good of.
	if len(b.alone) != 4 || b.alone["big"] == "" || b.alone["lied about"] == "" || b.alone["refused once"] == "" {
		t.Errorf("%d files were sent alone", len(b.alone))
	}
	var done summary
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &done); err != nil {
		t.Fatal(err)
	}
	if done.Stored != int64(len(want)) || done.Deleted != 1 || done.Failed != 0 || len(lines) != len(want)+3 {
		t.Errorf("%+v, %d lines", done, len(lines))
	}
}

// A file that changes after it was hashed is not stored as what it was, nor are those
// after it in the row harmed.
func TestPushManyOfFilesThatChange(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d", i)), []byte(strings.Repeat("a", 5000+i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := &pusher{app: &app{stderr: io.Discard}, opt: pushOptions{source: "other"}}
	p.rep = newReport(p.app, p)
	var jobs []job
	for i := range 3 {
		e := &entry{record: record{rel: fmt.Sprintf("%02d", i)}, abs: filepath.Join(dir, fmt.Sprintf("%02d", i))}
		info, err := os.Lstat(e.abs)
		if err != nil {
			t.Fatal(err)
		}
		e.id = statID(info)
		jobs = append(jobs, job{e, false})
	}
	l := &pushLoad{p: p, jobs: jobs, next: new(atomic.Int64)}
	r := newRow(l)
	_, r.flow = newFlow(t.Context())
	defer r.flow.stop()
	buf := make([]byte, 1000)
	if _, err := r.Read(buf); err != nil { // the line of the first
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(jobs[0].e.abs, 100), os.Truncate(jobs[1].e.abs, 10)); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	body := string(rest)
	first, third, _ := strings.Cut(body, "\n")
	if want := strings.Repeat("a", 100) + strings.Repeat("\x00", 4900); !strings.HasPrefix(first, want+`{"path":"02"`) {
		t.Errorf("the file that became shorter has %d bytes in the row", strings.IndexByte(first, '{'))
	}
	if third != strings.Repeat("a", 5002) {
		t.Errorf("the one after it has %d bytes", len(third))
	}
	if left := l.unsettled(r); len(left) != 3 {
		t.Errorf("%d of 3 files are to be sent again", len(left))
	}
}

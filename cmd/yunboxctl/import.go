package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"yunbox.local/daemon/problem"
)

func (a *app) importCommand() *cobra.Command {
	m := &importer{app: a}
	c := &cobra.Command{
		Use: "import FILE", Short: "Bring the files of an export to this box", Args: cobra.ExactArgs(1),
		Long: `import brings the files of an archive that yunboxctl export or the page made to another
box, or back: with their names, folders, times and sources. What you deleted from this
box is not brought back, unless you say --again. Older versions, the trash and what the other
box knew besides stay in the archive.

The whole archive is checked first, against what the box that made it signed; of one
that was changed or cut off nothing is taken. No consent comes along: files of a source
that you did not consent to on this box are left out and counted. A name that
has another content here is left alone, too.

A second run sends only what is missing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if m.jobs < 1 || m.jobs > 64 {
				return usagef("--jobs must be between 1 and 64")
			}
			var err error
			if m.c, err = a.person(cmd.Context()); err != nil {
				return err
			}
			return m.run(cmd.Context(), args[0])
		},
	}
	f := c.Flags()
	f.StringVar(&m.into, "into", "", "folder on the box [its root]")
	f.BoolVar(&m.again, "again", false, "also bring what you deleted from this box")
	f.BoolVar(&m.dry, "dry-run", false, "only check the archive and say what is in it")
	f.IntVar(&m.jobs, "jobs", 4, "files sent at a time")
	f.DurationVar(&m.retryFor, "retry-for", 5*time.Minute, "go on for this long without progress")
	return c
}

// importer brings one archive to a box.
type importer struct {
	app        *app
	c          *client
	into       string
	again, dry bool
	jobs       int
	retryFor   time.Duration

	file  *os.File
	scan  *scan
	alive *alive
	bar   *progress

	mu       sync.Mutex
	sum      importSum
	bad      map[string]bool   // entries that are not whole
	unwanted map[string]string // sources without consent, and the purpose that it would need
	welcome  map[string]bool   // sources of which the box has taken a file
	apart    atomic.Bool       // the box takes one file a request
}

// importSum is what became of the files of an archive.
type importSum struct {
	Box       string    `json:"from_box"` // the box that made it
	Person    string    `json:"from_person"`
	Made      time.Time `json:"made"`
	Files     int64     `json:"files"`
	Stored    int64     `json:"stored"`
	Known     int64     `json:"known"`    // was here already
	Refused   int64     `json:"refused"`  // no consent
	Deleted   int64     `json:"deleted"`  // deleted here before
	Conflict  int64     `json:"conflict"` // the name has another content here
	Failed    int64     `json:"failed"`
	Missing   int64     `json:"missing"` // in the archive already
	Folders   int64     `json:"folders"`
	Bytes     int64     `json:"bytes"` // that were sent
	Purposes  []string  `json:"purposes,omitempty"`
	firstName string    // of what failed
	firstErr  error
}

// importFile is a file in the archive and where its bytes are.
type importFile struct {
	archiveLine
	from int64
}

// source is what the box is told of where a file comes from.
func (f importFile) source() string {
	if f.Source == "" || f.SourceBy == "none" {
		return "other"
	}
	return f.Source
}

func (m *importer) run(ctx context.Context, name string) (err error) {
	if m.file, err = os.Open(name); err != nil {
		return usagef("%s cannot be read", shown(name))
	}
	defer m.file.Close()
	info, err := m.file.Stat()
	if err != nil {
		return err
	}
	m.alive, m.scan = &alive{patience: m.retryFor}, newScan(m.file)
	m.unwanted, m.welcome = map[string]string{}, map[string]bool{}
	m.bar = newProgress(m.app.stderr, !m.app.json)
	defer m.bar.clear()
	m.bar.total(info.Size())
	all := io.NewSectionReader(m.file, 0, info.Size())
	facts, missing, err := readArchive(ctx, readerFunc(func(p []byte) (int, error) {
		n, err := all.Read(p)
		m.bar.add(int64(n))
		return n, err
	}), info.Size(), m.scan, func(archiveFacts) error { return nil })
	if err != nil {
		return err
	}
	m.bad = facts.bad
	m.sum.Box, m.sum.Person, m.sum.Made, m.sum.Missing = facts.Box.Key, facts.Person.Username, facts.Time, missing
	m.bar.clear()
	if m.dry {
		m.sum.Files, m.sum.Folders = facts.Counts.Files, facts.Counts.Folders
		return m.app.print(m.sum, func(w io.Writer) {
			fmt.Fprintf(w, "whole and genuine: made by box %s for %s on %s\n%s, %s, %s\n", m.sum.Box, shown(m.sum.Person), m.sum.Made.Local().Format("2006-01-02"),
				plural(facts.Counts.Files, "file", "files"), plural(facts.Counts.Folders, "folder", "folders"), problem.Bytes(facts.Counts.Bytes))
		})
	}
	if !m.app.json {
		m.app.warn("the archive is whole: made by box %s for %s on %s", m.sum.Box, shown(m.sum.Person), m.sum.Made.Local().Format("2006-01-02"))
	}
	m.bar = newProgress(m.app.stderr, !m.app.json)
	m.bar.found(facts.Counts.Files, facts.Counts.Bytes)
	if err := m.send(ctx); err != nil {
		return err
	}
	if err := m.folders(ctx); err != nil {
		return err
	}
	m.bar.clear()
	return m.tell()
}

// send sends the files, importBatch of them after each other. The archive is read a
// second time: it was whole a moment ago, and the box checks each hash again.
func (m *importer) send(ctx context.Context) error {
	var batch []importFile
	err := m.walk(func(from int64, l *archiveLine) error {
		if l.Kind != "file" {
			return nil
		}
		batch = append(batch, importFile{*l, from})
		if len(batch) < importBatch {
			return nil
		}
		err := m.sendBatch(ctx, batch)
		batch = batch[:0]
		return err
	})
	if err == nil {
		err = m.sendBatch(ctx, batch)
	}
	return err
}

// sendAlone sends files one by one, several at a time.
func (m *importer) sendAlone(ctx context.Context, files []importFile) error {
	outer := ctx
	g, ctx := errgroup.WithContext(outer)
	g.SetLimit(m.jobs)
	for _, f := range files {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return m.one(ctx, f)
		})
	}
	err := g.Wait()
	if err == nil && outer.Err() != nil {
		err = context.Cause(outer)
	}
	return err
}

// walk calls each with every entry of the list, and where its content begins, without
// reading the contents again. Holes are left out.
func (m *importer) walk(each func(from int64, l *archiveLine) error) error {
	items, err := m.scan.items()
	if err != nil {
		return err
	}
	in := io.NewSectionReader(m.file, 0, 1<<62)
	entries := tar.NewReader(in) // seeks over what is not read
	for name := ""; name != signName; {
		h, err := entries.Next()
		if err != nil {
			return err
		}
		name = h.Name
	}
	lines := bufio.NewReaderSize(items, maxLine)
	for {
		l, err := nextLine(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h, err := entries.Next()
		if err != nil {
			return err
		}
		from, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if strings.HasPrefix(h.Name, holesPrefix) || m.bad[l.Entry] {
			continue
		}
		if err := each(from, &l); err != nil {
			return err
		}
	}
}

// one sends one file. An error ends the import.
func (m *importer) one(ctx context.Context, f importFile) error {
	if m.leftOut(f) {
		return nil
	}
	stored, err := false, error(nil)
	for wait := newBackoff(); ; {
		stored, err = m.put(ctx, f)
		if err == nil {
			m.alive.beat()
			break
		}
		if m.alive.again(ctx, wait, err) != nil {
			break
		}
	}
	if problem.KindOf(err) == problem.PreconditionFailed {
		var same bool
		if same, err = m.same(ctx, f); err == nil && !same {
			err = errOther
		}
		stored = false
	}
	return m.settle(ctx, f, stored, err)
}

// leftOut counts a file whose source is known not to be consented to, and reports
// whether it is one.
func (m *importer) leftOut(f importFile) bool {
	if m.unwelcome(f.source()) {
		m.count(f, func(s *importSum) { s.Refused++ })
		return true
	}
	return false
}

func (m *importer) unwelcome(source string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, unwanted := m.unwanted[source]
	return unwanted
}

// count takes a file into the sum.
func (m *importer) count(f importFile, how func(*importSum)) {
	m.mu.Lock()
	m.sum.Files++
	how(&m.sum)
	m.mu.Unlock()
	m.bar.step(f.Size, 0, 1)
}

// settle takes note of what became of a file, and returns the error if that ends the
// import.
func (m *importer) settle(ctx context.Context, f importFile, stored bool, err error) error {
	switch kind := problem.KindOf(err); {
	case err == nil && stored:
		m.count(f, func(s *importSum) { s.Stored++; s.Bytes += f.Size; m.welcome[f.source()] = true })
	case err == nil:
		m.count(f, func(s *importSum) { s.Known++; m.welcome[f.source()] = true })
	case errors.Is(err, errOther):
		m.count(f, func(s *importSum) { s.Conflict++ })
	case kind == problem.ConsentRequired:
		purpose, _ := problem.As(err).Members["purpose"].(string)
		m.count(f, func(s *importSum) {
			s.Refused++
			m.unwanted[f.source()] = purpose
			if purpose != "" && !slices.Contains(s.Purposes, purpose) {
				s.Purposes = append(s.Purposes, purpose)
			}
		})
	case kind == problem.Deleted:
		m.count(f, func(s *importSum) { s.Deleted++ })
	case isFatal(err) || ctx.Err() != nil:
		return err
	default:
		m.count(f, func(s *importSum) {
			s.Failed++
			if s.firstErr == nil {
				s.firstName, s.firstErr = f.Path, err
			}
		})
	}
	return nil
}

var errOther = errors.New("the name has another content on the box")

func (m *importer) target(name string) string {
	return strings.TrimPrefix(path.Join(m.into, name), "/")
}

// put sends PUT /v1/files/…, which decides everything before it takes the body.
func (m *importer) put(ctx context.Context, f importFile) (stored bool, err error) {
	ctx, flow := newFlow(ctx)
	defer flow.stop()
	query := url.Values{"source": {f.source()}}
	if f.MTime != "" {
		query.Set("mtime", f.MTime)
	}
	if m.again {
		query.Set("again", "true")
	}
	req, err := m.c.request(ctx, http.MethodPut, filePath(m.target(f.Path))+"?"+query.Encode(), nil)
	if err != nil {
		return false, err
	}
	sum, err := hex.DecodeString(f.SHA256)
	if err != nil {
		return false, err
	}
	req.Header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	req.Header.Set("If-None-Match", "*")
	var body *importBody
	if f.Size > 0 {
		body = &importBody{r: flow.reader(io.NewSectionReader(m.file, f.from, f.Size), nil), end: make(chan struct{})}
		defer body.wait()
		req.Body, req.ContentLength = body, f.Size
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Expect", "100-continue")
	}
	res, err := m.c.do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusCreated, nil
}

// importBody tells when the transport reads no more.
type importBody struct {
	r    io.Reader
	end  chan struct{}
	once sync.Once
}

func (b *importBody) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b *importBody) Close() error {
	b.once.Do(func() { close(b.end) })
	return nil
}

func (b *importBody) wait() { <-b.end }

// same reports whether the name has the content of f already.
func (m *importer) same(ctx context.Context, f importFile) (bool, error) {
	req, err := m.c.request(ctx, http.MethodHead, filePath(m.target(f.Path)), nil)
	if err != nil {
		return false, err
	}
	res, err := m.c.do(req)
	if err != nil {
		return false, err
	}
	res.Body.Close()
	return strings.Trim(res.Header.Get("ETag"), `"`) == f.SHA256, nil
}

// folders makes the folders that no file made: empty ones.
func (m *importer) folders(ctx context.Context) error {
	return m.walk(func(_ int64, l *archiveLine) error {
		if l.Kind != "folder" {
			return nil
		}
		where := strings.Replace(filePath(m.target(l.Path)), "/v1/files/", "/dav/", 1) + "/"
		req, err := m.c.request(ctx, "MKCOL", where, nil)
		if err != nil {
			return err
		}
		res, err := m.c.http.Do(req)
		if err != nil {
			return unreachable(err)
		}
		res.Body.Close()
		if res.StatusCode == http.StatusCreated {
			m.sum.Folders++
		}
		return nil // there already, or not consented to: its files say so
	})
}

func (m *importer) tell() error {
	s := m.sum
	if err := m.app.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d stored, %d already here\n", plural(s.Files, "file", "files"), s.Stored, s.Known)
		for _, part := range []struct {
			n    int64
			text string
		}{
			{s.Refused, "left out: there is no consent to their source on this box"},
			{s.Deleted, "left out: you deleted them from this box; --again brings them back"},
			{s.Conflict, "left out: their name has another content here; --into FOLDER puts them elsewhere"},
			{s.Missing, "are missing in the archive"},
			{s.Failed, "failed"},
		} {
			if part.n > 0 {
				fmt.Fprintf(w, "%d %s\n", part.n, part.text)
			}
		}
		for _, p := range s.Purposes {
			fmt.Fprintf(w, "`yunboxctl consent grant %s` lets them in, then import again\n", p)
		}
		if s.firstErr != nil {
			fmt.Fprintf(w, "the first: %s: %s\n", shown(s.firstName), problem.Sentence(s.firstErr))
		}
	}); err != nil {
		return err
	}
	switch {
	case s.Failed+s.Conflict > 0:
		return &codeError{problem.ExitPartly}
	case s.Refused > 0:
		return &codeError{problem.ExitConsent}
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// exportState is an export on the box.
type exportState struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Versions bool      `json:"versions"`
	Trash    bool      `json:"trash"`
	Expires  time.Time `json:"expires"`
	Listed   int64     `json:"listed"`
	Bytes    int64     `json:"bytes"`
	Size     int64     `json:"size"`
	FileName string    `json:"file_name"`
	Failure  *string   `json:"failure"`
}

func (a *app) exportCommand() *cobra.Command {
	e := &exporter{app: a}
	c := &cobra.Command{
		Use: "export FILE|DIR", Short: "Fetch everything that the box holds about you", Args: cobra.ExactArgs(1),
		Long: `export fetches everything that the box holds about you: your files under their names
and folders, and what else is kept, as JSON. It needs no consent.

FILE becomes one tar archive. What arrived is kept beside it until it is whole; a cut
connection, or the next run within a week, goes on from there. DIR, an empty folder, gets
the same unpacked. Everything is checked against the hashes that the box signed.

The archive needs nothing of ours to be read: tar and sha256sum do. yunboxctl import
brings its files to another box.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if e.c, err = a.person(cmd.Context()); err != nil {
				return err
			}
			return e.run(cmd.Context(), args[0])
		},
	}
	f := c.Flags()
	f.BoolVar(&e.versions, "versions", false, "also what files held before")
	f.BoolVar(&e.trash, "trash", false, "also what is in the trash")
	f.BoolVar(&e.keep, "keep", false, "leave the export on the box for the rest of the week")
	f.DurationVar(&e.retryFor, "retry-for", 5*time.Minute, "go on for this long without progress")
	return c
}

// exporter fetches one export.
type exporter struct {
	app                   *app
	c                     *client
	versions, trash, keep bool
	retryFor              time.Duration

	alive *alive
	bar   *progress
	is    exportState
}

func (e *exporter) run(ctx context.Context, target string) error {
	e.alive = &alive{patience: e.retryFor}
	info, err := os.Stat(target)
	dir := err == nil && info.IsDir()
	switch {
	case dir:
		if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
			return usagef("%s is not an empty folder", shown(target))
		}
	case err == nil:
		return &problem.Error{Kind: problem.Conflict, Op: "export", Title: "There is a file of that name already", Detail: shown(target), Hint: "Choose another name."}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := e.begin(ctx, target, dir); err != nil {
		return err
	}
	e.bar = newProgress(e.app.stderr, !e.app.json)
	defer e.bar.clear()
	e.bar.total(e.is.Size)
	fetch := e.toFile
	if dir {
		fetch = e.toDir
	}
	facts, missing, err := fetch(ctx, target)
	if err != nil {
		return err
	}
	if !e.keep {
		if err := e.c.call(ctx, "DELETE", e.path(), nil, nil); err != nil {
			e.app.warn("the list of the export stays on the box until %s: %s", e.is.Expires.Local().Format("2006-01-02"), problem.Sentence(err))
		}
	}
	e.bar.clear()
	files := facts.Counts.Files + facts.Counts.Versions + facts.Counts.Trash - missing
	result := map[string]any{"target": target, "files": files, "folders": facts.Counts.Folders, "bytes": facts.Counts.Bytes, "missing": missing, "size": e.is.Size, "export": e.is.ID}
	if err := e.app.print(result, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %s, verified\n", shown(target), plural(files, "file", "files"), problem.Bytes(e.is.Size))
		if missing > 0 {
			fmt.Fprintf(w, "%s deleted meanwhile or damaged: MISSING.jsonl names them\n", plural(missing, "file was", "files were"))
		}
	}); err != nil {
		return err
	}
	if missing > 0 {
		return &codeError{problem.ExitPartly}
	}
	return nil
}

func (e *exporter) path() string { return "/v1/me/exports/" + url.PathEscape(e.is.ID) }

func (e *exporter) part(target string) string {
	return filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+"."+e.is.ID+".part")
}

// begin asks for an export, or goes on with the one of which there is a part here, and
// waits until it can be fetched.
func (e *exporter) begin(ctx context.Context, target string, dir bool) error {
	var list struct {
		Exports []exportState `json:"exports"`
	}
	if err := e.ask(ctx, "GET", "/v1/me/exports", nil, &list); err != nil {
		return err
	}
	for _, is := range list.Exports {
		e.is = is
		if _, err := os.Stat(e.part(target)); err == nil && !dir && is.State == "ready" && is.Versions == e.versions && is.Trash == e.trash {
			return nil
		}
	}
	in := map[string]bool{"versions": e.versions, "trash": e.trash}
	if err := e.ask(ctx, "POST", "/v1/me/exports", in, &e.is); err != nil {
		return err
	}
	for wait := newBackoff(); e.is.State == "preparing"; { // looks often at first
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(wait.next(), time.Second)):
		}
		if err := e.ask(ctx, "GET", e.path(), nil, &e.is); err != nil {
			return err
		}
	}
	if e.is.State != "ready" {
		p := &problem.Error{Kind: problem.Internal, Op: "export", Title: "The box could not make the export", Hint: "Its log says more."}
		if e.is.Failure != nil {
			p.Detail = *e.is.Failure + "."
		}
		return p
	}
	return nil
}

// ask is client.call that tries again. What is asked for here can be asked twice.
func (e *exporter) ask(ctx context.Context, method, path string, in, out any) error {
	for wait := newBackoff(); ; {
		err := e.c.call(ctx, method, path, in, out)
		if err == nil {
			e.alive.beat()
			return nil
		}
		if err := e.alive.again(ctx, wait, err); err != nil {
			return err
		}
	}
}

// toFile fetches the archive into a file.
func (e *exporter) toFile(ctx context.Context, target string) (facts archiveFacts, missing int64, err error) {
	part := e.part(target)
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return facts, 0, err
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return facts, 0, err
	}
	if have > e.is.Size {
		have = 0
		if err := f.Truncate(0); err != nil {
			return facts, 0, err
		}
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return facts, 0, err
	}
	e.bar.step(have, 0, 0)
	if _, err := io.Copy(f, &fetched{e: e, ctx: ctx, at: have}); err != nil {
		return facts, 0, writing(err)
	}
	if err := f.Sync(); err != nil {
		return facts, 0, err
	}
	facts, missing, err = readArchive(ctx, io.NewSectionReader(f, 0, e.is.Size), e.is.Size, newScan(f), func(archiveFacts) error { return nil })
	if err != nil {
		if problem.KindOf(err) == problem.Mismatch {
			f.Close()
			err = errors.Join(err, os.Remove(part))
		}
		return facts, 0, err
	}
	return facts, missing, os.Rename(part, target)
}

func writing(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return &problem.Error{Kind: problem.Full, Op: "export", Title: "The export cannot be written here", Detail: pe.Err.Error() + ".", Hint: "Make room, or choose another place.", Err: err}
	}
	return err
}

// toDir unpacks the archive while it comes.
func (e *exporter) toDir(ctx context.Context, target string) (facts archiveFacts, missing int64, err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return facts, 0, err
	}
	defer root.Close()
	facts, missing, err = readArchive(ctx, &fetched{e: e, ctx: ctx}, e.is.Size, unpacked{root}, func(archiveFacts) error { return nil })
	if err != nil {
		e.app.warn("what is in %s by now is not all of it", shown(target))
		return facts, 0, writing(err)
	}
	for entry := range facts.bad {
		err = errors.Join(err, root.Remove(filepath.FromSlash(entry)))
	}
	return facts, missing, err
}

// fetched reads the archive from the box, and goes on after a cut.
type fetched struct {
	e    *exporter
	ctx  context.Context
	at   int64
	body io.ReadCloser
	flow *flow
	r    io.Reader
	wait *backoff
}

func (f *fetched) Read(p []byte) (int, error) {
	if f.at >= f.e.is.Size {
		f.close()
		return 0, io.EOF
	}
	if f.wait == nil {
		f.wait = newBackoff()
	}
	for {
		if f.body == nil {
			if err := f.open(); err != nil {
				if err := f.e.alive.again(f.ctx, f.wait, err); err != nil {
					return 0, err
				}
				continue
			}
		}
		n, err := f.r.Read(p[:min(int64(len(p)), f.e.is.Size-f.at)])
		f.at += int64(n)
		if n > 0 {
			f.e.alive.beat()
			f.wait = newBackoff()
			return n, nil
		}
		if err != nil {
			f.close()
			if err := f.e.alive.again(f.ctx, f.wait, unreachable(err)); err != nil {
				return 0, err
			}
		}
	}
}

func (f *fetched) open() error {
	ctx, flow := newFlow(f.ctx)
	req, err := f.e.c.request(ctx, http.MethodGet, f.e.path()+"/archive", nil)
	if err != nil {
		flow.stop()
		return err
	}
	tag := `"` + f.e.is.ID + `"`
	if f.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", f.at))
		req.Header.Set("If-Range", tag)
	}
	res, err := f.e.c.do(req)
	if err != nil {
		flow.stop()
		return err
	}
	if res.Header.Get("ETag") != tag || (f.at > 0) != (res.StatusCode == http.StatusPartialContent) {
		res.Body.Close()
		flow.stop()
		return &problem.Error{Kind: problem.Gone, Op: "export", Title: "The export is no longer on the box", Hint: "Run it again: another one is made."}
	}
	f.body, f.flow = res.Body, flow
	f.r = flow.reader(res.Body, func(n int) { f.e.bar.add(int64(n)) })
	return nil
}

func (f *fetched) close() {
	if f.body != nil {
		f.body.Close()
		f.flow.stop()
		f.body = nil
	}
}

// scan checks an archive that is a file, and takes nothing out of it.
type scan struct {
	f  io.ReaderAt
	at map[string]int64 // where the two lists begin
}

func newScan(f io.ReaderAt) *scan { return &scan{f: f, at: map[string]int64{}} }

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

func (s *scan) create(name string, from int64, _ *archiveLine) (io.WriteCloser, error) {
	if name == itemsName || name == sumsName {
		s.at[name] = from
	}
	return discard{io.Discard}, nil
}

// part reads a list from where it begins to the zeros behind it.
func (s *scan) part(name string) (io.ReadCloser, error) {
	header := make([]byte, 512)
	if _, err := s.f.ReadAt(header, s.at[name]-512); err != nil {
		return nil, err
	}
	var size int64
	if _, err := fmt.Sscanf(strings.Trim(string(header[124:136]), " \x00"), "%o", &size); err != nil {
		return nil, badArchive("A header in it is damaged.")
	}
	return io.NopCloser(io.NewSectionReader(s.f, s.at[name], size)), nil
}

func (s *scan) items() (io.ReadCloser, error) { return s.part(itemsName) }
func (s *scan) sums() (io.ReadCloser, error)  { return s.part(sumsName) }

// unpacked writes what an archive holds below a folder, and nowhere else.
type unpacked struct{ root *os.Root }

func (u unpacked) create(name string, _ int64, l *archiveLine) (io.WriteCloser, error) {
	if l != nil && l.Kind == "folder" {
		return discard{io.Discard}, u.root.MkdirAll(filepath.FromSlash(strings.TrimSuffix(name, "/")), 0o755)
	}
	local := filepath.FromSlash(name)
	if err := u.root.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		return nil, err
	}
	f, err := u.root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return f, nil
	}
	modified, err := time.Parse(time.RFC3339, cmp.Or(l.MTime, l.Added))
	if err != nil {
		return nil, errors.Join(badArchive("A line of its list has no time."), f.Close())
	}
	return &unpackedFile{f, u.root, local, modified}, nil
}

type unpackedFile struct {
	*os.File
	root     *os.Root
	name     string
	modified time.Time
}

// Close gives the file the time that it had.
func (f *unpackedFile) Close() error {
	return errors.Join(f.File.Close(), f.root.Chtimes(f.name, f.modified, f.modified))
}

func (u unpacked) items() (io.ReadCloser, error) { return u.root.Open(filepath.FromSlash(itemsName)) }
func (u unpacked) sums() (io.ReadCloser, error)  { return u.root.Open(sumsName) }

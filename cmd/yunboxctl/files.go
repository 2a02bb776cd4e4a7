package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// filePath is the address of a file under /v1/files. Each part is escaped once.
func filePath(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/v1/files/" + strings.Join(parts, "/")
}

func (a *app) lsCommand() *cobra.Command {
	var recursive bool
	c := &cobra.Command{
		Use: "ls [FOLDER]", Short: "List your files on the box", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			folder := ""
			if len(args) == 1 {
				folder = strings.Trim(args[0], "/")
			}
			return a.list(cmd.Context(), c, folder, recursive)
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "files in folders below, too")
	return c
}

// item is a file in the catalogue.
type item struct {
	ID     string     `json:"id"`
	Path   string     `json:"path"`
	Name   string     `json:"name"`
	SHA256 string     `json:"sha256"`
	Size   int64      `json:"size"`
	MTime  *time.Time `json:"mtime"`
	Added  time.Time  `json:"added"`
	Source string     `json:"source"`
}

// page is a part of a listing.
type page struct {
	Folders []struct {
		Path string `json:"path"`
		Name string `json:"name"`
	} `json:"folders"`
	Items []item  `json:"items"`
	Next  *string `json:"next"`
}

// pages calls each for one page after the other until it says that it has enough.
func (c *client) pages(ctx context.Context, folder string, recursive bool, each func(page) (enough bool)) error {
	query := url.Values{"folder": {folder}, "limit": {"1000"}}
	if recursive {
		query.Set("recursive", "true")
	}
	for {
		var p page
		if err := c.call(ctx, "GET", "/v1/items?"+query.Encode(), nil, &p); err != nil {
			return err
		}
		if each(p) || p.Next == nil || *p.Next == "" {
			return nil
		}
		query.Set("cursor", *p.Next)
	}
}

// list prints a page at a time; with --json one object a line.
func (a *app) list(ctx context.Context, c *client, folder string, recursive bool) error {
	return c.pages(ctx, folder, recursive, func(p page) bool {
		var rows [][]string
		for _, f := range p.Folders {
			if a.json {
				a.encode(a.stdout, map[string]string{"folder": f.Path})
			}
			rows = append(rows, []string{"", "", shown(f.Path) + "/"})
		}
		for _, i := range p.Items {
			if a.json {
				a.encode(a.stdout, i)
			}
			when := ""
			if i.MTime != nil {
				when = i.MTime.Local().Format("2006-01-02 15:04")
			}
			rows = append(rows, []string{problem.Bytes(i.Size), when, shown(i.Path)})
		}
		if !a.json {
			columns(a.stdout, rows)
		}
		return false
	})
}

func (a *app) rmCommand() *cobra.Command {
	var forGood, yes bool
	c := &cobra.Command{
		Use: "rm PATH", Short: "Put a file on the box into the trash, or delete it for good", Args: cobra.ExactArgs(1),
		Long: "rm puts one of your files into the trash. With --for-good it is deleted with all its versions, and\na push does not send the same content again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), strings.Trim(args[0], "/")
			c, err := a.person(ctx)
			if err != nil {
				return err
			}
			var it item
			if forGood {
				if it, err = c.find(ctx, name); err != nil {
					return err
				}
				if err := a.confirm(yes, fmt.Sprintf("Delete %s (%s) from the box for good?", shown(it.Path), problem.Bytes(it.Size)), "rm --for-good"); err != nil {
					return err
				}
			}
			if err := c.call(ctx, "DELETE", filePath(name), nil, nil); err != nil {
				if problem.KindOf(err) == problem.NotFound {
					return noSuchFile(name)
				}
				return err
			}
			what := "in the trash"
			if forGood {
				what = "deleted for good"
				if err := c.call(ctx, "DELETE", "/v1/items/"+url.PathEscape(it.ID), nil, nil); err != nil {
					return err
				}
			}
			return a.print(map[string]any{"path": name, "for_good": forGood}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", shown(name), what) })
		},
	}
	c.Flags().BoolVar(&forGood, "for-good", false, "delete it with all its versions")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// find looks a file up by its path.
func (c *client) find(ctx context.Context, name string) (item, error) {
	folder := path.Dir(name)
	if folder == "." {
		folder = ""
	}
	var found item
	err := c.pages(ctx, folder, false, func(p page) bool {
		for _, i := range p.Items {
			if i.Path == name {
				found = i
			}
		}
		return found.ID != ""
	})
	if err == nil && found.ID == "" {
		err = noSuchFile(name)
	}
	return found, err
}

func noSuchFile(name string) error {
	return &problem.Error{Kind: problem.NotFound, Op: "client", Title: "You have no file of that name on the box", Detail: shown(name), Hint: "`yunboxctl ls` lists your files."}
}

func (a *app) getCommand() *cobra.Command {
	var out string
	var force bool
	var retryFor time.Duration
	c := &cobra.Command{
		Use: "get PATH", Short: "Fetch a file from the box and verify it", Args: cobra.ExactArgs(1),
		Long: `get fetches one of your files. What arrived is kept beside the target until it is
whole and its hash is right; a cut connection, or the next run, goes on from there.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			name := strings.Trim(args[0], "/")
			if out == "" {
				out = path.Base(name)
			}
			g := &getter{app: a, c: c, name: name, out: out, force: force, alive: &alive{patience: retryFor}}
			return g.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "output", "o", "", "file to write; - is standard output [the last part of PATH]")
	f.BoolVar(&force, "force", false, "replace the target if it has other content")
	f.DurationVar(&retryFor, "retry-for", 5*time.Minute, "go on for this long without progress")
	return c
}

// getter fetches one file.
type getter struct {
	app       *app
	c         *client
	name, out string
	force     bool
	alive     *alive
}

func (g *getter) run(ctx context.Context) error {
	sum, size, err := g.head(ctx)
	if err != nil {
		return err
	}
	if g.out == "-" {
		return g.stream(ctx, sum)
	}
	if have, err := hashFile(ctx, g.out); err == nil && have == sum {
		return g.done(sum, size, "present")
	} else if err == nil && !g.force {
		return &problem.Error{Kind: problem.Conflict, Op: "get", Title: "There is another file of that name here", Detail: shown(g.out) + " has other content.", Hint: "Choose another name with -o, or replace it with --force."}
	}
	part := filepath.Join(filepath.Dir(g.out), "."+filepath.Base(g.out)+"."+hex.EncodeToString(sum[:6])+".part")
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	have, err := io.Copy(h, f) // what an earlier run left is part of the hash
	if err != nil {
		return err
	}
	bar := newProgress(g.app.stderr, !g.app.json)
	bar.total(size)
	defer bar.clear()
	for wait := newBackoff(); have < size; {
		n, err := g.fetch(ctx, sum, have, size, io.MultiWriter(f, h), bar)
		have += n
		if n > 0 {
			g.alive.beat()
			wait = newBackoff()
		}
		if err != nil {
			if err := g.alive.again(ctx, wait, err); err != nil {
				return err
			}
			continue
		}
	}
	if got := [sha256.Size]byte(h.Sum(nil)); got != sum {
		f.Close()
		os.Remove(part)
		return &problem.Error{Kind: problem.Mismatch, Op: "get", Title: "The file did not arrive as the box says it is", Hint: "What arrived was removed: run it again. If it stays so, `yunboxctl check --deep` on the box finds out why."}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, g.out); err != nil {
		return err
	}
	bar.clear()
	return g.done(sum, size, "fetched")
}

func (g *getter) done(sum [32]byte, size int64, result string) error {
	r := map[string]any{"path": g.name, "file": g.out, "sha256": hex.EncodeToString(sum[:]), "size": size, "result": result}
	return g.app.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %s, verified\n", shown(g.out), map[string]string{"fetched": "fetched", "present": "already here"}[result], problem.Bytes(size))
	})
}

// head asks for hash and size.
func (g *getter) head(ctx context.Context) (sum [32]byte, size int64, err error) {
	for wait := newBackoff(); ; {
		req, err := g.c.request(ctx, http.MethodHead, filePath(g.name), nil)
		if err != nil {
			return sum, 0, err
		}
		res, err := g.c.do(req)
		if err != nil {
			if problem.KindOf(err) == problem.NotFound {
				return sum, 0, noSuchFile(g.name)
			}
			if err := g.alive.again(ctx, wait, err); err != nil {
				return sum, 0, err
			}
			continue
		}
		res.Body.Close()
		b, err := hex.DecodeString(strings.Trim(res.Header.Get("ETag"), `"`))
		if err != nil || len(b) != sha256.Size || res.ContentLength < 0 {
			return sum, 0, &problem.Error{Kind: problem.Internal, Op: "get", Title: "The box did not say what the file's hash is", Hint: "Use a yunboxctl of the box's version."}
		}
		return [32]byte(b), res.ContentLength, nil
	}
}

// fetch writes the bytes from offset on to w and returns how many arrived.
func (g *getter) fetch(ctx context.Context, sum [32]byte, offset, size int64, w io.Writer, bar *progress) (int64, error) {
	ctx, flow := newFlow(ctx)
	defer flow.stop()
	req, err := g.c.request(ctx, http.MethodGet, filePath(g.name), nil)
	if err != nil {
		return 0, err
	}
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		req.Header.Set("If-Range", etag)
	}
	res, err := g.c.do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.Header.Get("ETag") != etag || (offset > 0) != (res.StatusCode == http.StatusPartialContent) {
		return 0, &problem.Error{Kind: problem.Conflict, Op: "get", Title: "The file was changed on the box meanwhile", Hint: "Run it again to fetch the new one."}
	}
	n, err := io.Copy(w, flow.reader(io.LimitReader(res.Body, size-offset), func(n int) { bar.add(int64(n)) }))
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return n, &problem.Error{Kind: problem.Full, Op: "get", Title: "The file cannot be written here", Detail: pe.Err.Error() + ".", Hint: "Make room, or choose another place with -o.", Err: err}
		}
		if cause := context.Cause(ctx); cause != nil {
			return n, cause
		}
		return n, unreachable(err)
	}
	if n < size-offset {
		return n, unreachable(io.ErrUnexpectedEOF)
	}
	return n, nil
}

// stream writes the file to standard output; it can only say afterwards that it was
// not right.
func (g *getter) stream(ctx context.Context, sum [32]byte) error {
	h := sha256.New()
	req, err := g.c.request(ctx, http.MethodGet, filePath(g.name), nil)
	if err != nil {
		return err
	}
	res, err := g.c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.MultiWriter(g.app.stdout, h), res.Body); err != nil {
		return unreachable(err)
	}
	if [sha256.Size]byte(h.Sum(nil)) != sum {
		return &problem.Error{Kind: problem.Mismatch, Op: "get", Title: "The file did not arrive as the box says it is", Hint: "Do not use what was written; run it again."}
	}
	return nil
}

// hashFile reads a whole file.
func hashFile(ctx context.Context, name string) (sum [32]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 128<<10)
	for {
		if ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, err
		}
	}
}

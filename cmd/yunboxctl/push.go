package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const (
	// batchFiles is how many files one pre-flight request asks about: the box's limit.
	batchFiles = 5000
	// batchFresh ends a batch early when so many bytes had to be read for it, so that
	// the first file leaves before a whole library was hashed.
	batchFresh = 256 << 20
	// rememberSent bounds the hashes kept to tell duplicates within one run from what
	// the box had before; beyond it a duplicate is called known.
	rememberSent = 200_000
	// maxTries is how often a file is read again that changes while it is read.
	maxTries = 3
)

// What became of a file.
const (
	resultStored    = "stored"    // its content was sent and is on stable storage
	resultKnown     = "known"     // the box had this content of yours already
	resultDuplicate = "duplicate" // the same content was sent under another name in this run
	resultDeleted   = "deleted"   // the person deleted this content from the box
	resultRefused   = "refused"   // the person did not consent to what it is
	resultFailed    = "failed"
	resultWouldSend = "would-send" // dry run
)

// pushOptions is what `push` is told.
type pushOptions struct {
	source, device, into string
	jobs                 int
	dry, watch, again    bool
	exclude              []string
	retryFor             time.Duration
	cacheDir             string
}

// autoSource leaves it to the box to say from names where a file comes from.
const autoSource = "auto"

// pushSources are auto and those of consent; the box has the last word.
var pushSources = []string{autoSource, "album", "wechat", "qq", "tim", "camera", "screenshot", "download", "other"}

func (a *app) pushCommand() *cobra.Command {
	var o pushOptions
	c := &cobra.Command{
		Use: "push DIR", Short: "Back a folder up to the box", Args: cobra.ExactArgs(1),
		Long: `push makes every file below DIR safe on the box: it asks which contents the box has,
sends the others, several at a time, and verifies the hash that the box answers.
A cut connection, a restarted box or the next push goes on where it stopped.
Nothing below DIR is changed. Symbolic links are not followed.

Where a file comes from decides which consent it needs. Without --source the box
finds that out for each file by the names of folders and files: Pictures/WeiXin and
mmexport… are WeChat's, DCIM/Camera is the album, and so on. Files that you did not
consent to are left out and counted, and the others go on.

What you deleted from the box is not sent again, unless you say --again.

At the end push asks where the box's records of acts and consents stand, and tells
if they were rewritten since the last time: see yunboxctl audit keep.

Hashes are remembered, so that a second push of the same folder reads and sends
nothing and asks one question for 5,000 files.

With --json each line on standard output is an event:
  {"event":"start","dir":…,"source":…,"box":…,"user":…}
  {"event":"file","path":…,"sha256":…,"size":…,"result":"stored|known|duplicate|deleted|refused|failed","reason":…}
  {"event":"done","files":…,"stored":…,"known":…,"duplicate":…,"deleted":…,"refused":…,"failed":…,"skipped":…,"bytes":…,"sent_bytes":…,"seconds":…}

With --watch push stays after that and backs up what changes: it takes files that
have not changed for two seconds, hears of most changes at once, and looks at everything
every quarter of an hour. While the box is away it waits and tries again, for as
long as it takes; it says so once: {"event":"away","kind":…,"reason":…}, {"event":"back"}.
Each round has its own start and done; after the first one, files that are as they
were have no line. SIGTERM and SIGINT end it with 0. A consent that is missing ends it.

` + exitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(pushSources, o.source) {
				return usagef("--source must be one of %s", strings.Join(pushSources, ", "))
			}
			if o.jobs < 1 || o.jobs > 64 {
				return usagef("--jobs must be between 1 and 64")
			}
			for _, p := range o.exclude {
				if _, err := path.Match(p, ""); err != nil {
					return usagef("--exclude %q is no pattern", p)
				}
			}
			if o.watch && o.dry {
				return usagef("--watch and --dry-run do not go together")
			}
			return a.push(cmd.Context(), args[0], o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.source, "source", autoSource, "where the files come from: "+strings.Join(pushSources, ", "))
	f.StringVar(&o.device, "device", "", "the device of yours that they come from (name or id; a new name is added)")
	f.StringVar(&o.into, "into", "", "folder on the box [its root]")
	f.IntVar(&o.jobs, "jobs", 8, "files sent at a time")
	f.BoolVar(&o.dry, "dry-run", false, "only say what would be sent")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out names, or paths below DIR, that match this pattern (repeatable)")
	f.BoolVar(&o.again, "again", false, "also send what you deleted from the box")
	f.BoolVar(&o.watch, "watch", false, "stay, and back up what changes")
	f.DurationVar(&o.retryFor, "retry-for", 5*time.Minute, "go on for this long without progress before giving up")
	f.StringVar(&o.cacheDir, "cache", "", "folder for remembered hashes [yunbox/push in your cache directory]")
	return c
}

func (a *app) push(ctx context.Context, dir string, o pushOptions) error {
	root, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return usagef("%s is not a folder that can be read", shown(dir))
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return err
	}
	c, err := a.person(ctx)
	if err != nil {
		return err
	}
	p := &pusher{app: a, c: c, root: root, opt: o, alive: &alive{patience: o.retryFor}, sent: make(map[[sha256.Size]byte]struct{})}
	if o.watch {
		p.alive.patience = min(o.retryFor, 30*time.Second) // then it is said, and tried on
		if err := p.watch(ctx); err != nil {
			return p.explain(err)
		}
		return nil
	}
	if err := p.introduce(ctx); err != nil {
		return p.explain(err)
	}
	s, err := p.run(ctx)
	if err != nil {
		return p.explain(err)
	}
	if !o.dry {
		if err := p.keepRecord(ctx); err != nil {
			return err
		}
	}
	if s.Failed > 0 {
		return &codeError{problem.ExitPartly}
	}
	if s.Refused > 0 {
		return &codeError{problem.ExitConsent}
	}
	return nil
}

// pusher backs one folder up.
type pusher struct {
	app    *app
	c      *client
	root   string
	opt    pushOptions
	boxID  string
	user   me
	device string // id, if one was asked for
	alive  *alive

	welcome  atomic.Bool // the box has taken a file
	cautious atomic.Bool // and refused another for want of consent: ask before each body

	single atomic.Bool // the box takes one file a request

	refusals sync.Map // purpose → struct{}: what the box asked consent for, already told

	watching *watch // nil without --watch

	// of one run
	cache *cache
	rep   *report
	mu    sync.Mutex
	sent  map[[sha256.Size]byte]struct{}
}

// introduce finds out whom we speak to and as whom.
func (p *pusher) introduce(ctx context.Context) error {
	var about struct {
		ID string `json:"id"`
	}
	if err := p.retry(ctx, func() error { return p.c.call(ctx, "GET", "/.well-known/yunbox", nil, &about) }); err != nil {
		return err
	}
	p.boxID = about.ID
	if err := p.retry(ctx, func() error { return p.c.call(ctx, "GET", "/v1/me", nil, &p.user) }); err != nil {
		return err
	}
	if _, err := ident.Parse[ident.DeviceID](p.opt.device); err == nil || p.opt.device == "" {
		p.device = p.opt.device // an app token may not look devices up, but it may name one
		return nil
	}
	return p.retry(ctx, func() (err error) { p.device, err = p.c.deviceID(ctx, p.opt.device, !p.opt.dry); return err })
}

// retry repeats op while the box cannot be reached.
func (p *pusher) retry(ctx context.Context, op func() error) error {
	for wait := newBackoff(); ; {
		err := op()
		if err == nil {
			p.alive.beat()
			return nil
		}
		if err := p.alive.again(ctx, wait, err); err != nil {
			return err
		}
	}
}

// explain adds the command that helps, where there is one.
func (p *pusher) explain(err error) error {
	e := problem.As(err)
	if e == nil || e.Kind != problem.ConsentRequired {
		return err
	}
	if e.Members["request_url"] != nil {
		return err // a child: its guardian decides, and the box says how to ask
	}
	c := *e
	purpose, _ := e.Members["purpose"].(string)
	command := "consent grant " + purpose
	if purpose == "storage" {
		command = "policy accept"
	}
	if p.app.box != "" {
		command += " --box " + p.c.base.String()
	}
	if p.opt.source == autoSource {
		c.Title = "Consent to " + purpose + " is needed first"
		c.Hint = "Run `yunboxctl " + command + "`, then push again."
		if purpose != "storage" {
			c.Hint += " If the box is wrong about where the files come from, say it with --source."
		}
		return &c
	}
	c.Title = "Consent to " + purpose + " is needed first"
	if c.Detail == "" {
		c.Detail = "Files from the source " + p.opt.source + " are kept only with it."
	}
	c.Hint = "Run `yunboxctl " + command + "`, then push again. Nothing was lost: what was sent before stays."
	return &c
}

// An entry is one file on its way.
type entry struct {
	record
	abs      string
	hashed   bool
	asBefore bool         // nothing is new about it since an earlier push
	err      error        // it could not be read
	shown    atomic.Int64 // bytes of it that the progress bar counts
}

// run backs the folder up once.
func (p *pusher) run(ctx context.Context) (summary, error) {
	p.rep = newReport(p.app, p)
	if err := p.openCache(); err != nil {
		return summary{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.rep.start()
	if p.rep.bar.w != nil {
		go p.count(ctx)
	}
	w := &walker{root: p.root, exclude: p.opt.exclude}
	batches := make(chan []*entry)
	read := make(chan error, 1)
	go func() {
		defer close(batches)
		read <- p.read(ctx, w, batches)
	}()
	var err error
	for b := range batches {
		if err == nil {
			if err = p.process(ctx, b); err != nil {
				cancel(err) // the reader stops; drain what it has
			}
		}
	}
	if readErr := <-read; err == nil {
		err = readErr
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	p.rep.skipped(w.skipped)
	if cacheErr := p.cache.close(err == nil && !p.opt.dry); cacheErr != nil {
		p.rep.warn("hashes could not be remembered: %v", cacheErr)
	}
	if errors.Is(err, context.Canceled) {
		err = &problem.Error{Kind: problem.Canceled, Op: "push", Title: "The backup was interrupted", Hint: "Run it again: it goes on where it stopped.", Err: err}
	}
	return p.rep.done(err), err
}

func (p *pusher) openCache() error {
	dir := p.opt.cacheDir
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return usagef("there is no cache directory (%v): name one with --cache", err)
		}
		dir = filepath.Join(base, "yunbox", "push")
	}
	key := strings.Join([]string{p.boxID, p.user.ID, p.root, p.opt.into, p.opt.source, p.device}, "\x00")
	c, err := openCache(dir, key)
	if errors.Is(err, errBusy) {
		return &problem.Error{Kind: problem.Locked, Op: "push", Title: "This folder is being pushed already", Hint: "Wait for the other push, or stop it."}
	}
	if err != nil {
		return fmt.Errorf("hashes cannot be remembered in %s: %w (name another folder with --cache)", dir, err)
	}
	p.cache = c
	return nil
}

// count finds out for the progress bar how much there is. It reads no file.
func (p *pusher) count(ctx context.Context) {
	var files, bytes int64
	w := &walker{root: p.root, exclude: p.opt.exclude}
	err := w.walk(ctx, func(f walked) error {
		files++
		if f.info != nil {
			bytes += f.info.Size()
		}
		return nil
	})
	if err == nil {
		p.rep.bar.found(files, bytes)
	}
}

// read walks the folder and hands over batches of files with their hashes, one
// ahead of what is being sent.
func (p *pusher) read(ctx context.Context, w *walker, out chan<- []*entry) error {
	var batch []*entry
	var fresh int64
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := p.hashAll(ctx, batch); err != nil {
			return err
		}
		select {
		case out <- batch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		batch, fresh = nil, 0
		return nil
	}
	err := w.walk(ctx, func(f walked) error {
		e := &entry{record: record{rel: f.rel}, abs: filepath.Join(p.root, filepath.FromSlash(f.rel)), err: f.err}
		switch {
		case errors.Is(f.err, fs.ErrNotExist):
			w.skipped++ // it went away while we looked
			return nil
		case f.err != nil:
		case !utf8.ValidString(f.rel):
			e.err = errors.New("its name is not valid UTF-8: rename it")
		default:
			e.id = statID(f.info)
			if p.watching != nil && !p.watching.settled(e.id) {
				return nil // still being written: soon
			}
			if rec, ok := p.cache.find(f.rel, e.id); ok {
				e.record, e.hashed = rec, true
			} else {
				fresh += f.info.Size()
			}
		}
		batch = append(batch, e)
		if len(batch) == batchFiles || fresh >= batchFresh {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// hashAll reads the files of a batch that are not remembered, a few at a time: more
// would only make a slow disk seek.
func (p *pusher) hashAll(ctx context.Context, batch []*entry) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(4, runtime.NumCPU()))
	for _, e := range batch {
		if e.hashed || e.err != nil {
			continue
		}
		g.Go(func() error {
			err := p.hash(ctx, e)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			e.err = err
			return nil
		})
	}
	return g.Wait()
}

// hash reads a file until it was read without changing meanwhile.
func (p *pusher) hash(ctx context.Context, e *entry) error {
	for range maxTries {
		before, err := os.Lstat(e.abs)
		if err != nil {
			return err
		}
		if !before.Mode().IsRegular() {
			return errors.New("it is no regular file any more")
		}
		sum, err := hashFile(ctx, e.abs)
		if err != nil {
			return err
		}
		after, err := os.Lstat(e.abs)
		if err != nil {
			return err
		}
		if id := statID(before); id == statID(after) {
			e.id, e.sum, e.hashed, e.named = id, sum, true, false
			return nil
		}
	}
	return errChanging
}

var errChanging = errors.New("it kept changing while it was read; the next push tries again")

// process makes the files of a batch safe: one question, then what needs to be sent.
func (p *pusher) process(ctx context.Context, batch []*entry) error {
	known, deleted, err := p.known(ctx, batch)
	if err != nil {
		return err
	}
	var first, second []job // second: names of contents that first sends
	leading := make(map[[sha256.Size]byte]bool)
	for _, e := range batch {
		switch {
		case e.err != nil:
			p.failed(e, e.err)
		case known[e.sum] && (e.named || p.opt.dry):
			e.asBefore = e.named
			p.finish(e, p.knownOrDuplicate(e.sum))
		case deleted[e.sum] && !p.opt.again:
			p.finish(e, resultDeleted)
		case known[e.sum]:
			first = append(first, job{e, true})
		case leading[e.sum]:
			second = append(second, job{e, true})
		default:
			leading[e.sum] = true
			first = append(first, job{e, false})
		}
	}
	first, err = p.sendSmall(ctx, first)
	for _, jobs := range [][]job{first, second} {
		if err == nil {
			err = p.sendAll(ctx, jobs)
		}
	}
	recs := make([]record, 0, len(batch))
	for _, e := range batch {
		if e.hashed {
			recs = append(recs, e.record)
		}
	}
	if cacheErr := p.cache.batch(recs); cacheErr != nil {
		p.rep.warn("hashes could not be remembered: %v", cacheErr)
	}
	return err
}

// known asks which contents of a batch the person has on the box, and which they
// deleted from it.
func (p *pusher) known(ctx context.Context, batch []*entry) (known, deleted map[[sha256.Size]byte]bool, err error) {
	seen := make(map[[sha256.Size]byte]bool, len(batch))
	in := struct {
		SHA256 []string `json:"sha256"`
	}{SHA256: []string{}}
	for _, e := range batch {
		if e.err == nil && !seen[e.sum] {
			seen[e.sum] = true
			in.SHA256 = append(in.SHA256, hex.EncodeToString(e.sum[:]))
		}
	}
	if len(in.SHA256) == 0 {
		return nil, nil, nil
	}
	var out struct {
		Known    []string `json:"known"`
		Declined []struct {
			SHA256 string `json:"sha256"`
		} `json:"declined"`
	}
	if err := p.retry(ctx, func() error { return p.c.call(ctx, "POST", "/v1/blobs/known", in, &out) }); err != nil {
		return nil, nil, err
	}
	set := func(list []string) map[[sha256.Size]byte]bool {
		m := make(map[[sha256.Size]byte]bool, len(list))
		for _, s := range list {
			if b, err := hex.DecodeString(s); err == nil && len(b) == sha256.Size && seen[[sha256.Size]byte(b)] {
				m[[sha256.Size]byte(b)] = true
			}
		}
		return m
	}
	var declined []string
	for _, d := range out.Declined {
		declined = append(declined, d.SHA256)
	}
	return set(out.Known), set(declined), nil
}

// A job is a file to send. nameOnly: the box has its content and only needs to learn
// the name.
type job struct {
	e        *entry
	nameOnly bool
}

// sendAll runs jobs side by side. It returns the first error that ends the backup;
// what fails for one file only is reported with it.
func (p *pusher) sendAll(ctx context.Context, jobs []job) error {
	outer := ctx
	g, ctx := errgroup.WithContext(outer)
	g.SetLimit(p.opt.jobs)
	for _, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if p.opt.dry {
				result := resultWouldSend
				if j.nameOnly {
					result = resultDuplicate
				}
				p.finish(j.e, result)
				return nil
			}
			result, err := p.send(ctx, j.e, j.nameOnly)
			return p.settle(ctx, j.e, result, err)
		})
	}
	err := g.Wait()
	if err == nil && outer.Err() != nil {
		err = context.Cause(outer)
	}
	return err
}

// settle takes note of what became of a file, and returns the error if that ends the
// backup.
func (p *pusher) settle(ctx context.Context, e *entry, result string, err error) error {
	switch {
	case err == nil:
		e.named = true
		if err := p.cache.done(e.record); err != nil {
			p.rep.warn("hashes could not be remembered: %v", err)
		}
		p.finish(e, result)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case p.opt.source == autoSource && p.refused(e, err):
		return nil
	case problem.KindOf(err) == problem.Deleted: // a moment ago
		p.finish(e, resultDeleted)
		return nil
	case isFatal(err):
		return err
	}
	p.failed(e, err)
	return nil
}

// send makes one file safe and says how. A file that changes is read again.
func (p *pusher) send(ctx context.Context, e *entry, nameOnly bool) (string, error) {
	for try := 1; ; try++ {
		if nameOnly {
			err := p.name(ctx, e)
			if err == nil {
				return p.knownOrDuplicate(e.sum), nil
			}
			if problem.KindOf(err) != problem.BodyNeeded {
				return "", err
			}
			nameOnly = false // purged meanwhile: the box needs the bytes after all
		}
		err := p.sendBytes(ctx, e)
		if err == nil {
			p.welcome.Store(true)
			p.remember(e.sum)
			return resultStored, nil
		}
		if !errors.Is(err, errChanged) && problem.KindOf(err) != problem.Mismatch {
			return "", err
		}
		if try == maxTries {
			return "", errChanging
		}
		e.hashed = false
		if err := p.hash(ctx, e); err != nil {
			return "", err
		}
	}
}

// remember notes that a content was sent in this run.
func (p *pusher) remember(sum [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) < rememberSent {
		p.sent[sum] = struct{}{}
	}
}

func (p *pusher) knownOrDuplicate(sum [sha256.Size]byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sent[sum]; ok {
		return resultDuplicate
	}
	return resultKnown
}

// target is the name of a file on the box.
func (p *pusher) target(e *entry) string {
	if into := strings.Trim(p.opt.into, "/"); into != "" {
		return into + "/" + e.rel
	}
	return e.rel
}

// sourcePath is the name from which the box finds out where a file comes from: with
// the folders just above the one that is pushed, because who pushes
// Pictures/WeiXin pushes what WeChat saved.
func (p *pusher) sourcePath(e *entry) string {
	const above = 2
	parts := strings.Split(filepath.ToSlash(p.root), "/")
	return strings.Join(append(parts[max(0, len(parts)-above):], e.rel), "/")
}

func (p *pusher) finish(e *entry, result string) {
	p.rep.bar.step(e.id.size-e.shown.Load(), 0, 1)
	p.rep.file(e, result, "")
}

// refused reports a file whose source the box found and for which the person did
// not consent; others may come from elsewhere. Without the policy nothing can.
func (p *pusher) refused(e *entry, err error) bool {
	pe := problem.As(err)
	purpose, _ := pe.Members["purpose"].(string)
	if pe.Kind != problem.ConsentRequired || purpose == "" || purpose == "storage" {
		return false
	}
	p.cautious.Store(true)
	p.rep.bar.step(e.id.size-e.shown.Load(), 0, 1)
	p.rep.file(e, resultRefused, "it needs the consent to "+purpose)
	if _, told := p.refusals.LoadOrStore(purpose, struct{}{}); !told {
		p.rep.bar.clear()
		p.app.complain(p.explain(err))
	}
	return true
}

func (p *pusher) failed(e *entry, err error) {
	p.rep.bar.step(e.id.size-e.shown.Load(), 0, 1)
	reason := err.Error()
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		reason = pe.Err.Error()
	}
	if isProblem(err) {
		e := problem.As(err)
		reason = strings.TrimSuffix(e.Title+": "+e.Detail, ": ")
	}
	p.rep.file(e, resultFailed, reason)
}

package dedup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// Action is what becomes of a file that is the same as another.
type Action string

// The actions.
const (
	// Reflink has both use the same storage. They stay two files; a change of one
	// is none of the other. The kernel compares before it does so.
	Reflink Action = "reflink"
	// Hardlink makes one file of two names: a change by one name is one by both.
	Hardlink Action = "hardlink"
	// Trash moves the file into TrashName at the top of the tree. Nothing is freed
	// before somebody empties that.
	Trash Action = "trash"
)

// Rule says which of several equal files stays.
type Rule string

// The rules. Where they do not decide, the shorter path stays, then the first in
// the order of names.
const (
	Oldest   Rule = "oldest"   // by the time of change
	Newest   Rule = "newest"   //
	Shortest Rule = "shortest" // by the length of the path
)

// Choice says which files stay. What is asked first decides.
type Choice struct {
	// Stay are files, or folders with all in them, that are never folded.
	Stay []Path `json:"stay"`
	// Prefer are folders whose files stay before others', the first one first.
	Prefer []Path `json:"prefer"`
	Rule   Rule   `json:"rule"` // "": Oldest
}

// Check says what is wrong with a choice.
func (c Choice) Check() error {
	if c.Rule != "" && c.Rule != Oldest && c.Rule != Newest && c.Rule != Shortest {
		return fmt.Errorf("%w: no rule %q: oldest, newest or shortest", ErrChoice, c.Rule)
	}
	for _, p := range append(slices.Clone(c.Stay), c.Prefer...) {
		if p != "." && p.valid() != nil {
			return fmt.Errorf("%w: %q is no path below the folder", ErrChoice, string(p))
		}
	}
	return nil
}

// Errors that callers tell apart.
var (
	ErrChoice = errors.New("dedup: the choice makes no sense")
	ErrNoPlan = errors.New("dedup: there is no such plan")
	ErrState  = errors.New("dedup: the plan is in another state")
	ErrDamage = errors.New("dedup: the plan is damaged")
)

func in(p, folder Path) bool {
	return folder == "." || p == folder || strings.HasPrefix(string(p), string(folder)+"/")
}

// stays says whether a file is never folded.
func (c Choice) stays(p Path) bool {
	return slices.ContainsFunc(c.Stay, func(f Path) bool { return in(p, f) })
}

func (c Choice) rank(p Path) int {
	if i := slices.IndexFunc(c.Prefer, func(f Path) bool { return in(p, f) }); i >= 0 {
		return i
	}
	return len(c.Prefer)
}

// better is negative if a should rather stay than b.
func (c Choice) better(a, b *Member) int {
	first := func(p Path) int {
		if c.stays(p) {
			return 0
		}
		return 1
	}
	if n := cmp.Or(cmp.Compare(first(a.Path), first(b.Path)), cmp.Compare(c.rank(a.Path), c.rank(b.Path))); n != 0 {
		return n
	}
	n := 0
	switch c.Rule {
	case Newest:
		n = cmp.Compare(b.Mtime, a.Mtime)
	case Shortest:
	default:
		n = cmp.Compare(a.Mtime, b.Mtime)
	}
	return cmp.Or(n, cmp.Compare(len(a.Path), len(b.Path)), cmp.Compare(a.Path, b.Path))
}

// A Plan says what would become of the equal files of a tree. It is kept in a file
// of JSON values, one a line: this, groups, and a PlanSum.
type Plan struct {
	ID          string    `json:"plan"`
	Root        Path      `json:"root"`
	Created     time.Time `json:"created"`
	Action      Action    `json:"action"`
	Choice      Choice    `json:"choice"`
	OtherMounts bool      `json:"other_mounts"`
	// AnyTime lets hard links be made of files whose times of change differ. The
	// one that stays keeps its own; undo gives the other's back.
	AnyTime bool `json:"any_time"`
}

// PlanSum is what all of a plan comes to.
type PlanSum struct {
	Groups int64 `json:"groups"` // contents
	Files  int64 `json:"files"`  // names that would be folded
	Free   int64 `json:"free"`   // bytes that could be freed
	InBox  int64 `json:"in_box"` // of Files, those whose content the person keeps on the box
	// Left are names in the same groups that could be folded otherwise: they lie on
	// another file system than what stays, or are never to be folded.
	Left int64 `json:"left"`
}

// PlanGroup is one content of a plan.
type PlanGroup struct {
	Ref   storage.Ref `json:"sha256"`
	Size  int64       `json:"size"`
	InBox bool        `json:"in_box"`
	Keep  PlanFile    `json:"keep"`
	Fold  []PlanFile  `json:"fold"`
}

// PlanFile is a name with what was known of its file.
type PlanFile struct {
	Path Path `json:"path"`
	Facts
}

// choose makes the groups of a plan from one of a scan: one for each file system,
// where the action cannot reach across. free is what they free.
func (p *Plan) choose(g Group, sum *PlanSum) (list []PlanGroup) {
	parts := map[uint64][]Member{}
	var order []uint64
	for _, m := range g.Files {
		v := m.Volume
		if p.Action == Trash {
			v = 0
		}
		if parts[v] == nil {
			order = append(order, v)
		}
		parts[v] = append(parts[v], m)
	}
	for i, v := range order {
		members := parts[v]
		if i > 0 {
			sum.Left += int64(len(members)) // of another file system than the first
		}
		keep := slices.MinFunc(members, func(a, b Member) int { return p.Choice.better(&a, &b) })
		out := PlanGroup{Ref: g.Ref, Size: g.Size, InBox: g.InBox, Keep: PlanFile{keep.Path, keep.Facts}}
		stored := map[uint64]bool{0: true, keep.Storage: true}
		for start := 0; start < len(members); {
			end := start + 1
			for end < len(members) && members[end].same(members[start].Facts) {
				end++
			}
			p.fold(&out, members[start:end], keep, stored, sum)
			start = end
		}
		if len(out.Fold) > 0 {
			list = append(list, out)
			sum.Groups++
		}
	}
	return list
}

// fold adds the names of one file to a group.
func (p *Plan) fold(g *PlanGroup, file []Member, keep Member, stored map[uint64]bool, sum *PlanSum) {
	m := file[0]
	if m.same(keep.Facts) {
		return
	}
	if m.Storage != 0 && m.Storage == keep.Storage && p.Action == Reflink {
		return
	}
	if slices.ContainsFunc(file, func(m Member) bool { return p.Choice.stays(m.Path) }) {
		sum.Left += int64(len(file))
		return
	}
	for i, m := range file {
		if p.Action == Reflink && i > 0 {
			break // one name stands for the file
		}
		g.Fold = append(g.Fold, PlanFile{m.Path, m.Facts})
		sum.Files++
		if g.InBox {
			sum.InBox++
		}
	}
	// A file with a name elsewhere, or with storage of another, frees nothing.
	if (p.Action == Reflink || int(m.Links) <= len(file)) && (m.Storage == 0 || !stored[m.Storage]) {
		sum.Free += m.Alloc
	}
	stored[m.Storage] = true
}

// MakePlan scans and writes down what would be done. The Plan's ID, Root and
// Created are set here; seen, if not nil, is shown every group of the plan.
func (f *Folder) MakePlan(ctx context.Context, p Plan, opt ScanOptions, seen func(PlanGroup) error) (_ Plan, sum PlanSum, report *Report, err error) {
	if err := p.Choice.Check(); err != nil {
		return p, sum, nil, err
	}
	if p.Action != Reflink && p.Action != Hardlink && p.Action != Trash {
		return p, sum, nil, fmt.Errorf("%w: no action %q: reflink, hardlink or trash", ErrChoice, p.Action)
	}
	p.ID, p.Root, p.Created = newID(), Path(f.name), time.Now().UTC().Truncate(time.Microsecond)
	p.OtherMounts = opt.OtherMounts
	if err := f.work.prunePlans(); err != nil {
		return p, sum, nil, err
	}
	out, err := f.work.newPlan(p.ID)
	if err != nil {
		return p, sum, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.abandon())
		}
	}()
	out.line(p)
	report, err = f.Scan(ctx, opt, func(g Group) error {
		for _, pg := range p.choose(g, &sum) {
			out.line(pg)
			if out.err != nil {
				return out.err
			}
			if seen != nil {
				if err := seen(pg); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return p, sum, report, err
	}
	out.line(sum)
	return p, sum, report, out.publish()
}

func newID() string { return strings.ToLower(rand.Text()[:12]) }

func validID(id string) bool {
	return len(id) == 12 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// A line of a plan or journal is the CRC of a JSON value in 8 hex digits, a space,
// the value.

func appendLine(b []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return b, err
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(text, castagnoli()))
	return append(append(b, text...), '\n'), nil
}

// parseLine returns the JSON of a line, nil if the line is not whole.
func parseLine(line []byte) []byte {
	line, whole := bytes.CutSuffix(line, []byte("\n"))
	if !whole || len(line) < 10 || line[8] != ' ' {
		return nil
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[9:], castagnoli()) {
		return nil
	}
	return line[9:]
}

// planWriter writes a plan, which has its name when it is whole.
type planWriter struct {
	w    Work
	id   string
	f    vfs.File
	out  *bufio.Writer
	text []byte
	err  error
}

const (
	planEnd    = ".plan"
	journalEnd = ".journal"
)

func (w Work) newPlan(id string) (*planWriter, error) {
	f, err := w.FS.OpenFile(w.path(id+planEnd+".new"), vfs.CreateNew, 0o600)
	if err != nil {
		return nil, err
	}
	return &planWriter{w: w, id: id, f: f, out: bufio.NewWriterSize(f, 64<<10)}, nil
}

func (p *planWriter) line(v any) {
	if p.err != nil {
		return
	}
	if p.text, p.err = appendLine(p.text[:0], v); p.err == nil {
		_, p.err = p.out.Write(p.text)
	}
}

func (p *planWriter) publish() error {
	if err := errors.Join(p.err, p.out.Flush(), p.f.Sync(), p.f.Close()); err != nil {
		return err
	}
	if err := p.w.FS.Rename(p.w.path(p.id+planEnd+".new"), p.w.path(p.id+planEnd)); err != nil {
		return err
	}
	return p.w.FS.SyncDir(p.w.Dir)
}

func (p *planWriter) abandon() error {
	_ = p.f.Close() // it is removed
	err := p.w.FS.Remove(p.w.path(p.id + planEnd + ".new"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// planReader reads a plan again. Unlike the cache, a plan that is not whole is none.
type planReader struct {
	Plan
	f vfs.File
	r *bufio.Reader
}

func (w Work) openPlan(id string) (*planReader, error) {
	if !validID(id) {
		return nil, ErrNoPlan
	}
	f, err := w.FS.OpenFile(w.path(id+planEnd), vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoPlan
	}
	if err != nil {
		return nil, err
	}
	p := &planReader{f: f, r: bufio.NewReaderSize(f, 64<<10)}
	if err := p.next(&p.Plan); err != nil || p.ID != id {
		return nil, errors.Join(ErrDamage, err, f.Close())
	}
	return p, nil
}

// maxLine bounds a line: a group of maxGroup names of 4 KiB.
const maxLine = 128 << 20

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		case len(line) > maxLine:
			return nil, ErrDamage
		}
	}
}

func (p *planReader) next(v any) error {
	line, err := readLine(p.r)
	if err != nil {
		return err
	}
	text := parseLine(line)
	if text == nil {
		return ErrDamage
	}
	return json.Unmarshal(text, v)
}

// group returns the next one; after the last one it is io.EOF and sum is set.
func (p *planReader) group() (g PlanGroup, sum PlanSum, err error) {
	var line json.RawMessage
	if err := p.next(&line); err != nil {
		if errors.Is(err, io.EOF) {
			err = ErrDamage // its end is missing
		}
		return g, sum, err
	}
	if !bytes.HasPrefix(line, []byte(`{"sha256":`)) {
		if err := json.Unmarshal(line, &sum); err != nil {
			return g, sum, errors.Join(ErrDamage, err)
		}
		return g, sum, io.EOF
	}
	if err := json.Unmarshal(line, &g); err != nil {
		return g, sum, errors.Join(ErrDamage, err)
	}
	for _, f := range append(g.Fold, g.Keep) {
		if f.Path.valid() != nil {
			return g, sum, ErrDamage
		}
	}
	return g, sum, nil
}

func (p *planReader) close() { p.f.Close() } // only read

// PlanInfo is a plan that is kept.
type PlanInfo struct {
	Plan
	PlanSum
	State PlanState `json:"state"`
}

// PlanState is how far a plan is.
type PlanState string

// The states.
const (
	Planned PlanState = "planned" // nothing was done
	Begun   PlanState = "begun"   // applying it was cut off, and goes on with apply
	Applied PlanState = "applied"
	Undone  PlanState = "undone" // or about to be: what is left is for undo
)

// Plan returns a plan by its id, or with "" the newest one of the root. ErrNoPlan.
func (w Work) Plan(root Path, id string) (PlanInfo, error) {
	list, err := w.Plans()
	if err != nil {
		return PlanInfo{}, err
	}
	for _, p := range slices.Backward(list) {
		if p.Root == root && (id == "" || p.ID == id) {
			return p, nil
		}
	}
	return PlanInfo{}, ErrNoPlan
}

// Plans lists all that are kept, the newest last. Damaged ones are passed over.
func (w Work) Plans() (list []PlanInfo, err error) {
	entries, err := w.FS.ReadDir(w.Dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), planEnd)
		if !ok || !validID(id) {
			continue
		}
		info, err := w.planInfo(id)
		switch {
		case errors.Is(err, ErrDamage), errors.Is(err, ErrNoPlan):
			continue
		case err != nil:
			return nil, err
		}
		list = append(list, info)
	}
	slices.SortStableFunc(list, func(a, b PlanInfo) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// tailSize holds a PlanSum with its line.
const tailSize = 4 << 10

func (w Work) planInfo(id string) (info PlanInfo, err error) {
	p, err := w.openPlan(id)
	if err != nil {
		return info, err
	}
	defer p.close()
	info.Plan = p.Plan
	stat, err := p.f.Stat()
	if err != nil {
		return info, err
	}
	tail := make([]byte, min(tailSize, stat.Size()))
	if _, err := p.f.ReadAt(tail, stat.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return info, err
	}
	last := tail[bytes.LastIndexByte(bytes.TrimSuffix(tail, []byte("\n")), '\n')+1:]
	text := parseLine(last)
	if text == nil || json.Unmarshal(text, &info.PlanSum) != nil {
		return info, ErrDamage
	}
	info.State, err = w.planState(id)
	return info, err
}

// Groups shows the groups of a plan, for people and programs that want to see what
// it would do.
func (w Work) Groups(id string, yield func(PlanGroup) error) error {
	p, err := w.openPlan(id)
	if err != nil {
		return err
	}
	defer p.close()
	for {
		g, _, err := p.group()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := yield(g); err != nil {
			return err
		}
	}
}

// keptPlans is how many that were not begun are kept.
const keptPlans = 10

// prunePlans removes the oldest of the plans that were not begun.
func (w Work) prunePlans() error {
	list, err := w.Plans()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p PlanInfo) bool { return p.State != Planned })
	var errs []error
	for i := 0; i <= len(list)-keptPlans; i++ {
		errs = append(errs, w.FS.Remove(w.path(list[i].ID+planEnd)))
	}
	return errors.Join(errs...)
}

// dropPlans removes all plans that were not begun, whole or not.
func (w Work) dropPlans() []error {
	entries, err := w.FS.ReadDir(w.Dir)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, e := range entries {
		id, _, ok := strings.Cut(path.Base(e.Name()), planEnd)
		if !ok || !validID(id) {
			continue
		}
		if _, err := w.FS.Stat(w.path(id + journalEnd)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, w.FS.Remove(w.path(e.Name())))
		}
	}
	return errs
}

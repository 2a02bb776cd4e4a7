package target

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The files of a generation.
const (
	sumsFile     = "SHA256SUMS"
	sealFile     = "SEAL"
	contentsFile = "contents.age"
	// FilesFile lists the names of people's files, for whoever reads the copy
	// without us.
	FilesFile = "files.age"
	// DatabaseFile is the box's database.
	DatabaseFile = "box.db.age"
	// StateFile holds keys, settings and the identity of the volume.
	StateFile = "state.tar.age"
)

// kept is how many generations stay.
const kept = 2

// Generation is a state of the box that can be restored.
type Generation struct {
	Number   int64
	Time     time.Time // when the database was copied, to the second
	Contents int64
	Bytes    int64 // of the encrypted contents
	Missing  int64 // contents that the box knew and could not copy
	sums     string
}

func genPath(n int64, name string) string { return path.Join(genDir, fmt.Sprintf("%08d", n), name) }

// marshal is the seal of a generation: nobody can make one without the key.
func (g Generation) marshal(k *Keys) []byte {
	text := fmt.Sprintf("yunbox backup generation 1\nnumber    %d\ntime      %s\ncontents  %d\nbytes     %d\nmissing   %d\nsums      %s\n",
		g.Number, g.Time.UTC().Format(time.RFC3339), g.Contents, g.Bytes, g.Missing, g.sums)
	return []byte(text + "mac       " + k.mac(text) + "\n")
}

func parseSeal(data []byte, k *Keys, number int64) (g Generation, err error) {
	f, err := lines(data, "yunbox backup generation 1", "number", "time", "contents", "bytes", "missing", "sums", "mac")
	if err != nil {
		return g, err
	}
	g = Generation{Number: number, sums: f["sums"]}
	if g.Time, err = time.Parse(time.RFC3339, f["time"]); err != nil {
		return g, errText
	}
	for to, text := range map[*int64]string{&g.Contents: f["contents"], &g.Bytes: f["bytes"], &g.Missing: f["missing"]} {
		if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 0 {
			return g, errText
		}
	}
	if !bytes.Equal(g.marshal(k), data) {
		return g, errors.New("its seal was not made with this key, or it is damaged")
	}
	return g, nil
}

// numbers lists the generations on the target, sealed or not, newest first.
func (t *Target) numbers() (list []int64, err error) {
	entries, err := t.fsys.ReadDir(genDir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		n, err := strconv.ParseInt(e.Name(), 10, 64)
		if err == nil && n > 0 && e.IsDir() && fmt.Sprintf("%08d", n) == e.Name() {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list, nil
}

// Generations lists those that can be restored, newest first. Those whose seal or
// list of checksums does not hold are left out and counted in bad.
func (t *Target) Generations() (list []Generation, bad int, err error) {
	numbers, err := t.numbers()
	if err != nil {
		return nil, 0, absent("backup.open", err)
	}
	for _, n := range numbers {
		g, err := t.generation(n)
		switch {
		case err == nil:
			list = append(list, g)
		case errors.Is(err, fs.ErrNotExist): // never finished
		default:
			bad++
		}
	}
	return list, bad, nil
}

// generation reads the seal of a generation and holds its list against it.
func (t *Target) generation(n int64) (Generation, error) {
	data, err := readSmall(t.fsys, genPath(n, sealFile))
	if err != nil {
		return Generation{}, err
	}
	g, err := parseSeal(data, t.keys, n)
	if err != nil {
		return g, err
	}
	sum, _, err := t.hash(context.Background(), genPath(n, sumsFile))
	if err != nil {
		return g, fmt.Errorf("%s: %v", sumsFile, err) // that it is missing is damage, too
	}
	if hex.EncodeToString(sum[:]) != g.sums {
		return g, fmt.Errorf("%s is damaged", sumsFile)
	}
	return g, nil
}

// hash reads a file of the target.
func (t *Target) hash(ctx context.Context, name string) (sum [32]byte, size int64, err error) {
	f, err := openRegular(t.fsys, name)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	size, err = t.copy(h, readOnly{ctx, f})
	if err != nil {
		return sum, size, err
	}
	h.Sum(sum[:0])
	return sum, size, nil
}

// maxLine is more than any line of a list has.
const maxLine = 16 << 10

func scan(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4<<10), maxLine)
	return s
}

// Contents yields what belongs to a generation, in the order of names. The list
// was authenticated by Generations; an error ends it.
func (t *Target) Contents(g Generation) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := t.contents(g, func(e Entry) bool { return yield(e, nil) }); err != nil {
			yield(Entry{}, err)
		}
	}
}

// contents reads the plain list of checksums and the sealed list of contents side
// by side: they have the same order.
func (t *Target) contents(g Generation, yield func(Entry) bool) error {
	sums, err := openRegular(t.fsys, genPath(g.Number, sumsFile))
	if err != nil {
		return err
	}
	defer sums.Close() //nolint:errcheck // read only
	list, err := t.open(genPath(g.Number, contentsFile))
	if err != nil {
		return err
	}
	defer list.Close() //nolint:errcheck // read only
	plain, sealed := scan(sums), scan(list)
	n := int64(0)
	for ; sealed.Scan(); n++ {
		e, err := parseContentLine(sealed.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", contentsFile, err)
		}
		if !plain.Scan() {
			return fmt.Errorf("%s is shorter than %s", sumsFile, contentsFile)
		}
		var p string
		if e.Sum, p, err = parseSumLine(plain.Text()); err != nil || p != e.Name.path() {
			return fmt.Errorf("%s does not fit to %s", sumsFile, contentsFile)
		}
		if e.Name != t.keys.Name(e.Ref) {
			return fmt.Errorf("%s: a content has a name that is not its own", contentsFile)
		}
		if !yield(e) {
			return nil
		}
	}
	if err := errors.Join(sealed.Err(), plain.Err()); err != nil {
		return err
	}
	if n != g.Contents {
		return fmt.Errorf("%s has %d contents, the seal says %d", contentsFile, n, g.Contents)
	}
	return nil
}

// own yields the checksums of the generation's own files.
func (t *Target) own(g Generation) (map[string][32]byte, error) {
	f, err := openRegular(t.fsys, genPath(g.Number, sumsFile))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	own := map[string][32]byte{}
	for lines := scan(f); lines.Scan(); {
		sum, p, err := parseSumLine(lines.Text())
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(p, dataDir+"/") {
			own[p] = sum
		}
	}
	for _, name := range []string{contentsFile, FilesFile, DatabaseFile, StateFile} {
		if _, ok := own[genPath(g.Number, name)]; !ok {
			return nil, fmt.Errorf("%s does not name %s", sumsFile, name)
		}
	}
	return own, nil
}

// File opens a file of a generation, decrypted. Its end proves that it is whole.
func (t *Target) File(g Generation, name string) (io.ReadCloser, error) {
	return t.open(genPath(g.Number, name))
}

// Writer makes a generation.
type Writer struct {
	t      *Target
	ctx    context.Context
	gen    Generation
	sums   *growing // SHA256SUMS
	list   *growing // contents.age
	last   Name
	others []string // lines for the generation's own files
}

// growing is a file that is written bit by bit.
type growing struct {
	*bufio.Writer
	pipe *io.PipeWriter
	done chan struct{}
	e    Entry
	err  error
}

func (t *Target) grow(ctx context.Context, name string, plain bool) *growing {
	r, w := io.Pipe()
	g := &growing{Writer: bufio.NewWriterSize(w, 32<<10), pipe: w, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.e, g.err = t.put(ctx, name, plain, func(out io.Writer) error {
			_, err := io.Copy(out, readOnly{ctx, r})
			return err
		})
		r.CloseWithError(errors.Join(errors.New("the list is closed"), g.err))
	}()
	return g
}

// end waits for the file; err gives it up.
func (g *growing) end(err error) error {
	if err == nil {
		err = g.Flush()
	}
	g.pipe.CloseWithError(err) // nil is the end of the file
	<-g.done
	return errors.Join(g.err, err)
}

var errGivenUp = errors.New("given up")

// Begin makes the folder of a new generation. Close it.
func (t *Target) Begin(ctx context.Context, when time.Time) (*Writer, error) {
	numbers, err := t.numbers()
	if err != nil {
		return nil, written("backup.run", err)
	}
	n := int64(1)
	if len(numbers) > 0 {
		n = numbers[0] + 1
	}
	if err := t.fsys.Mkdir(genPath(n, "."), dirMode); err != nil {
		return nil, written("backup.run", err)
	}
	if err := t.syncDir(genDir); err != nil {
		return nil, written("backup.run", err)
	}
	w := &Writer{t: t, ctx: ctx, gen: Generation{Number: n, Time: when.UTC().Truncate(time.Second)}}
	w.sums = t.grow(ctx, genPath(n, sumsFile), true)
	w.list = t.grow(ctx, genPath(n, contentsFile), false)
	return w, nil
}

// Content adds a content; they come in the order of their names, each once.
func (w *Writer) Content(e Entry) error {
	if w.gen.Contents > 0 && bytes.Compare(w.last[:], e.Name[:]) >= 0 {
		return errors.New("backup: contents out of order")
	}
	w.last = e.Name
	w.gen.Contents++
	w.gen.Bytes += e.Size
	if _, err := w.sums.WriteString(sumLine(e.Sum, e.Name.path())); err != nil {
		return written("backup.run", err)
	}
	_, err := w.list.WriteString(e.contentLine())
	return written("backup.run", err)
}

// Missing counts a content that the box knows and could not copy.
func (w *Writer) Missing() { w.gen.Missing++ }

// File adds a file of the generation, which fill writes.
func (w *Writer) File(name string, fill func(io.Writer) error) error {
	p := genPath(w.gen.Number, name)
	e, err := w.t.put(w.ctx, p, false, fill)
	if err != nil {
		return written("backup.run", err)
	}
	return w.publish(name, e)
}

func (w *Writer) publish(name string, e Entry) error {
	p := genPath(w.gen.Number, name)
	w.others = append(w.others, sumLine(e.Sum, p))
	return written("backup.run", w.t.fsys.Rename(p+tempSuffix, p))
}

// Seal finishes the generation: from its return on it is the newest. All that it
// names must be durable by then.
func (w *Writer) Seal() (Generation, error) {
	list := w.list
	w.list = nil
	if err := list.end(nil); err != nil {
		return Generation{}, written("backup.run", err)
	}
	if err := w.publish(contentsFile, list.e); err != nil {
		return Generation{}, err
	}
	for _, line := range w.others {
		if _, err := w.sums.WriteString(line); err != nil {
			return Generation{}, written("backup.run", err)
		}
	}
	sums := w.sums
	w.sums = nil
	if err := sums.end(nil); err != nil {
		return Generation{}, written("backup.run", err)
	}
	p := genPath(w.gen.Number, sumsFile)
	if err := w.t.fsys.Rename(p+tempSuffix, p); err != nil {
		return Generation{}, written("backup.run", err)
	}
	if err := w.t.syncDir(genPath(w.gen.Number, ".")); err != nil {
		return Generation{}, written("backup.run", err)
	}
	w.gen.sums = hex.EncodeToString(sums.e.Sum[:])
	return w.gen, written("backup.run", w.t.writeSmall(genPath(w.gen.Number, sealFile), w.gen.marshal(w.t.keys)))
}

// Close gives the generation up if it was not sealed. What is left of it is
// removed by Tidy.
func (w *Writer) Close() {
	for _, g := range []*growing{w.list, w.sums} {
		if g != nil {
			_ = g.end(errGivenUp)
		}
	}
	w.list, w.sums = nil, nil
}

// Peek returns the newest generation that has a valid seal, without reading what
// it names; the zero Generation if there is none.
func (t *Target) Peek() (Generation, error) {
	numbers, err := t.numbers()
	if err != nil {
		return Generation{}, absent("backup.open", err)
	}
	for _, n := range numbers {
		if data, err := readSmall(t.fsys, genPath(n, sealFile)); err == nil {
			if g, err := parseSeal(data, t.keys, n); err == nil {
				return g, nil
			}
		}
	}
	return Generation{}, nil
}

// Tidy removes what unfinished runs left of their generations.
func (t *Target) Tidy() error {
	numbers, err := t.numbers()
	if err != nil {
		return written("backup.run", err)
	}
	for _, n := range numbers {
		if _, err := t.fsys.Stat(genPath(n, sealFile)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := t.removeGeneration(n); err != nil {
			return written("backup.run", err)
		}
	}
	return nil
}

// Drop removes all generations but newest and the one before it that holds, the
// notes of unfinished runs, and the contents that nothing names any more. newest
// is what Seal returned: if it cannot be read back, nothing is superfluous.
func (t *Target) Drop(ctx context.Context, newest Generation) (removed int, err error) {
	good, _, err := t.Generations()
	if err != nil {
		return 0, err
	}
	if len(good) == 0 || good[0].Number != newest.Number {
		return 0, written("backup.run", fmt.Errorf("generation %d cannot be read back", newest.Number))
	}
	good = good[:min(len(good), kept)]
	numbers, err := t.numbers()
	if err != nil {
		return 0, written("backup.run", err)
	}
	for _, n := range numbers {
		if !slices.ContainsFunc(good, func(g Generation) bool { return g.Number == n }) {
			if err := t.removeGeneration(n); err != nil {
				return 0, written("backup.run", err)
			}
		}
	}
	if err := t.eachNote(t.fsys.Remove); err != nil {
		return 0, err
	}
	for _, dir := range []string{genDir, "."} { // what is gone does not come back
		if err := t.syncDir(dir); err != nil {
			return 0, written("backup.run", err)
		}
	}
	removed, err = t.dropContents(ctx, good)
	return removed, written("backup.run", err)
}

// removeGeneration takes the seal away first: what is half removed is no generation.
func (t *Target) removeGeneration(n int64) error {
	dir := genPath(n, ".")
	if err := t.fsys.Remove(genPath(n, sealFile)); err == nil {
		if err := t.syncDir(dir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := t.fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := t.fsys.Remove(genPath(n, e.Name())); err != nil {
			return err
		}
	}
	return t.fsys.Remove(dir)
}

// dropContents goes through the directories of contents and removes what none of
// the generations names. Files that are not ours are left alone.
func (t *Target) dropContents(ctx context.Context, good []Generation) (removed int, err error) {
	var named []func() (Name, bool, error)
	for _, g := range good {
		next, stop, err := t.named(g)
		if err != nil {
			return 0, err
		}
		defer stop()
		named = append(named, next)
	}
	ahead := make([]*Name, len(named))
	for shard := range shards {
		if ctx.Err() != nil {
			return removed, context.Cause(ctx)
		}
		needed := map[Name]bool{}
		for i, next := range named {
			for {
				if ahead[i] == nil {
					n, ok, err := next()
					if err != nil {
						return removed, err
					}
					if !ok {
						break
					}
					ahead[i] = &n
				}
				if ahead[i].shard() > shard {
					break
				}
				needed[*ahead[i]] = true
				ahead[i] = nil
			}
		}
		n, err := t.dropIn(shard, needed)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

func (t *Target) dropIn(shard int, needed map[Name]bool) (removed int, err error) {
	list, err := t.fsys.ReadDir(shardDir(shard))
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		base, temp := strings.CutSuffix(e.Name(), tempSuffix)
		n, ours := parseName(base)
		if !ours || !temp && needed[n] {
			continue
		}
		if err := t.fsys.Remove(path.Join(shardDir(shard), e.Name())); err != nil {
			return removed, err
		}
		removed++
	}
	if removed > 0 {
		return removed, t.syncDir(shardDir(shard))
	}
	return 0, nil
}

// named reads the names in a generation's plain list.
func (t *Target) named(g Generation) (next func() (Name, bool, error), stop func(), err error) {
	f, err := openRegular(t.fsys, genPath(g.Number, sumsFile))
	if err != nil {
		return nil, nil, err
	}
	lines := scan(f)
	return func() (Name, bool, error) {
		for lines.Scan() {
			_, p, err := parseSumLine(lines.Text())
			if err != nil {
				return Name{}, false, err
			}
			if n, ok := parsePath(p); ok {
				return n, true, nil
			}
		}
		return Name{}, false, lines.Err()
	}, func() { f.Close() }, nil
}

package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
	"yunbox.local/storage/vfs"
)

// Schema is the form of the archive.
const Schema = "yunbox-export/1"

const signType = "yunbox-export+jws"

// builder writes the head of an archive: everything that comes before the files.
type builder struct {
	room *Room
	e    *Export
	file vfs.File
	out  *bufio.Writer
	at   int64     // bytes written
	hash hash.Hash // of the entry that is being written
	sums []sum     // of the entries before
	meta []metaFile
}

type sum struct{ name, hex string }

// metaFile describes a file of metadata in export.json.
type metaFile struct {
	Category string       `json:"category"`
	File     string       `json:"file"`
	Records  int64        `json:"records"`
	Title    rights.Words `json:"title"`
	What     rights.Words `json:"what"`
	From     rights.Words `json:"source"`
	Kept     rights.Words `json:"retention"`
	Purposes []string     `json:"purposes"`
}

// facts is export.json.
type facts struct {
	Schema   string      `json:"schema_version"`
	Box      Signer      `json:"box"`
	Software string      `json:"software"`
	Export   string      `json:"id"`
	Time     string      `json:"time"`
	Person   person      `json:"person"`
	Choice   Choice      `json:"contains"`
	Change   int64       `json:"change"`
	Counts   counts      `json:"counts"`
	Metadata []metaFile  `json:"metadata"`
	Items    digest      `json:"items"`
	Sums     digest      `json:"sha256sums"`
	Size     archiveSize `json:"archive"`
}

type person struct {
	ID       string `json:"id"`
	Username string `json:"username"`
}

type counts struct {
	Folders  int64 `json:"folders"`
	Files    int64 `json:"files"`
	Versions int64 `json:"versions"`
	Trash    int64 `json:"trash"`
	Bytes    int64 `json:"bytes"`
}

type digest struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

type archiveSize struct {
	Entries int64 `json:"entries_bytes"` // of everything behind the metadata, as tar
}

// build makes the list of e and what stands before the files.
func (r *Room) build(ctx context.Context, e *Export) (err error) {
	d, err := r.folder(true)
	if err != nil {
		return err
	}
	if err := d.Mkdir(e.ID, 0o700); err != nil {
		return err
	}
	file, err := d.OpenFile(path.Join(e.ID, headFile), vfs.CreateNew, 0o600)
	if err != nil {
		return err
	}
	b := &builder{room: r, e: e, file: file, out: bufio.NewWriterSize(file, 64<<10), hash: sha256.New()}
	err = b.write(ctx)
	if err == nil {
		err = b.out.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	e.Head = b.at
	data, err := json.Marshal(e.plan)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(d, path.Join(e.ID, planFile), data, 0o600); err != nil {
		return err
	}
	return d.SyncDir(".")
}

// Write implements io.Writer: it counts and hashes.
func (b *builder) Write(p []byte) (int, error) {
	n, err := b.out.Write(p)
	b.hash.Write(p[:n])
	b.at += int64(n)
	return n, err
}

// entry writes one file of the archive's own. Its size is known only behind it, so the
// header is written last, into the room that was left.
func (b *builder) entry(name string, content func(io.Writer) error) (digest, error) {
	start := b.at
	if _, err := b.Write(make([]byte, block)); err != nil {
		return digest{}, err
	}
	b.hash.Reset()
	if err := content(b); err != nil {
		return digest{}, err
	}
	d := digest{name, hex.EncodeToString(b.hash.Sum(nil))}
	size := b.at - start - block
	if _, err := b.Write(make([]byte, padded(size)-size)); err != nil {
		return d, err
	}
	header, err := plainHeader(name, size, b.e.Created)
	if err != nil {
		return d, err
	}
	if err := b.out.Flush(); err != nil {
		return d, err
	}
	_, err = b.file.WriteAt(header, start)
	b.sums = append(b.sums, sum{name, d.SHA256})
	return d, err
}

// json writes a value and a line break.
func (b *builder) json(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

func (b *builder) write(ctx context.Context) error {
	f := facts{Schema: Schema, Software: "yunbox " + b.room.opt.Version, Export: b.e.ID, Time: b.e.Created.Format(rights.TimeFormat), Choice: b.e.Choice}
	var err error
	if f.Box, err = b.room.opt.Box(); err != nil {
		return err
	}
	if _, err := b.entry("README.txt", func(w io.Writer) error { _, err := io.WriteString(w, readme); return err }); err != nil {
		return err
	}
	register := b.room.opt.Rights()
	err = register.Read(ctx, func(tx *db.Tx) error {
		if err := b.records(ctx, tx, register); err != nil {
			return err
		}
		return b.items(ctx, tx, &f)
	})
	if err != nil {
		return err
	}
	b.e.Files, b.e.Bytes = f.Counts.Files+f.Counts.Versions+f.Counts.Trash, f.Counts.Bytes
	b.e.Change, f.Metadata, f.Size.Entries = f.Change, b.meta, b.e.Entries
	if f.Sums, err = b.entry(sumsFile, func(w io.Writer) error { return b.writeSums(ctx, w) }); err != nil {
		return err
	}
	var text []byte
	if text, err = json.MarshalIndent(f, "", "  "); err != nil {
		return err
	}
	text = append(text, '\n')
	if _, err := b.entry(factsFile, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		return err
	}
	jws, err := b.room.opt.Sign(signType, text)
	if err != nil {
		return err
	}
	_, err = b.entry(signFile, func(w io.Writer) error { _, err := io.WriteString(w, jws+"\n"); return err })
	return err
}

// records writes a file for each category that has something of the person.
func (b *builder) records(ctx context.Context, tx *db.Tx, register *rights.Register) error {
	for _, c := range register.Categories() {
		if c.Listed {
			continue
		}
		m := metaFile{
			Category: c.ID, File: metaDir + c.ID + ".jsonl", Title: c.Title, What: c.What, From: c.From, Kept: c.Kept, Purposes: append([]string{}, c.Purposes...),
		}
		if _, err := b.entry(m.File, func(w io.Writer) error {
			return c.Each(rights.Whole(ctx), tx, b.e.User, func(r rights.Record) error {
				m.Records++
				return b.json(w, r)
			})
		}); err != nil {
			return err
		}
		b.meta = append(b.meta, m)
	}
	return nil
}

// items writes the list of folders and files, in the order of their entries, and
// counts where each of them will begin.
func (b *builder) items(ctx context.Context, tx *db.Tx, f *facts) (err error) {
	c, u := b.room.opt.Catalog, b.e.User
	if err := tx.QueryRowContext(ctx, `SELECT p.shown, coalesce(g.seq, 0) FROM user p LEFT JOIN usage g ON g.user = p.id WHERE p.id = +?`, int64(u)).
		Scan(&f.Person.Username, &f.Change); err != nil {
		return err
	}
	f.Person.ID = u.String()
	total, err := b.count(ctx, tx)
	if err != nil {
		return err
	}
	b.room.told(b.e, func(p *progress) { p.total = total })
	b.e.Items = b.at + block
	f.Items, err = b.entry(itemsFile, func(w io.Writer) error {
		if err := c.EachFolder(ctx, tx, u, func(p string) error {
			f.Counts.Folders++
			return b.add(w, &Line{Kind: folderKind, Entry: filesDir + p + "/", Path: p})
		}); err != nil {
			return err
		}
		if err := c.EachItem(ctx, tx, u, func(it catalog.Item) error {
			f.Counts.Files++
			f.Counts.Bytes += it.Size
			l := lineOf(it, "file")
			l.Entry = filesDir + it.Path
			return b.add(w, &l)
		}); err != nil {
			return err
		}
		if b.e.Choice.Versions {
			if err := c.EachVersion(ctx, tx, u, func(it catalog.Item, v catalog.Version, seq int64) error {
				f.Counts.Versions++
				f.Counts.Bytes += v.Size
				it.Ref, it.Size, it.MTime, it.Added, it.Source, it.SourceBy, it.Device, it.Taken = v.Ref, v.Size, v.MTime, v.Added, v.Source, v.SourceBy, v.Device, catalog.Taken{}
				l := lineOf(it, "version")
				l.Entry, l.Replaced = fmt.Sprintf("%s%s.%d/%s", olderDir, it.ID, seq, it.Path), stamp(v.Replaced)
				return b.add(w, &l)
			}); err != nil {
				return err
			}
		}
		if !b.e.Choice.Trash {
			return nil
		}
		return c.EachTrashed(ctx, tx, u, func(it catalog.Item) error {
			f.Counts.Trash++
			f.Counts.Bytes += it.Size
			l := lineOf(it, "deleted_file")
			l.Entry = trashDir + it.ID.String() + "/" + it.Path
			return b.add(w, &l)
		})
	})
	b.e.ItemsOf = f.Counts.Folders + f.Counts.Files + f.Counts.Versions + f.Counts.Trash
	return err
}

// count says how many entries the list will have.
func (b *builder) count(ctx context.Context, tx *db.Tx) (n int64, err error) {
	query := `SELECT (SELECT count(*) FROM folder WHERE user = ?1 AND path > '') + (SELECT count(*) FROM item WHERE user = ?1 AND folder IS NOT NULL)`
	if b.e.Choice.Versions {
		query += ` + (SELECT count(*) FROM version WHERE user = ?1)`
	}
	if b.e.Choice.Trash {
		query += ` + (SELECT count(*) FROM item WHERE user = ?1 AND trashed IS NOT NULL)`
	}
	err = tx.QueryRowContext(ctx, query, int64(b.e.User)).Scan(&n)
	return n, err
}

func lineOf(it catalog.Item, kind string) Line {
	l := Line{
		Kind: kind, ID: it.ID.String(), Path: it.Path, SHA256: it.Ref.String(), Size: it.Size, MTime: stamp(it.MTime), Added: stamp(it.Added),
		Source: it.Source, SourceBy: it.SourceBy, Taken: stamp(it.Taken.Time), TakenLocal: it.Taken.Local, TakenFrom: it.Taken.From, Trashed: stamp(it.Trashed),
	}
	if it.Device != 0 {
		l.Device = it.Device.String()
	}
	return l
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(rights.TimeFormat)
}

func (b *builder) add(w io.Writer, l *Line) error {
	n := b.e.listed.Add(1)
	if (n-1)%markEvery == 0 {
		b.e.Marks = append(b.e.Marks, mark{Line: b.at - b.e.Items, Entry: b.e.Entries})
		if b.e.gone.Err() != nil {
			return context.Canceled
		}
	}
	header, err := l.header(false)
	if err != nil {
		return err
	}
	b.e.Entries += int64(len(header)) + padded(l.Size)
	return b.json(w, l)
}

// writeSums writes SHA256SUMS, which names the files in the order of their entries.
func (b *builder) writeSums(ctx context.Context, w io.Writer) error {
	for _, s := range b.sums {
		if _, err := io.WriteString(w, sumLine(s.hex, s.name)); err != nil {
			return err
		}
	}
	lines := newLines(b.file, b.e.Items)
	for range b.e.ItemsOf {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l, err := lines.next()
		if err != nil {
			return err
		}
		if l.Kind == folderKind {
			continue
		}
		if _, err := io.WriteString(w, sumLine(l.SHA256, l.Entry)); err != nil {
			return err
		}
	}
	return nil
}

// lines reads items.jsonl.
type lines struct {
	r *bufio.Reader
	n int64 // of the next one
}

func newLines(f io.ReaderAt, from int64) *lines {
	return &lines{r: bufio.NewReaderSize(io.NewSectionReader(f, from, 1<<62-from), 32<<10)}
}

func (s *lines) next() (l Line, err error) {
	text, err := s.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = fs.ErrInvalid // a path has 2 kB at most
	}
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	s.n++
	return l, err
}

// explain turns an error of the disk into one for people.
func explain(err error) *problem.Error {
	if vfs.IsFull(err) {
		return &problem.Error{
			Kind: problem.Full, Op: "export.build", Title: "There is no room on the box for the list of the export", Err: err,
			Hint: "Ask for it again when there is: it takes less than a kilobyte a file.",
		}
	}
	return &problem.Error{
		Kind: problem.Internal, Op: "export.build", Title: "The export could not be made", Err: err,
		Hint: "Ask for it again. If it stays so, whoever runs the box finds the reason in its log.",
	}
}

const readme = `Everything that your box holds about you.

files/            your files under the names and folders that they had
older/            what files held before, if you asked for it
trash/            what lay in the trash, if you asked for it
metadata/         what else the box knows about you, one JSON object a line;
                  metadata/items.jsonl says of each file when, from where and by which device it came
SHA256SUMS        to check that everything is whole:  sha256sum -c SHA256SUMS
export.json       when and for whom this was made, what each file of metadata is
export.jws        the same, signed by the box (JWS, ES256; the key is in export.json)
MISSING.jsonl     files that were deleted while this was being fetched; empty lines only: none.
                  In their place, holes/ has as many zeros.

"yunboxctl import FILE" checks all that and brings the files to another box. No consent
comes along: on the other box you decide anew.

这是您的盒子所保存的、与您有关的全部内容。

files/            您的文件，名称和文件夹与原来相同
older/            文件的旧版本（如果您选择了）
trash/            回收站中的文件（如果您选择了）
metadata/         盒子所知的其他信息，每行一个 JSON 对象；
                  metadata/items.jsonl 说明每个文件何时、从何处、由哪台设备而来
SHA256SUMS        用于检查是否完整：sha256sum -c SHA256SUMS
export.json       何时为谁生成，以及 metadata 中各文件的含义
export.jws        同上内容，由盒子签名（JWS，ES256；公钥在 export.json 中）
MISSING.jsonl     下载期间被删除的文件；只有空行表示没有。holes/ 中以等长的零代替。

“yunboxctl import 文件” 会检查以上全部内容，并把文件带到另一个盒子。
同意不会随之转移：在另一个盒子上由您重新决定。
`

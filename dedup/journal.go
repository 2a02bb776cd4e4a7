package dedup

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// The journal of a plan says what was about to be done, before it was, and then what
// became of it. Lines are those of plans. Intents are durable before the act; what
// became of one may be missing, and is then found by looking. A line that is not
// whole is passed over: it was never relied on, or it rotted, and the others count.

// op is what a line of a journal says.
type op string

const (
	opIntent op = "intent" // act N is about to be done
	opResult op = "result" // this became of it
	opEnd    op = "end"    // all acts of the plan were tried
	opUndo   op = "undo"   // from here on acts are taken back
	opUndone op = "undone" // all were tried
)

// result is what became of an act.
type result string

const (
	resDone result = "done"
	resLeft result = "left" // nothing was changed; Why says why
)

// jline is a line of a journal.
type jline struct {
	Op     op           `json:"op"`
	N      int64        `json:"n,omitempty"` // of the act, in the order of the plan, from 1
	Act    Action       `json:"act,omitempty"`
	Path   Path         `json:"path,omitempty"`
	Keep   Path         `json:"keep,omitempty"`
	To     Path         `json:"to,omitempty"` // in the trash, or the name of a moment
	Dup    *Facts       `json:"dup,omitempty"`
	Kept   *Facts       `json:"kept,omitempty"`
	Ref    *storage.Ref `json:"sha256,omitempty"`
	Result result       `json:"result,omitempty"`
	Why    string       `json:"why,omitempty"`
}

// ok says whether a line can be acted on.
func (l *jline) ok() bool {
	switch l.Op {
	case opEnd, opUndo, opUndone:
		return true
	case opResult:
		return l.N > 0 && (l.Result == resDone || l.Result == resLeft)
	case opIntent:
		return l.N > 0 && (l.Act == Reflink || l.Act == Hardlink || l.Act == Trash) && l.Path.valid() == nil && l.Keep.valid() == nil &&
			(l.To.valid() == nil || l.Act == Reflink) && l.Dup != nil && l.Kept != nil && l.Ref != nil && l.Path != l.Keep && l.Path != l.To
	}
	return false
}

// journal is one that is written to.
type journal struct {
	f   vfs.File
	at  int64
	buf []byte
}

// openJournal opens the journal of a plan, made when there is none. It is durable
// then, with all that is in it.
func (w Work) openJournal(id string) (*journal, error) {
	name := w.path(id + journalEnd)
	f, err := w.FS.OpenFile(name, vfs.ReadWrite, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = w.FS.OpenFile(name, vfs.CreateNew, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), w.FS.SyncDir(w.Dir)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j := &journal{f: f, at: info.Size()}
	if j.at > 0 {
		j.buf = append(j.buf, '\n') // the last line may have been cut
	}
	return j, nil
}

// add appends a line, in memory.
func (j *journal) add(l jline) (err error) {
	j.buf, err = appendLine(j.buf, l)
	return err
}

// sync makes everything added durable.
func (j *journal) sync() error {
	if len(j.buf) == 0 {
		return nil
	}
	n, err := j.f.WriteAt(j.buf, j.at)
	j.at += int64(n)
	j.buf = j.buf[:0]
	if err != nil {
		return err
	}
	return j.f.Sync()
}

func (j *journal) close() error { return errors.Join(j.sync(), j.f.Close()) }

// readJournal gives the whole lines of a journal; bad counts the others.
func (w Work) readJournal(id string, yield func(*jline) error) (bad int, err error) {
	f, err := w.FS.OpenFile(w.path(id+journalEnd), vfs.ReadOnly, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return parseJournal(f, yield)
}

func parseJournal(from io.Reader, yield func(*jline) error) (bad int, err error) {
	r := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return bad, nil
		}
		if err != nil {
			return bad, err
		}
		if len(line) <= 1 {
			continue
		}
		var l jline
		if text := parseLine(line); text == nil || json.Unmarshal(text, &l) != nil || !l.ok() {
			bad++
			continue
		}
		if err := yield(&l); err != nil {
			return bad, err
		}
	}
}

// planState reads how far a plan is.
func (w Work) planState(id string) (PlanState, error) {
	state := Begun
	_, err := w.readJournal(id, func(l *jline) error {
		switch l.Op {
		case opEnd:
			state = Applied
		case opUndo, opUndone:
			state = Undone
		case opIntent, opResult:
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Planned, nil
	}
	return state, err
}

package tree

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

const (
	sumsAtOnce = 5000      // items whose list is written after each change
	sumsRate   = 500       // of more: a second of patience for so many
	sumsLatest = time.Hour // but not more than this
)

// sums writes the lists of those whose files have changed. A long list waits for some
// more changes. It returns when the next one is due.
func (t *Tree) sums(ctx context.Context) (next time.Time, err error) {
	seqs, err := t.opt.Catalog.Seqs(ctx)
	if err != nil {
		return next, err
	}
	for u, seq := range seqs {
		due, err := t.sumsDue(ctx, u, seq)
		if err != nil {
			return next, err
		}
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
		if ctx.Err() != nil {
			return next, context.Cause(ctx)
		}
	}
	return next, nil
}

func (t *Tree) sumsDue(ctx context.Context, u ident.UserID, seq int64) (due time.Time, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	f := t.people[u]
	if f == nil || f.sums >= seq {
		return due, nil
	}
	usage, err := t.opt.Catalog.Usage(ctx, u)
	if err != nil {
		return due, err
	}
	now := t.opt.Now()
	if usage.Items > sumsAtOnce {
		patience := min(time.Duration(usage.Items/sumsRate)*time.Second, sumsLatest)
		if due = t.due[u]; due.IsZero() || due.Sub(now) > patience {
			due = now.Add(patience)
		}
		if now.Before(due) {
			t.due[u] = due
			return due, nil
		}
	}
	delete(t.due, u)
	return time.Time{}, t.writeSums(ctx, u, f, usage)
}

// sumsNow writes the list of a person if it is behind. If there is no room for that, the old
// one goes, and the next Follow makes another.
func (t *Tree) sumsNow(ctx context.Context, u ident.UserID, seq int64) error {
	t.work.Lock()
	defer t.work.Unlock()
	f := t.people[u]
	if f == nil || f.sums >= seq {
		return nil
	}
	usage, err := t.opt.Catalog.Usage(ctx, u)
	if err != nil {
		return err
	}
	delete(t.due, u)
	err = t.writeSums(ctx, u, f, usage)
	if !errors.Is(err, storage.ErrFull) && !vfs.IsFull(err) {
		return err
	}
	if err := t.opt.Disk.Remove(f.name + "/" + sumsFile); err != nil && !gone(err) {
		return err
	}
	if err := t.opt.Disk.SyncDir(f.name); err != nil && !gone(err) {
		return err
	}
	return nil
}

// writeSums writes the list of a person's files as sha256sum -c reads it.
func (t *Tree) writeSums(ctx context.Context, u ident.UserID, f *folder, usage catalog.Usage) error {
	name := f.name + "/" + sumsFile
	if usage.Items == 0 {
		// sha256sum takes an empty list for an error.
		if err := t.opt.Disk.Remove(name); err != nil && !gone(err) {
			return err
		}
		touched := map[string]bool{f.name: true}
		switch err := t.opt.Disk.Remove(f.name); {
		case err == nil:
			touched["."] = true
		case !gone(err) && !full(err): // full: there are files of somebody's own
			return err
		}
		if err := t.syncFolders(touched); err != nil {
			return t.distrust(ctx, err)
		}
		return t.wroteSums(ctx, u, f, usage.Seq)
	}
	const staged = workDir + "/sums"
	if err := t.removeAll(staged); err != nil {
		return err
	}
	file, err := t.opt.Disk.OpenFile(staged, vfs.CreateNew, fileMode)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // closed before it is used
	w := bufio.NewWriterSize(file, 64<<10)
	q := catalog.Query{Recursive: true, Limit: catalog.MaxLimit}
	for {
		page, err := t.opt.Catalog.List(ctx, u, q)
		if err != nil {
			return err
		}
		for _, it := range page.Items {
			if err := sumLine(w, it.Ref, shown(it.Path)); err != nil {
				return err
			}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := file.Datasync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	touched := map[string]bool{f.name: true}
	if _, err := t.makeFolders(name, map[string]bool{}, touched); err != nil {
		return err
	}
	if err := t.opt.Disk.Rename(staged, name); err != nil {
		return err
	}
	if err := t.syncFolders(touched); err != nil {
		return t.distrust(ctx, err)
	}
	return t.wroteSums(ctx, u, f, usage.Seq)
}

func (t *Tree) wroteSums(ctx context.Context, u ident.UserID, f *folder, seq int64) error {
	err := t.opt.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE tree_user SET sums = ? WHERE user = ?`, seq, int64(u))
		return err
	})
	if err == nil {
		f.sums = seq
	}
	return err
}

var sumEscapes = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r")

// sumLine writes a line of sha256sum: names with a backslash or a line end are escaped,
// and the line then begins with a backslash.
func sumLine(w io.Writer, ref storage.Ref, name string) error {
	if escaped := sumEscapes.Replace(name); escaped != name {
		_, err := io.WriteString(w, "\\"+ref.String()+"  "+escaped+"\n")
		return err
	}
	_, err := io.WriteString(w, ref.String()+"  "+name+"\n")
	return err
}

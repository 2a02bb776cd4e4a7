package install

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"yunbox.local/storage/vfs"
)

// try switches to the release and keeps it if it proves itself, else goes back.
func (u *Updater) try(ctx context.Context, s step) error {
	s.Tries++
	if err := u.note(s); err != nil {
		return err
	}
	if err := u.tellTrial(s); err != nil {
		return err
	}
	if err := u.link(Current, s.To); err != nil {
		return err
	}
	start := u.Services.Restart
	if s.Moves {
		start = u.Services.Start
	}
	if err := start(ctx); err != nil {
		u.Log.Warn("the release on trial cannot be started", "err", err)
		s.Why = "start"
		return u.turnBack(ctx, s)
	}
	if s.Why = u.watch(ctx, s); ctx.Err() != nil {
		return context.Cause(ctx) // this updater ends, the trial does not
	}
	if s.Why != "" {
		return u.turnBack(ctx, s)
	}
	s.Phase = phaseKeep
	if err := u.note(s); err != nil {
		return err
	}
	return u.keep(ctx, s)
}

// tryAgain goes on with a trial during which the updater ended.
func (u *Updater) tryAgain(ctx context.Context, s step) error {
	if s.Tries >= mostTries {
		s.Why = "restarts"
		return u.turnBack(ctx, s)
	}
	if s.Moves {
		// The daemon that runs may be the one before: it must see that it is closed.
		if err := u.Services.Stop(ctx); err != nil {
			return err
		}
	}
	return u.try(ctx, s)
}

func (u *Updater) tellTrial(s step) error {
	if err := remove(u.State, HealthFile); err != nil {
		return err
	}
	return writeJSON(u.State, TrialFile, Trial{ID: s.ID, Closed: s.Moves}, 0o644)
}

// watch returns "" once the release was healthy for long enough, else why it is given up:
// unhealthy:WHAT, crashed, deadline.
func (u *Updater) watch(ctx context.Context, s step) string {
	begin, process := u.Now(), ""
	var well time.Time // since when
	for ctx.Err() == nil {
		now, failed, err := u.Services.Alive(ctx)
		switch {
		case err != nil:
			u.Log.Warn("the service manager does not say how the daemon is", "err", err)
		case failed, !well.IsZero() && now != process:
			return "crashed"
		}
		var h Health
		if ok, err := ReadJSON(u.State, HealthFile, &h); err != nil {
			u.Log.Warn("the daemon's word cannot be read", "err", err)
		} else if ok && h.ID == s.ID && h.Counter == s.Counter {
			switch {
			case !h.OK:
				return "unhealthy:" + h.Failed
			case well.IsZero() && now != "":
				process, well = now, u.Now()
			}
		}
		switch {
		case !well.IsZero() && u.Now().Sub(well) >= u.Stay:
			return ""
		case well.IsZero() && u.Now().Sub(begin) >= u.Patience:
			return "deadline"
		}
		u.Sleep(ctx, u.Pause)
	}
	return ""
}

// keep makes the release the one that the box has.
func (u *Updater) keep(ctx context.Context, s step) error {
	kept, err := u.kept()
	if err != nil {
		return err
	}
	kept.Highest, kept.Floor, kept.Previous = max(kept.Highest, s.Counter), max(kept.Floor, s.Floor), s.From
	if err := writeJSON(u.Base, keptFile, kept, 0o644); err != nil {
		return err
	}
	if err := writeJSON(u.State, KeptFile, kept, 0o644); err != nil {
		return err
	}
	if s.Action == Install {
		if err := u.takeKeys(); err != nil {
			return err
		}
		if err := u.State.Rename(BundleFile, OfferedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := u.link(updater, s.To); err != nil {
		return err
	}
	for _, name := range []string{records, recordsPart} {
		if err := removeAll(u.State, name); err != nil {
			return err
		}
	}
	u.Log.Info("the release is kept", "version", s.Version, "counter", s.Counter)
	if err := u.end(Result{ID: s.ID, Action: s.Action, Outcome: OutcomeKept, Version: s.Version, Counter: s.Counter, Runs: s.Version}, false); err != nil {
		return err
	}
	if err := u.open(); err != nil {
		return err
	}
	if err := u.prune(s.To, s.From); err != nil {
		return err
	}
	return u.forgetStep()
}

func (u *Updater) takeKeys() error {
	if err := u.Base.Rename(keyFile+".new", keyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return u.Base.SyncDir(own)
}

// prune removes releases that nobody goes back to.
func (u *Updater) prune(stay ...string) error {
	list, err := u.Base.ReadDir(Releases)
	if err != nil {
		return err
	}
	for _, e := range list {
		if dir := Releases + "/" + e.Name(); dir != Packaged && !slices.Contains(stay, dir) {
			if err := removeAll(u.Base, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// turnBack begins to go back.
func (u *Updater) turnBack(ctx context.Context, s step) error {
	u.Log.Warn("the release does not prove itself, the one before comes back", "version", s.Version, "why", s.Why)
	s.Phase = phaseBack
	if err := u.note(s); err != nil {
		return err
	}
	return u.back(ctx, s)
}

// back brings the release before and, where they moved, its records. Each part can be
// done again.
func (u *Updater) back(ctx context.Context, s step) error {
	if err := u.Services.Stop(ctx); err != nil {
		u.Log.Warn("the release on trial cannot be stopped", "err", err)
	}
	if s.Moves {
		if err := u.restoreRecords(); err != nil {
			return err
		}
	}
	if err := u.link(Current, s.From); err != nil {
		return err
	}
	now, err := u.release(s.From)
	if err != nil {
		u.Log.Warn("what the release before says of itself cannot be read", "err", err) // it comes back all the same
	}
	if err := u.end(Result{ID: s.ID, Action: s.Action, Outcome: OutcomeBack, Version: s.Version, Counter: s.Counter, Runs: now.Version, Why: s.Why}, s.Action == Install); err != nil {
		return err
	}
	// A daemon is closed while there is a trial. The step goes first, so that the copy of
	// the records is never put back over what was taken in.
	if err := u.forgetStep(); err != nil {
		return err
	}
	if err := u.open(); err != nil {
		return err
	}
	if err := u.Services.Start(ctx); err != nil {
		return err
	}
	for _, name := range []string{records, recordsPart} {
		if err := removeAll(u.State, name); err != nil {
			return err
		}
	}
	return remove(u.Base, keyFile+".new")
}

// recordFiles lists what the records are made of: the database, its log, its journal.
func recordFiles(fsys vfs.FS, top string) (list []string, err error) {
	in := func(dir string, want func(string) bool) error {
		entries, err := fsys.ReadDir(path.Join(top, dir))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range entries {
			if !e.IsDir() && want(e.Name()) {
				list = append(list, path.Join(dir, e.Name()))
			}
		}
		return err
	}
	err = errors.Join(
		in(".", func(n string) bool { return n == databaseFile || n == databaseFile+"-wal" }),
		in(journalDir, func(n string) bool { return !isTemporary(n) }))
	return list, err
}

func (u *Updater) recordsSize() (sum int64, err error) {
	list, err := recordFiles(u.State, ".")
	for _, name := range list {
		info, err := u.State.Stat(name)
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, err
}

// saveRecords copies the records of a box that does not run.
func (u *Updater) saveRecords() error {
	unlock, err := u.holdVolume()
	if err != nil {
		return err
	}
	defer unlock()
	for _, name := range []string{records, recordsPart} {
		if err := removeAll(u.State, name); err != nil {
			return err
		}
	}
	if err := u.State.Mkdir(recordsPart, 0o700); err != nil {
		return full(err)
	}
	if err := u.State.Mkdir(recordsPart+"/"+journalDir, 0o700); err != nil {
		return full(err)
	}
	list, err := recordFiles(u.State, ".")
	if err != nil {
		return err
	}
	for _, name := range list {
		if err := u.copyFile(name, recordsPart+"/"+name); err != nil {
			return errors.Join(full(err), removeAll(u.State, recordsPart))
		}
	}
	for _, dir := range []string{recordsPart + "/" + journalDir, recordsPart} {
		if err := u.State.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := u.State.Rename(recordsPart, records); err != nil {
		return err
	}
	return u.State.SyncDir(Dir)
}

// restoreRecords puts the copy back, byte by byte. No daemon starts meanwhile, and
// nothing that a daemon on trial wrote was promised to anybody: it was closed.
func (u *Updater) restoreRecords() error {
	if _, err := u.State.Stat(records); err != nil {
		return err // never go on without what was there
	}
	unlock, err := u.holdVolume()
	if err != nil {
		return err
	}
	defer unlock()
	if err := vfs.WriteFile(u.State, RestoreMark, []byte("see docs/update.md\n"), 0o644); err != nil {
		return err
	}
	list, err := recordFiles(u.State, ".")
	if err != nil {
		return err
	}
	for _, name := range append(list, databaseFile+"-shm") {
		if err := remove(u.State, name); err != nil {
			return err
		}
	}
	if list, err = recordFiles(u.State, records); err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(n string) bool { return strings.HasPrefix(n, journalDir) }) {
		if err := mkdir(u.State, journalDir, 0o700); err != nil {
			return err
		}
	}
	for _, name := range list {
		if err := u.copyFile(records+"/"+name, name); err != nil {
			return err
		}
		if err := u.Give(name); err != nil {
			return err
		}
	}
	if _, err := u.State.Stat(journalDir); err == nil {
		if err := u.State.SyncDir(journalDir); err != nil {
			return err
		}
	}
	if err := u.State.SyncDir("."); err != nil {
		return err
	}
	if err := remove(u.State, RestoreMark); err != nil {
		return err
	}
	return u.State.SyncDir(Dir)
}

// holdVolume keeps a daemon away that somebody starts by hand.
func (u *Updater) holdVolume() (release func(), err error) {
	const lock = "LOCK" // storage's
	if _, err := u.State.Stat(lock); errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	l, err := u.State.Lock(lock)
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}

// copyFile copies a file durably, all but its name. Where the file system can, they
// share their storage.
func (u *Updater) copyFile(from, to string) error {
	src, err := u.State.OpenFile(from, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := u.State.OpenFile(to, vfs.Replace, 0o600)
	if err != nil {
		return err
	}
	if err = dst.Clone(src); err != nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 1<<20))
	}
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

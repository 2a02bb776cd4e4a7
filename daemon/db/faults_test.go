//go:build linux && (amd64 || arm64)

package db

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

var every = flag.Bool("every", false, "let every single call fail, which takes minutes")

// A trial is one operation of a database that has some rows, and a journal.
type trial struct {
	name    string
	prepare func(*site) error // without a fault; nil: nothing
	run     func(*site) error
	long    bool // it makes hundreds of calls
}

// A site is a database in a trial, and what must be in it.
type site struct {
	t    *testing.T
	dir  string
	d    *DB // nil: not open
	kept []string
	not  []string // refused
}

// newSite opens a copy of the database that prepared made.
func newSite(t *testing.T, base, dir string) *site {
	s := &site{t: t, dir: dir, kept: []string{"one", "two"}}
	if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	s.put("three")
	return s
}

func prepared(t *testing.T) (dir string) {
	s := &site{t: t, dir: t.TempDir()}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	s.put("one")
	if err := s.d.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.put("two")
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return s.dir
}

func (s *site) options() Options {
	return Options{Path: s.dir + "/box.db", BackupDir: s.dir + "/backup", Journal: s.dir + "/journal", log: 64 << 10}
}

func (s *site) open() (err error) {
	s.d, err = Open(s.t.Context(), s.options())
	return err
}

// put writes a row and remembers what was said about it.
func (s *site) put(key string) error {
	err := put(s.d, key)
	s.told(key, err)
	return err
}

func (s *site) told(key string, err error) {
	if err == nil {
		s.kept = append(s.kept, key)
	} else {
		s.not = append(s.not, key)
	}
}

func (s *site) close() error {
	err := s.d.Close()
	s.d = nil
	return err
}

// killed takes the place of a process that was killed here: the same files, in a
// folder of their own, in the hands of nobody.
func killed(s *site) error {
	last := s.dir
	s.dir += "+"
	if err := os.CopyFS(s.dir, os.DirFS(last)); err != nil {
		return err
	}
	if s.d != nil {
		s.close() // of no interest any more
	}
	return os.RemoveAll(last)
}

func trials() []trial {
	return []trial{
		{name: "write", run: func(s *site) error {
			var errs []error
			for i := range 3 {
				errs = append(errs, s.put(fmt.Sprintf("written %d", i)))
			}
			return errors.Join(errs...)
		}},
		{name: "write together", run: func(s *site) error {
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() { errs[i] = put(s.d, fmt.Sprintf("together %d", i)) })
			}
			wg.Wait()
			for i, err := range errs {
				s.told(fmt.Sprintf("together %d", i), err)
			}
			return errors.Join(errs...)
		}},
		{name: "read", prepare: killed, run: func(s *site) error {
			if err := s.open(); err != nil {
				return err
			}
			for _, key := range s.kept {
				if n, err := s.count(key); err != nil {
					return err
				} else if n != 1 {
					s.t.Errorf("%s is there %d times, and no error", key, n)
				}
			}
			return nil
		}},
		{name: "check", run: func(s *site) error {
			problems, err := s.d.Check(s.t.Context())
			bad, err2 := s.d.CheckJournal(s.t.Context())
			if len(problems)+len(bad) > 0 {
				s.t.Errorf("one failed call made a sound database %q %q", problems, bad)
			}
			return errors.Join(err, err2)
		}},
		{name: "checkpoint", run: func(s *site) error {
			_, err := s.d.check.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
			return s.d.judge(err)
		}},
		{name: "generation", run: func(s *site) error { return s.d.Roll(s.t.Context()) }},
		{name: "forget", run: func(s *site) error { return s.d.Forget(s.t.Context()) }, long: true},
		{name: "copy", run: func(s *site) error {
			path := s.dir + "/copy.db"
			err := s.d.Backup(s.t.Context(), path)
			if err == nil {
				err = again(func() error { return quickCheck(s.t.Context(), path) })
			}
			return err
		}},
		{name: "stop", run: (*site).close},
		{name: "start", prepare: killed, run: (*site).open},
		{name: "start after a stop", prepare: (*site).close, run: (*site).open},
		{name: "first start", prepare: func(s *site) error {
			s.kept = nil
			return errors.Join(s.close(), os.RemoveAll(s.dir), os.Mkdir(s.dir, 0o700))
		}, run: (*site).open, long: true},
		{name: "rebuild", prepare: func(s *site) error { return errors.Join(killed(s), os.Remove(s.dir+"/box.db")) }, run: (*site).rebuild, long: true},
	}
}

// rebuild makes the database from its journal, as the box does it: beside, then in place.
func (s *site) rebuild() error {
	r, err := Rebuild(s.t.Context(), RebuildOptions{Journal: s.dir + "/journal", Path: s.dir + "/new.db"})
	if err != nil {
		return err
	}
	if r.Lost != "" || r.Differences != 0 {
		s.t.Errorf("a rebuild with one failed call says %+v", r)
	}
	for _, left := range []string{"-wal", "-shm"} {
		os.Remove(s.dir + "/box.db" + left)
	}
	return os.Rename(s.dir+"/new.db", s.dir+"/box.db")
}

func (s *site) count(key string) (n int, err error) {
	err = s.d.Read(s.t.Context(), func(tx *Tx) error {
		return tx.QueryRow("SELECT count(*) FROM box WHERE key = ?", key).Scan(&n)
	})
	return n, err
}

// holds: what was said to be kept is there, and nothing that was refused.
func (s *site) holds(when string, refused bool) {
	s.t.Helper()
	for _, key := range s.kept {
		if n, err := s.count(key); err != nil || n != 1 {
			s.t.Errorf("%s: %q is there %d times, %v", when, key, n, err)
		}
	}
	for _, key := range s.not {
		if n, err := s.count(key); refused && (err != nil || n != 0) {
			s.t.Errorf("%s: %q, which was refused, is there %d times, %v", when, key, n, err)
		}
	}
}

// Every system call of every operation fails, by every error that disks, quotas and
// limits give. The operation says so, or has done what it says; what was acknowledged
// is there at once and after a kill, what was refused is not; and the database goes
// on, unless it says that a commit did not reach the disk. Each run takes other calls;
// with -every it takes all. R02 R12
func TestEveryCallFails(t *testing.T) {
	watched(t, func(f *faults) {
		rng, base := seeded(t), prepared(t)
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EINTR, syscall.EMFILE, syscall.EROFS} {
			for _, tr := range trials() {
				t.Run(fmt.Sprintf("%s/%v", tr.name, errno), func(t *testing.T) {
					step := 30
					switch {
					case *every:
						step = 1
					case tr.long:
						step = 200
					case errno != syscall.EIO && errno != syscall.ENOSPC:
						step = 100
					}
					all := t.TempDir()
					for n := 1 + rng.IntN(step); ; n += step {
						dir := filepath.Join(all, fmt.Sprint(n))
						h := try(t, f, tr, base, dir, fault{Dir: all, Nth: n, Err: errno, Short: errno != syscall.EINTR && n%2 == 0})
						if t.Failed() {
							t.Fatalf("call %d: %s", n, h.Failed)
						}
						if h.Failed == "" {
							t.Logf("%d calls", h.Calls)
							return
						}
					}
				})
			}
		}
	})
}

func try(t *testing.T, f *faults, tr trial, base, dir string, want fault) hit {
	s := newSite(t, base, dir)
	if tr.prepare != nil {
		if err := tr.prepare(s); err != nil {
			t.Fatal(err)
		}
	}
	f.arm(t, want)
	err := tr.run(s)
	h := f.arm(t, fault{})
	if h.Failed == "" && err != nil {
		t.Errorf("without a fault: %v", err)
	}
	if isDamage(err) {
		t.Errorf("a failed call looks like damage: %v", err)
	}
	failed := false
	if s.d != nil {
		failed = s.d.Err() != nil
		s.holds("at once", true)
		if err := s.put("after the fault"); err != nil && !failed && s.d.Err() == nil {
			t.Errorf("nothing is wrong, but a change is refused: %v", err)
		}
		failed = failed || s.d.Err() != nil
		if failed && !strings.Contains(h.Failed, "sync") && !strings.Contains(h.Failed, "box.db") {
			t.Errorf("writing has ended because of another file: %v", s.d.Err())
		}
	}
	if err := killed(s); err != nil {
		t.Fatal(err)
	}
	if tr.name == "rebuild" && err != nil {
		if err := s.rebuild(); err != nil {
			t.Errorf("the next rebuild: %v", err)
		}
	}
	if err := s.open(); err != nil {
		t.Errorf("the next start: %v", err)
		return h
	}
	s.holds("after a kill", !failed)
	if err := s.put("at the end"); err != nil {
		t.Errorf("after the next start: %v", err)
	}
	if err := s.d.Close(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Error(err)
	}
	return h
}

package simulation_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing/synctest"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

// An act is one thing that is asked of the box.
type act struct {
	name string
	do   func() error
	// effect is what the act does to the model; a cut may show it though nobody
	// heard the answer. nil: nothing.
	effect func()
	// heard is what the answer alone tells; nil: nothing.
	heard func()
	// refused is how the box must refuse it; "": it must not.
	refused problem.Kind
	// disk: the act uses the disk of contents, so that this may fail in it.
	disk bool
	// doubt is what a failure leaves open; nil: nothing.
	doubt func()
}

// draw returns an act; nil: there is nothing to do it with.
func (w *world) draw() *act {
	p := w.people[w.rng.IntN(len(w.people))]
	n := w.rng.IntN(1000)
	for _, choice := range []struct {
		weight int
		draw   func(*person) *act
	}{
		{190, w.upload}, {90, w.overwrite}, {30, w.known}, {30, w.wrongHash}, {30, w.again},
		{40, w.beginUpload}, {50, w.goOn}, {10, w.cancel},
		{110, w.look}, {80, w.move}, {80, w.trash}, {4, w.trashFolder}, {30, w.restore}, {50, w.purge},
		{20, w.decide}, {2, w.decline}, {6, w.accept}, {16, w.makeToken}, {16, w.revoke}, {1, w.signIn}, {40, w.present},
		{12, w.sweep}, {3, w.scrub}, {20, w.inspect}, {20, w.flip}, {10, w.resend}, {4, w.turnClock},
	} {
		if n -= choice.weight; n < 0 {
			return choice.draw(p)
		}
	}
	return &act{name: "wait", do: func() error { time.Sleep(time.Duration(w.rng.Int64N(int64(time.Minute)))); return nil }}
}

// one is one step of the world: an act, with or without a fault or a cut in it, or
// the end of the box and its next start.
func (w *world) one() {
	synctest.Wait()
	w.step++
	switch n := w.rng.IntN(1000); {
	case n < 3:
		w.note("cut", "")
		w.cut(w.copyDB(), w.luck())
		w.check()
		return
	case n < 5:
		w.note("kill", "")
		w.kill()
		w.check()
		return
	case n < 6:
		w.note("restart", "")
		if w.rng.IntN(2) == 0 && w.model.revision < 8 { // as another version of the software
			w.model.revision++
			w.words = daemontest.Revised(w.t, w.model.revision)
			w.note("another policy", "")
		}
		w.restart()
		w.check()
		return
	case n == 6 && w.rng.IntN(2) == 0:
		w.note("lose", "")
		w.lose()
		w.check()
		return
	}
	a := w.draw()
	for a == nil {
		a = w.draw()
	}
	w.last = a.name
	switch n := w.rng.IntN(1000); {
	case a.disk && n < 8:
		w.cutWithin(a)
	case a.disk && n < 30:
		w.fault(a)
	case !a.disk && n < 4:
		w.cutCommit(a)
	default:
		w.plain(a)
	}
	if w.rng.IntN(500) == 0 {
		w.check()
	}
	if w.rng.IntN(2500) == 0 {
		w.verify()
	}
}

func (w *world) luck() vfstest.Luck {
	lucks := vfstest.Lucks()
	return lucks[w.rng.IntN(len(lucks))]
}

// note writes a step into the trace.
func (w *world) note(name, outcome string) {
	w.last = name
	w.count[name]++
	fmt.Fprintf(w.trace, "%d %s %s %d\n", w.step, name, outcome, w.disk.Calls(vfstest.OpAny))
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return string(problem.KindOf(err))
}

func (a *act) succeeded() {
	if a.effect != nil {
		a.effect()
	}
	if a.heard != nil {
		a.heard()
	}
}

// plain does an act of which the outcome is known.
func (w *world) plain(a *act) {
	err := a.do()
	synctest.Wait()
	w.note(a.name, outcome(err))
	w.judge(a, err)
}

// settleDoubt finds out what became of an act that was not answered.
func (w *world) settleDoubt(a *act) {
	if a.doubt != nil {
		a.doubt()
	}
	before := w.compare()
	if a.effect == nil || a.refused != "" {
		if before != "" {
			w.wrong("it had no effect to have: %s", before)
		}
		return
	}
	if before == "" && w.consentsAre() {
		w.count["doubt: did not happen"]++
		return
	}
	a.effect()
	if after := w.compare(); after != "" {
		w.wrong("it is neither undone nor done: %s; %s", before, after)
	}
	w.count["doubt: happened"]++
}

func (w *world) consentsAre() bool {
	for _, p := range w.people {
		if w.model.limited(p.id) != (w.ledger.Limited(p.id) != nil) {
			return false
		}
		states, err := w.ledger.State(w.ctx(), p.id)
		w.must(err)
		for _, s := range states {
			if (s.State == consent.Granted) != w.model.granted(p.id, s.Purpose) {
				return false
			}
		}
	}
	return true
}

// cutWithin lets the power fail at some call of the disk within an act.
func (w *world) cutWithin(a *act) {
	w.disk.CutIn(1 + w.rng.IntN(40))
	err := a.do()
	synctest.Wait()
	if w.cutDir == "" {
		w.disk.CutIn(0)
		w.note(a.name, outcome(err))
		w.judge(a, err)
		return
	}
	w.note(a.name, "cut within")
	w.cut(w.cutDir, w.luck())
	// An answer that came all the same came after the cut: nobody heard it. But then
	// its commit was before the cut or is not in the copy.
	w.settleDoubt(a)
	w.check()
}

func (w *world) judge(a *act, err error) {
	switch {
	case a.refused != "" && problem.KindOf(err) != a.refused:
		w.wrong("must be refused with %s: %v", a.refused, err)
	case a.refused == "" && err != nil:
		w.wrong("%v", err)
	case err == nil:
		a.succeeded()
	}
}

// cutCommit lets the power fail while an act of the database alone is committed.
func (w *world) cutCommit(a *act) {
	before, _ := w.log(w.dir)
	journal := w.newDir()
	w.copyJournal(journal)
	calls := w.disk.Calls(vfstest.OpAny)
	err := a.do()
	synctest.Wait()
	w.note(a.name, "cut in commit")
	dir, luck := w.copyDB(), w.luck()
	if w.disk.Calls(vfstest.OpAny) == calls && w.tear(dir, before, luck) {
		w.must(os.RemoveAll(filepath.Join(dir, "journal")))
		w.must(os.Rename(filepath.Join(journal, "journal"), filepath.Join(dir, "journal")))
	}
	w.must(os.RemoveAll(journal))
	if err != nil && a.refused == "" {
		w.wrong("%v", err)
	}
	w.cut(dir, luck)
	w.settleDoubt(a)
	w.check()
}

// fault lets a call of the disk fail within an act.
func (w *world) fault(a *act) {
	f := vfstest.Fault{
		Nth: 1 + w.rng.IntN(12),
		Err: []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EINTR, syscall.EMFILE}[w.rng.IntN(5)],
	}
	switch w.rng.IntN(5) {
	case 0:
		f.Ops, f.Nth = vfstest.OpSync|vfstest.OpSyncDir|vfstest.OpSyncAll, 1+w.rng.IntN(3)
	case 1:
		f.Ops, f.Nth, f.Short = vfstest.OpWrite, 1+w.rng.IntN(3), w.rng.IntN(2) == 0
	case 2:
		f.Ops, f.Nth = vfstest.OpSyncDir, 1
	}
	w.disk.Fail(f)
	err := a.do()
	synctest.Wait()
	struck := !w.disk.Pending()
	w.disk.Heal()
	w.note(a.name, fmt.Sprint("fault ", struck, " ", outcome(err)))
	w.sick = w.sick || struck
	if !struck || err == nil {
		w.judge(a, err)
	} else {
		w.count[fmt.Sprintf("failed with %v", f.Err)]++
		w.settleDoubt(a)
	}
	if w.store.Err() != nil || w.db.Err() != nil {
		if w.rng.IntN(2) == 0 {
			w.kill()
		} else {
			w.cut(w.copyDB(), w.luck())
		}
		w.check()
	}
}

package dedup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func (p *place) plan(plan Plan) (Plan, PlanSum) {
	p.t.Helper()
	made, sum, _, err := p.open().MakePlan(context.Background(), plan, ScanOptions{}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return made, sum
}

func (p *place) apply(id string) FoldResult {
	p.t.Helper()
	r, err := p.open().Apply(context.Background(), id, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *place) undo(id string) UndoResult {
	p.t.Helper()
	r, err := p.open().Undo(context.Background(), id, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *place) inode(name string) uint64 {
	p.t.Helper()
	info, err := os.Lstat(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func (p *place) mtime(name string) int64 {
	p.t.Helper()
	info, err := os.Lstat(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return info.ModTime().Unix()
}

// family is four equal files of different ages and one of its own.
func (p *place) family() {
	content := strings.Repeat("a picture of the sea ", 1000)
	for i, name := range []string{"new/a long name.jpg", "c.jpg", "album/b.jpg", "old/d.jpg"} {
		p.put(name, []byte(content))
		p.at(name, int64(4000-i*1000))
	}
	p.put("other.jpg", []byte("another"))
}

func TestPlanChoosesWhatStays(t *testing.T) {
	for _, c := range []struct {
		choice Choice
		stays  string
		files  int64
	}{
		{Choice{}, "old/d.jpg", 3},
		{Choice{Rule: Newest}, "new/a long name.jpg", 3},
		{Choice{Rule: Shortest}, "c.jpg", 3},
		{Choice{Prefer: []Path{"nowhere", "album", "new"}}, "album/b.jpg", 3},
		{Choice{Stay: []Path{"new"}}, "new/a long name.jpg", 3},
		{Choice{Stay: []Path{"new", "c.jpg"}, Rule: Shortest}, "c.jpg", 2},
	} {
		p := newPlace(t)
		p.family()
		var groups []PlanGroup
		_, sum, r, err := p.open().MakePlan(context.Background(), Plan{Action: Trash, Choice: c.choice}, ScanOptions{}, func(g PlanGroup) error {
			groups = append(groups, g)
			return nil
		})
		if err != nil || len(groups) != 1 || string(groups[0].Keep.Path) != c.stays {
			t.Errorf("%+v: %+v, %v", c.choice, groups, err)
			continue
		}
		if sum.Files != c.files || sum.Free != c.files*21000 || r.Same != 3 || r.Free != 3*21000 || sum.Left != 3-c.files {
			t.Errorf("%+v: %+v %+v", c.choice, sum, r)
		}
	}
	p := newPlace(t)
	for _, bad := range []Plan{
		{}, {Action: "burn"}, {Action: Trash, Choice: Choice{Rule: "best"}}, {Action: Trash, Choice: Choice{Stay: []Path{"../x"}}},
		{Action: Trash, Choice: Choice{Prefer: []Path{"/etc"}}},
	} {
		if _, _, _, err := p.open().MakePlan(context.Background(), bad, ScanOptions{}, nil); !errors.Is(err, ErrChoice) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestTrashAndBack(t *testing.T) { // R13
	p := newPlace(t)
	p.family()
	before := p.contents()
	plan, _ := p.plan(Plan{Action: Trash})
	if len(p.contents()) != len(before) {
		t.Fatal("a plan changed something")
	}
	var told []Progress
	r, err := p.open().Apply(context.Background(), plan.ID, func(p Progress) { told = append(told, p) })
	if err != nil || r.Done != 3 || r.Left.N != 0 || len(told) == 0 || told[len(told)-1].Files != 3 {
		t.Fatalf("%+v %v %+v", r, err, told)
	}
	trash := TrashName + "/dedup-" + plan.ID + "/"
	after := p.contents()
	if after["old/d.jpg"] == "" || after["c.jpg"] != "" || after[trash+"new/a long name.jpg"] != before["c.jpg"] || len(after) != len(before) {
		t.Errorf("%q", slicesOfKeys(after))
	}
	if _, groups := p.scan(ScanOptions{}); len(groups) != 0 {
		t.Errorf("still there: %q", groups)
	}
	if info, err := p.work.Plan(Path(p.root), ""); err != nil || info.State != Applied || info.ID != plan.ID {
		t.Errorf("%+v %v", info, err)
	}
	if _, err := p.open().Apply(context.Background(), plan.ID, nil); !errors.Is(err, ErrState) {
		t.Errorf("applied again: %v", err)
	}
	u := p.undo(plan.ID)
	if u.Done != 3 || u.Left.N != 0 || !maps.Equal(p.contents(), before) || p.mtime("c.jpg") != 3000 {
		t.Errorf("%+v %q", u, slicesOfKeys(p.contents()))
	}
	if u := p.undo(plan.ID); u.Left.N != 0 || !maps.Equal(p.contents(), before) {
		t.Errorf("undo of undo: %+v", u)
	}
}

func slicesOfKeys(m map[string]string) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}

// An emptied trash is no end: the content is still there.
func TestUndoAfterTrashWasEmptied(t *testing.T) {
	p := newPlace(t)
	p.family()
	before := p.contents()
	plan, _ := p.plan(Plan{Action: Trash})
	p.apply(plan.ID)
	if err := os.RemoveAll(p.path(TrashName)); err != nil {
		t.Fatal(err)
	}
	p.put("c.jpg", []byte("something new"))
	u := p.undo(plan.ID)
	before["c.jpg"] = "something new"
	if u.Done != 2 || u.Left.N != 1 || !maps.Equal(p.contents(), before) || p.mtime("new/a long name.jpg") != 4000 {
		t.Errorf("%+v %q", u, slicesOfKeys(p.contents()))
	}
}

func TestHardlinkAndBack(t *testing.T) { // R13
	p := newPlace(t)
	p.family()
	before := p.contents()
	plan, _ := p.plan(Plan{Action: Hardlink})
	if r := p.apply(plan.ID); r.Done != 0 || r.Left.N != 3 || r.Left.List[0].Reason != errTime.Error() {
		t.Fatalf("times that differ: %+v", r)
	}
	plan, _ = p.plan(Plan{Action: Hardlink, AnyTime: true})
	if err := os.Chmod(p.path("c.jpg"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := p.apply(plan.ID)
	if r.Done != 2 || r.Left.N != 1 || r.Left.List[0].Path != "c.jpg" || r.Left.List[0].Reason != errMode.Error() {
		t.Fatalf("%+v", r)
	}
	if p.inode("album/b.jpg") != p.inode("old/d.jpg") || p.inode("new/a long name.jpg") != p.inode("old/d.jpg") || p.inode("c.jpg") == p.inode("old/d.jpg") {
		t.Error("not linked as it should be")
	}
	if p.mtime("old/d.jpg") != 1000 {
		t.Error("the file that stays has another time")
	}
	if !maps.Equal(p.contents(), before) {
		t.Error("contents changed, or names of a moment stayed")
	}
	u := p.undo(plan.ID)
	if u.Done != 2 || u.Left.N != 0 || !maps.Equal(p.contents(), before) {
		t.Errorf("%+v", u)
	}
	inodes := map[uint64]bool{}
	for _, name := range []string{"old/d.jpg", "album/b.jpg", "c.jpg", "new/a long name.jpg"} {
		inodes[p.inode(name)] = true
	}
	if len(inodes) != 4 || p.mtime("album/b.jpg") != 2000 || p.mtime("new/a long name.jpg") != 4000 {
		t.Errorf("%v: not files of their own, or without their times", inodes)
	}
}

// What somebody did between the plan and its application counts; nothing is folded
// that is not what the plan saw, nor what is being used.
func TestApplyLeavesWhatChanged(t *testing.T) { // R13
	type change struct {
		name string
		do   func(p *place)
		// The file that must be left, and the content that it must have then.
		left, content string
	}
	same := strings.Repeat("x", 300_000)
	edited := same[:150_000] + "y" + same[150_001:]
	changes := []change{
		{"edited, with its time put back", func(p *place) {
			f, _ := os.OpenFile(p.path("b"), os.O_WRONLY, 0)
			f.WriteAt([]byte("y"), 150_000)
			f.Close()
			p.at("b", 1000)
		}, "b", edited},
		{"what stays is edited, with its time put back", func(p *place) {
			f, _ := os.OpenFile(p.path("a"), os.O_WRONLY, 0)
			f.WriteAt([]byte("y"), 150_000)
			f.Close()
			p.at("a", 1000)
		}, "b", same},
		{"replaced by a link to a file elsewhere", func(p *place) {
			os.WriteFile(filepath.Join(filepath.Dir(p.root), "secret"), []byte(same), 0o600)
			os.Remove(p.path("b"))
			os.Symlink("../secret", p.path("b"))
		}, "b", same},
		{"what stays replaced by a link to the file that goes", func(p *place) {
			os.Remove(p.path("a"))
			os.Symlink("b", p.path("a"))
		}, "b", same},
		{"what stays is gone", func(p *place) { os.Remove(p.path("a")) }, "b", same},
		{"grown", func(p *place) {
			f, _ := os.OpenFile(p.path("b"), os.O_WRONLY|os.O_APPEND, 0)
			f.WriteString("more")
			f.Close()
		}, "b", same + "more"},
		{"shortened", func(p *place) { os.Truncate(p.path("b"), 10) }, "b", same[:10]},
		{"the same file by now", func(p *place) {
			os.Remove(p.path("b"))
			os.Link(p.path("a"), p.path("b"))
		}, "b", same},
		{"replaced by another file of that content", func(p *place) {
			os.Remove(p.path("b"))
			p.put("b", []byte(same))
			p.put("b2", []byte(same)) // so that it does not get the inode again
		}, "b", same},
		{"a folder on the way became a link", func(p *place) {
			os.Rename(p.path("dir"), p.path("dir2"))
			os.Symlink("dir2", p.path("dir"))
		}, "dir/c", same},
	}
	for _, action := range []Action{Trash, Hardlink} {
		for _, c := range changes {
			t.Run(string(action)+"/"+c.name, func(t *testing.T) {
				p := newPlace(t)
				p.put("a", []byte(same))
				p.put("b", []byte(same))
				p.put("dir/c", []byte(same))
				for _, name := range []string{"a", "b", "dir/c"} {
					p.at(name, 1000)
				}
				plan, _ := p.plan(Plan{Action: action, Choice: Choice{Rule: Shortest}, AnyTime: true})
				c.do(p)
				r := p.apply(plan.ID)
				left := false
				for _, l := range r.Left.List {
					left = left || string(l.Path) == c.left
				}
				b, err := os.ReadFile(p.path(c.left))
				if !left || err != nil || string(b) != c.content {
					t.Errorf("%+v; %d bytes, %v", r, len(b), err)
				}
				p.undo(plan.ID)
				if b, err := os.ReadFile(p.path(c.left)); err != nil || string(b) != c.content {
					t.Errorf("after undo: %d bytes, %v", len(b), err)
				}
			})
		}
	}
}

// A file that another program has open, or writes what stays, is left alone.
func TestApplyLeavesWhatIsInUse(t *testing.T) {
	for _, c := range []struct {
		name string
		flag int
		left int64
	}{
		{"a", os.O_RDONLY, 0}, {"a", os.O_WRONLY, 1}, {"b", os.O_RDONLY, 1}, {"b", os.O_RDWR, 1},
	} {
		for _, action := range []Action{Trash, Hardlink} {
			p := newPlace(t)
			p.put("a", []byte("same"))
			p.put("b", []byte("same"))
			plan, _ := p.plan(Plan{Action: action, Choice: Choice{Rule: Shortest}, AnyTime: true})
			f, err := os.OpenFile(p.path(c.name), c.flag, 0)
			if err != nil {
				t.Fatal(err)
			}
			if r := p.apply(plan.ID); r.Left.N != c.left || r.Done != 1-c.left {
				t.Errorf("%s of %s opened with %d: %+v", action, c.name, c.flag, r)
			}
			f.Close()
		}
	}
}

// All names of a file are folded, and nothing is freed by some of them.
func TestLinksOfOneFile(t *testing.T) {
	p := newPlace(t)
	p.put("a", []byte("same"))
	p.put("b", []byte("same"))
	p.link("b", "b2")
	p.link("b", "b3")
	p.link("a", "a2")
	os.Link(p.path("b"), filepath.Join(filepath.Dir(p.root), "elsewhere"))
	plan, sum := p.plan(Plan{Action: Hardlink, Choice: Choice{Rule: Shortest}, AnyTime: true})
	if sum.Files != 3 || sum.Free != 0 {
		t.Errorf("%+v", sum)
	}
	os.Remove(filepath.Join(filepath.Dir(p.root), "elsewhere"))
	if _, sum := p.plan(Plan{Action: Hardlink}); sum.Free != 4 {
		t.Errorf("%+v", sum)
	}
	if r := p.apply(plan.ID); r.Done != 3 || r.Left.N != 0 {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"a2", "b", "b2", "b3"} {
		if p.inode(name) != p.inode("a") {
			t.Errorf("%s is another file", name)
		}
	}
}

// What is cancelled stands between two acts, and goes on from there.
func TestCancelAndGoOn(t *testing.T) {
	for _, action := range []Action{Trash, Hardlink} {
		p := quickPlace(t)
		for i := range 200 {
			p.put(fmt.Sprintf("d%d/f%d", i%7, i), []byte("same"))
		}
		before := p.contents()
		plan, _ := p.plan(Plan{Action: action, AnyTime: true})
		runs := 0
		for ; ; runs++ {
			ctx, cancel := context.WithCancel(context.Background())
			stop := time.AfterFunc(time.Duration(runs+1)*2*time.Millisecond, cancel)
			r, err := p.open().Apply(ctx, plan.ID, nil)
			stop.Stop()
			cancel()
			if err == nil {
				if r.Done != 199 || r.Left.N != 0 {
					t.Errorf("%s, after %d runs: %+v", action, runs, r)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			for name, c := range p.contents() {
				if c != "same" {
					t.Fatalf("%s is %q", name, c)
				}
			}
		}
		t.Logf("%s: %d runs were cancelled", action, runs)
		if u := p.undo(plan.ID); u.Done != 199 || !maps.Equal(p.contents(), before) {
			t.Errorf("%+v", u)
		}
	}
}

// Pairs made to be mistaken for each other, thousands of them: what is folded was
// equal, and what was not equal has its bytes. R13
func TestAdversarialPairs(t *testing.T) {
	pairs := 500
	if long() {
		pairs = 10_000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, action := range []Action{Trash, Hardlink} {
		p := quickPlace(t)
		for i := range pairs {
			p.pair(rng, i)
		}
		plan, sum := p.plan(Plan{Action: action, AnyTime: true, Choice: Choice{Rule: []Rule{Oldest, Newest, Shortest}[rng.IntN(3)]}})
		for i := range pairs {
			p.meddle(rng, i)
		}
		before := p.contents()
		r := p.apply(plan.ID)
		if r.Done == 0 || r.Left.N == 0 {
			t.Errorf("nothing was tried: %+v %+v", sum, r)
		}
		wrong := 0
		after := p.contents()
		trash := TrashName + "/dedup-" + plan.ID + "/"
		for name, content := range before {
			now, ok := after[name]
			if !ok && action == Trash {
				now, ok = after[trash+name]
				if !hasOther(after, trash, name, content) {
					t.Errorf("the last copy of %s is in the trash", name)
				}
			}
			if !ok || now != content {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d wrong of %d", action, wrong, pairs)
		}
		p.undo(plan.ID)
		if !maps.Equal(p.contents(), before) {
			t.Errorf("%s: undo did not bring everything back", action)
		}
		t.Logf("%s: %d pairs, %d folded, %d left", action, pairs, r.Done, r.Left.N)
	}
}

func hasOther(after map[string]string, trash, name, content string) bool {
	for other, c := range after {
		if other != name && !strings.HasPrefix(other, TrashName) && c == content {
			return true
		}
	}
	return false
}

// pair makes two files, or one with two names, in one of many ways.
func (p *place) pair(rng *rand.Rand, i int) {
	a, b := fmt.Sprintf("p%d/%d-a", i%20, i), fmt.Sprintf("q%d/%d-b", i%30, i)
	kind := rng.IntN(9)
	size := 1 + rng.IntN(20_000)
	if kind == 1 || kind == 2 {
		size = wholeLimit + 1 + rng.IntN(20_000)
	}
	content := noise(rng, min(size, 40))
	for len(content) < size { // cheap, and unlike others
		content = append(content, content[:min(len(content), size-len(content))]...)
	}
	p.put(a, content)
	switch kind {
	case 0, 1: // equal
		p.put(b, content)
	case 2: // same size and ends
		content[endSize+rng.IntN(size-2*endSize)] ^= 1
		p.put(b, content)
	case 3: // same size
		content[rng.IntN(size)] ^= 1
		p.put(b, content)
	case 4:
		p.put(b, content)
		p.link(b, b+"2")
		p.link(a, a+"2")
	case 5: // one file
		p.link(a, b)
	case 6: // empty
		p.put(a, nil)
		p.put(b, nil)
	case 7: // a hole, and zeros
		p.put(a, make([]byte, size))
		p.put(b, nil)
		os.Truncate(p.path(b), int64(size))
	case 8:
		p.put(b, append(content, 0))
	}
	p.at(a, int64(rng.IntN(3)))
	if err := os.Chtimes(p.path(b), time.Unix(1, 0), time.Unix(int64(rng.IntN(3)), 0)); err != nil {
		p.t.Fatal(err)
	}
}

// meddle changes one of a pair, or not, after the plan was made.
func (p *place) meddle(rng *rand.Rand, i int) {
	a, b := p.path(fmt.Sprintf("p%d/%d-a", i%20, i)), p.path(fmt.Sprintf("q%d/%d-b", i%30, i))
	if rng.IntN(2) == 0 {
		a, b = b, a
	}
	info, err := os.Lstat(a)
	if err != nil {
		p.t.Fatal(err)
	}
	switch rng.IntN(8) {
	case 0: // a bit, with the time put back
		f, err := os.OpenFile(a, os.O_RDWR, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		var c [1]byte
		at := rng.Int64N(info.Size() + 1)
		f.ReadAt(c[:], at)
		c[0] ^= 4
		f.WriteAt(c[:], at)
		f.Close()
		os.Chtimes(a, time.Time{}, info.ModTime())
	case 1:
		os.Truncate(a, info.Size()/2)
	case 2: // a link takes its place
		os.Remove(a)
		os.Symlink(b, a)
	case 3: // another content of that size and time
		os.Remove(a)
		os.WriteFile(a, noise(rng, int(info.Size())), 0o644)
		os.Chtimes(a, time.Time{}, info.ModTime())
	case 4:
		os.Remove(a)
		os.Link(b, a)
	}
}

// What the real disk does that the one in the tests only imitates.
func TestTreeStaysInside(t *testing.T) {
	p := newPlace(t)
	outside := filepath.Join(filepath.Dir(p.root), "outside")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(outside, "x"), []byte("x"), 0o644)
	p.put("in/x", []byte("x"))
	os.Symlink("../outside", p.path("out"))
	os.Symlink("in", p.path("alias"))
	os.Symlink("in/x", p.path("x"))
	f := p.open()
	for _, at := range []struct {
		how string
		fn  func(name string, flags int, mode uint32) (int, error)
	}{{"openat2", f.tree.at}, {"step by step", func(name string, flags int, mode uint32) (int, error) {
		return f.tree.walkTo(name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
	}}} {
		for name, want := range map[string]bool{
			"in/x": true, ".": true, "out/x": false, "alias/x": false, "x": false, "../outside/x": false, "in/../../outside/x": false, "/etc/passwd": false,
		} {
			fd, err := at.fn(name, unix.O_RDONLY, 0)
			if err == nil {
				unix.Close(fd)
			}
			if (err == nil) != want {
				t.Errorf("%s of %q: %v", at.how, name, err)
			}
		}
	}
	for name, call := range map[string]func() error{
		"link":     func() error { return f.tree.link("in/x", "out/y") },
		"move":     func() error { return f.tree.move("in/x", "out/y") },
		"mkdir":    func() error { return f.tree.mkdir("out/y") },
		"mkdir of": func() error { return f.tree.mkdir("out") },
		"remove":   func() error { return f.tree.remove("out/x") },
		"write":    func() error { return f.tree.write("out/y", strings.NewReader("y"), meta{Mode: 0o600}) },
		"replace":  func() error { p.put("y", []byte("y")); return f.tree.move("y", "in/x") },
		"open":     func() error { _, err := f.tree.open("in"); return err },
	} {
		if call() == nil {
			t.Errorf("%s went through", name)
		}
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
	if err := f.tree.remove("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Files with other attributes are no links of each other.
func TestHardlinkLeavesOtherAttributes(t *testing.T) {
	p := newPlace(t)
	p.put("a", []byte("same"))
	p.put("b", []byte("same"))
	if err := unix.Setxattr(p.path("b"), "user.yunbox", []byte("x"), 0); err != nil {
		t.Skipf("no attributes here: %v", err)
	}
	plan, _ := p.plan(Plan{Action: Hardlink, AnyTime: true})
	if r := p.apply(plan.ID); r.Left.N != 1 || r.Left.List[0].Reason != errMode.Error() {
		t.Errorf("%+v", r)
	}
}

// An intent behind a gap was never durable with those before it: nothing was begun, and
// all acts are still to be done.
func TestJournalWithAGap(t *testing.T) {
	p := newPlace(t)
	p.family()
	plan, _ := p.plan(Plan{Action: Trash})
	d := p.open().newFold(context.Background(), plan)
	var acts []act
	if err := p.work.Groups(plan.ID, func(g PlanGroup) error {
		for i, f := range g.Fold {
			acts = append(acts, d.newAct(int64(i+1), &g, f))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	j, err := p.work.openJournal(plan.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range acts[1:] {
		j.add(a.jline)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if r := p.apply(plan.ID); r.Done != 3 || r.Left.N != 0 {
		t.Errorf("%+v", r)
	}
}

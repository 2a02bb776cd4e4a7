package dedup

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mounted makes a file system in a file and mounts it, for who may.
func mounted(t *testing.T, kind string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		t.Skipf("there is no mkfs.%s", kind)
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(128 << 20)
	if kind == "xfs" {
		size = 320 << 20 // the least that mkfs.xfs takes
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command(mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.%s: %s", kind, out)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, at).CombinedOutput(); err != nil {
		t.Skipf("%s cannot be mounted here: %s", kind, out)
	}
	t.Cleanup(func() {
		if out, err := unmount(at); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return at
}

// unmount tries for a while: a program that another test starts holds every descriptor for
// a moment.
func unmount(at string) (out []byte, err error) {
	for range 600 {
		if out, err = exec.Command("umount", at).CombinedOutput(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return out, err
}

func used(t *testing.T, dir string) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * int64(st.Bsize)
}

// On file systems that can, equal files share storage, room is freed, a change of one
// is none of the others, and a second plan finds nothing more. R13
func TestReflinks(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			base := mounted(t, kind)
			p, rng := placeIn(t, base), rand.New(rand.NewPCG(5, 6))
			large := noise(rng, 5<<20+123)
			for i := range 4 {
				p.put(fmt.Sprintf("d/%d.mp4", i), large)
			}
			other := bytes.Clone(large)
			other[3<<20] ^= 1
			p.put("other.mp4", other)
			before := p.contents()
			was := used(t, base)
			if err := exec.Command("cp", "--reflink=always", p.path("d/0.mp4"), p.path("d/cloned.mp4")).Run(); err != nil {
				t.Fatal(err)
			}
			before["d/cloned.mp4"] = string(large)
			r, _ := p.scan(ScanOptions{})
			if r.Same != 4 || r.Shared != 1 || r.Free < 3*5<<20 {
				t.Errorf("%+v", r)
			}
			plan, sum := p.plan(Plan{Action: Reflink, Choice: Choice{Rule: Shortest}})
			if sum.Files != 3 {
				t.Errorf("%+v", sum)
			}
			// One of them changes after the plan, and gets its time back.
			f, err := os.OpenFile(p.path("d/3.mp4"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := f.Stat()
			f.WriteAt([]byte("changed"), 4<<20)
			f.Close()
			os.Chtimes(p.path("d/3.mp4"), info.ModTime(), info.ModTime())
			changed := bytes.Clone(large)
			copy(changed[4<<20:], "changed")
			before["d/3.mp4"] = string(changed)
			done := p.apply(plan.ID)
			if done.Done != 2 || done.Left.N != 1 || done.Left.List[0].Path != "d/3.mp4" {
				t.Errorf("%+v", done)
			}
			if !maps.Equal(p.contents(), before) {
				t.Error("contents changed")
			}
			if now := used(t, base); was-now < 9<<20 {
				t.Errorf("%d bytes were freed", was-now)
			}
			r, _ = p.scan(ScanOptions{})
			if r.Same != 3 || r.Shared != 3 || r.Free != 0 {
				t.Errorf("afterwards %+v", r)
			}
			if _, sum := p.plan(Plan{Action: Reflink}); sum.Files != 0 {
				t.Errorf("still %+v", sum)
			}
			if u := p.undo(plan.ID); !u.Nothing {
				t.Errorf("%+v", u)
			}
			p.put("d/1.mp4", []byte("new"))
			before["d/1.mp4"] = "new"
			if !maps.Equal(p.contents(), before) {
				t.Error("a change of one was one of another")
			}
			// Links and the trash on this file system, too.
			for _, action := range []Action{Trash, Hardlink} {
				p.put("x/"+string(action)+"1", []byte(action))
				p.put("x/"+string(action)+"2", []byte(action))
				before := p.contents()
				plan, _ := p.plan(Plan{Action: action, AnyTime: true})
				if r := p.apply(plan.ID); r.Left.N != 0 && action == Hardlink || r.Done == 0 {
					t.Errorf("%s: %+v", action, r)
				}
				if p.undo(plan.ID); !maps.Equal(p.contents(), before) {
					t.Errorf("%s: undo", action)
				}
			}
		})
	}
}

// Where storage cannot be shared it is said, and nothing happens.
func TestReflinkWhereItCannotBe(t *testing.T) {
	p := newPlace(t)
	var st unix.Statfs_t
	if err := unix.Statfs(p.root, &st); err != nil || uint32(st.Type) == unix.BTRFS_SUPER_MAGIC || uint32(st.Type) == unix.XFS_SUPER_MAGIC {
		t.Skip("storage can be shared here")
	}
	p.put("a", []byte("same"))
	p.put("b", []byte("same"))
	plan, _ := p.plan(Plan{Action: Reflink})
	if r := p.apply(plan.ID); r.Left.N != 1 || r.Left.List[0].Reason != errNoShare.Error() {
		t.Errorf("%+v", r)
	}
}

// The same folder mounted twice holds the same files once; what is mounted below is
// looked at when asked, and a file is no copy of itself. R13
func TestBindMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	p := newPlace(t)
	for _, action := range []Action{Trash, Hardlink} {
		p.put("a/1", []byte("the same"))
		p.put("a/2", []byte("the same"))
		os.Mkdir(p.path("b"), 0o755)
		if out, err := exec.Command("mount", "--bind", p.path("a"), p.path("b")).CombinedOutput(); err != nil {
			t.Skipf("no bind mounts here: %s", out)
		}
		t.Cleanup(func() { exec.Command("umount", p.path("b")).Run() })
		if r, groups := p.scan(ScanOptions{}); r.Files != 2 || r.OtherMounts != 1 || len(groups) != 1 {
			t.Errorf("%+v %q", r, groups)
		}
		r, groups := p.scan(ScanOptions{OtherMounts: true})
		if r.Files != 4 || r.Same != 1 || r.Linked != 2 || len(groups) != 1 {
			t.Errorf("%+v %q", r, groups)
		}
		plan, sum, _, err := p.open().MakePlan(context.Background(), Plan{Action: action, AnyTime: true}, ScanOptions{OtherMounts: true}, nil)
		if err != nil || sum.Files != 2 {
			t.Fatalf("%+v %v", sum, err)
		}
		done := p.apply(plan.ID)
		some := 0
		for name, c := range p.contents() {
			if c != "the same" {
				t.Errorf("%s is %q", name, c)
			}
			if !strings.HasPrefix(name, TrashName) && !strings.HasPrefix(name, "b/") {
				some++
			}
		}
		if some == 0 || action == Hardlink && some != 2 {
			t.Errorf("%s: %d are left: %+v", action, some, done)
		}
		p.undo(plan.ID)
		if len(p.contents()) != 4 {
			t.Errorf("%s: %q", action, slicesOfKeys(p.contents()))
		}
		if out, err := unmount(p.path("b")); err != nil {
			t.Fatalf("%s", out)
		}
		os.RemoveAll(p.path("a"))
		os.RemoveAll(p.path("b"))
		os.RemoveAll(p.path(TrashName))
	}
}

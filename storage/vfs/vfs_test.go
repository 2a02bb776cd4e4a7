package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// Both file systems must behave alike, or the tests on the one say nothing
// about the other.
func both(t *testing.T, test func(t *testing.T, fsys vfs.FS)) {
	t.Run("Dir", func(t *testing.T) {
		fsys, err := vfs.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer fsys.Close()
		test(t, fsys)
	})
	t.Run("Disk", func(t *testing.T) { test(t, vfstest.NewDisk()) })
}

func create(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	f, err := fsys.OpenFile(name, vfs.CreateNew, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	got, err := vfs.ReadFile(fsys, name)
	if err != nil || string(got) != content {
		t.Errorf("%s holds %q (%v), want %q", name, got, err, content)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestNames(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		if err := fsys.Mkdir("d", 0o700); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "mkdir again", fsys.Mkdir("d", 0o700), fs.ErrExist)
		wantErr(t, "mkdir without parent", fsys.Mkdir("x/y", 0o700), fs.ErrNotExist)
		create(t, fsys, "d/b", "bee")
		create(t, fsys, "a", "ay")
		_, err := fsys.OpenFile("a", vfs.CreateNew, 0o600)
		wantErr(t, "create again", err, fs.ErrExist)
		_, err = fsys.OpenFile("none", vfs.ReadOnly, 0)
		wantErr(t, "open", err, fs.ErrNotExist)
		if err := fsys.Rename("a", "d/b"); err != nil {
			t.Fatal(err)
		}
		want(t, fsys, "d/b", "ay")
		_, err = fsys.Stat("a")
		wantErr(t, "stat after rename", err, fs.ErrNotExist)
		wantErr(t, "rename what is gone", fsys.Rename("a", "c"), fs.ErrNotExist)
		create(t, fsys, "d/a", "")
		entries, err := fsys.ReadDir("d")
		if err != nil || len(entries) != 2 || entries[0].Name() != "a" || entries[1].Name() != "b" {
			t.Errorf("ReadDir: %v %v", entries, err)
		}
		if info, err := entries[1].Info(); err != nil || info.Size() != 2 || !info.Mode().IsRegular() {
			t.Errorf("Info: %v %v", info, err)
		}
		if err := fsys.Remove("d"); err == nil {
			t.Error("a directory with files in it was removed")
		}
		if err := errors.Join(fsys.SyncDir("d"), fsys.SyncDir("."), fsys.Remove("d/a"), fsys.Remove("d/b"), fsys.Remove("d")); err != nil {
			t.Error(err)
		}
		wantErr(t, "remove again", fsys.Remove("d"), fs.ErrNotExist)
		wantErr(t, "sync what is gone", fsys.SyncDir("d"), fs.ErrNotExist)
	})
}

func TestFile(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		f, err := fsys.OpenFile("f", vfs.CreateNew, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("world"), 6); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("hello"), 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.WriteBack(0, 11, false), f.WriteBack(0, 11, true), f.Datasync(), f.Sync()); err != nil {
			t.Fatal(err)
		}
		want(t, fsys, "f", "hello\x00world")
		b := make([]byte, 8)
		if n, err := f.ReadAt(b, 6); n != 5 || err != io.EOF {
			t.Errorf("ReadAt: %d %v", n, err)
		}
		if err := f.Truncate(5); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(8); err != nil {
			t.Fatal(err)
		}
		want(t, fsys, "f", "hello\x00\x00\x00")
		if pos, err := f.Seek(-3, io.SeekEnd); pos != 5 || err != nil {
			t.Errorf("Seek: %d %v", pos, err)
		}
		if _, err := f.Write([]byte("!")); err != nil {
			t.Fatal(err)
		}
		if n, err := f.Read(b); n != 2 || err != nil {
			t.Errorf("Read: %d %v", n, err)
		}
		if err := f.Chmod(0o440); err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 8 || info.Mode() != 0o440 {
			t.Errorf("Stat: %v %v", info, err)
		}
		if err := fsys.Remove("f"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("J"), 0); err != nil {
			t.Errorf("write to a removed file: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err == nil {
			t.Error("closed twice")
		}
		if space, err := fsys.Space(); err != nil || space.Free <= 0 || space.Total < space.Free {
			t.Errorf("Space: %+v %v", space, err)
		}
	})
}

func TestLock(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		l, err := fsys.Lock("L")
		if err != nil {
			t.Fatal(err)
		}
		_, err = fsys.Lock("L")
		wantErr(t, "second lock", err, vfs.ErrLocked)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = fsys.Lock("L"); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNamesStayInside(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS) {
		create(t, fsys, "f", "")
		for _, name := range []string{"", "..", "../x", "/etc/passwd", "a/../../b", "./f", "f/", "a//b"} {
			_, err := fsys.OpenFile(name, vfs.ReadOnly, 0)
			wantErr(t, "open "+name, err, fs.ErrInvalid)
			_, err = fsys.Stat(name)
			wantErr(t, "stat "+name, err, fs.ErrInvalid)
			wantErr(t, "rename from "+name, fsys.Rename(name, "g"), fs.ErrInvalid)
			wantErr(t, "rename to "+name, fsys.Rename("f", name), fs.ErrInvalid)
			wantErr(t, "remove "+name, fsys.Remove(name), fs.ErrInvalid)
		}
	})
}

func TestLinksDoNotLeadOut(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": outside, "up": "../" + filepath.Base(outside)} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	fsys, err := vfs.OpenDir(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	for _, name := range []string{"dir/secret", "up/secret"} {
		if data, err := vfs.ReadFile(fsys, name); err == nil {
			t.Errorf("%s led out and gave %q", name, data)
		}
	}
}

func TestCreateDir(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b", "c")
	for range 2 {
		if err := vfs.CreateDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	create := filepath.Join(dir, "file")
	if err := os.WriteFile(create, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := vfs.CreateDir(create); err == nil {
		t.Error("a file passed for a directory")
	}
}

// A cut during WriteFile leaves the old content or the new one, never another,
// and after nil only the new one.
func TestWriteFileSurvivesCuts(t *testing.T) { // R01
	rng := vfstest.Seed(t)
	long, short := bytes.Repeat([]byte("new content "), 200), []byte("old content")
	for range 2000 {
		disk := vfstest.NewDisk()
		if err := vfs.WriteFile(disk, "f", short, 0o400); err != nil {
			t.Fatal(err)
		}
		disk.CutIn(1 + rng.IntN(12))
		done := vfs.WriteFile(disk, "f", long, 0o400) == nil
		disk = disk.PowerCut(rng)
		got, err := vfs.ReadFile(disk, "f")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, long) && (done || !bytes.Equal(got, short)) {
			t.Fatalf("after a cut (acknowledged: %v) the file holds %d bytes, %.20q", done, len(got), got)
		}
		if err := vfs.WriteFile(disk, "f", short, 0o400); err != nil {
			t.Fatalf("what the cut left is in the way: %v", err)
		}
	}
}

package export

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// nothing is a content without bytes.
type nothing struct{ *bytes.Reader }

func (nothing) Close() error { return nil }

// library opens a room on a box with one person who keeps n empty files.
func library(t *testing.T, n int) *Room {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	d, err := db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), BackupDir: filepath.Join(dir, "backup")})
	must(err)
	t.Cleanup(func() { must(d.Close()) })
	must(d.Write(t.Context(), func(tx *db.Tx) error {
		for _, q := range []string{
			`INSERT INTO user (id, username, shown, role, password, created) VALUES (1, 'ada', 'Ada', 'owner', 'x', 0)`,
			fmt.Sprintf(`INSERT INTO usage (user, items, seq) VALUES (1, %d, %d)`, n, n),
			`INSERT INTO folder (id, user, name, path, seq) VALUES (1, 1, '', '', 0)`,
			`INSERT INTO folder (user, parent, name, path, seq) SELECT 1, 1, value, value, 1 FROM json_each('["DCIM", "照片"]')`,
			fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
				INSERT INTO item (id, user, folder, name, ref, size, mtime, added, source, device, seq)
				SELECT i, 1, 1 + i %% 3, printf('IMG_%%08d 照片.jpg', i), zeroblob(32), 0, 1500000000123 + i, 1600000000000, 'album', 0, i FROM n`, n),
		} {
			if _, err := tx.Exec(q); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		return nil
	}))
	c, err := catalog.Open(t.Context(), d)
	must(err)
	var r *Room
	register := func() *rights.Register {
		return rights.New(d, c.Held(func(string) []string { return nil }), audit.Held(), r.Held())
	}
	r = New(Options{
		DB: d, Audit: audit.New(d), Catalog: c, Rights: register, Dir: filepath.Join(dir, "exports"), Version: "test",
		Open: func(context.Context, catalog.Item) (io.ReadSeekCloser, error) {
			return nothing{bytes.NewReader(nil)}, nil
		},
		Sign: func(string, []byte) (string, error) { return "a.b.c", nil },
		Box:  func() (Signer, error) { return Signer{}, nil },
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended; must(r.Close()) })
	return r
}

// exported makes an export and reads all of it; seen is called now and then.
func exported(t *testing.T, r *Room, seen func()) (bytes int64) {
	t.Helper()
	p := ident.Principal{User: 1}
	i, err := r.Begin(t.Context(), p, Choice{Versions: true, Trash: true})
	for err == nil && i.State == Preparing {
		seen()
		time.Sleep(50 * time.Millisecond)
		i, err = r.Info(t.Context(), p.User, i.ID)
	}
	if err != nil || i.State != Ready {
		t.Fatalf("%+v, %v", i, err)
	}
	a, _, err := r.Open(t.Context(), p, i.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	buf := make([]byte, 32<<10)
	for n := 0; ; n++ {
		got, err := a.Read(buf)
		bytes += int64(got)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n%20_000 == 0 {
			seen()
		}
	}
	if bytes != i.Size {
		t.Fatalf("%d bytes of %d", bytes, i.Size)
	}
	return bytes
}

// R26: the memory of an export does not grow with the library.
func TestMemoryDoesNotGrowWithTheLibrary(t *testing.T) {
	const n = 100_000
	r := library(t, n)
	var base, most uint64
	look := func(at *uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		*at = max(*at, m.HeapAlloc)
	}
	look(&base)
	size := exported(t, r, func() { look(&most) })
	t.Logf("%d items: an archive of %d MB, %d kB of memory more", n, size>>20, int64(most-base)>>10)
	// Some megabytes are garbage that was made since it was last collected; 200 bytes kept
	// for each item would be 20 more.
	if most > base+12<<20 {
		t.Errorf("%d items need %d kB", n, (most-base)>>10)
	}
}

// A hole is as long as the file that it stands for, whatever that is called.
func TestHolesAreAsLongAsFiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	letters := []rune("aZ0 ._-照é😀\\'\"")
	for range 3000 {
		parts := make([]string, 1+rng.IntN(12))
		for i := range parts {
			name := make([]rune, 1+rng.IntN(60))
			for j := range name {
				name[j] = letters[rng.IntN(len(letters))]
			}
			parts[i] = string(name)
		}
		l := Line{Kind: "file", Path: strings.Join(parts, "/"), Size: rng.Int64N(1 << 40), MTime: stamp(time.UnixMilli(rng.Int64N(1 << 42)))}
		l.Entry = []string{filesDir, trashDir, olderDir}[rng.IntN(3)] + l.Path
		file, err := l.header(false)
		if err != nil {
			t.Fatal(err)
		}
		hole, err := l.header(true)
		if err != nil || len(file) != len(hole) || bytes.Equal(file, hole) {
			t.Fatalf("%q: %d and %d bytes, %v", l.Entry, len(file), len(hole), err)
		}
	}
}

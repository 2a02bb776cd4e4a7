package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"yunbox.local/daemon/consent"
)

// BenchmarkSmallFiles takes files of 20 to 200 kB in, every one acknowledged
// durable, with 1, 8 and 32 clients at a time, beside a floor: a program that
// only receives, hashes, writes, syncs and commits one row per file. What counts
// is the ratio in one run on one disk.
//
//	go test -bench SmallFiles -benchtime 2000x ./daemon/ingest
func BenchmarkSmallFiles(b *testing.B) {
	for _, clients := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("floor/%d", clients), func(b *testing.B) { floor(b, clients) })
		b.Run(fmt.Sprintf("yunbox/%d", clients), func(b *testing.B) { yunbox(b, clients) })
	}
}

// small returns the i-th file: its own content, 110 kB on average.
func small(i int64, buf []byte) []byte {
	size := 20_000 + int(i*7919%180_000)
	rng := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
	data := buf[:size]
	copy(data, buf[len(buf)-size:])
	rng.Read(data[:64])
	return data
}

func buffer() []byte {
	buf := make([]byte, 400_000)
	rand.NewChaCha8([32]byte{1}).Read(buf)
	return buf
}

func parallel(b *testing.B, clients int, put func(i int64, data []byte) error) {
	var next atomic.Int64
	var workers sync.WaitGroup
	b.ResetTimer()
	for range clients {
		workers.Go(func() {
			buf := buffer()
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if err := put(i, small(i, buf)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

func yunbox(b *testing.B, clients int) {
	x := start(b, settings{dir: b.TempDir(), disk: realDisk(b)})
	g := x.grant(ann, consent.AlbumBackup)
	parallel(b, clients, func(i int64, data []byte) error {
		_, err := x.send(g, album(fmt.Sprintf("DCIM/%d/%d.jpg", i%100, i), len(data)), bytes.NewReader(data))
		return err
	})
}

func floor(b *testing.B, clients int) {
	dir := b.TempDir()
	d, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "floor.db")+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	must(b, err)
	defer d.Close()
	d.SetMaxOpenConns(1)
	_, err = d.Exec(`CREATE TABLE f (path TEXT PRIMARY KEY, sha256 BLOB, sha1 BLOB, size INTEGER)`)
	must(b, err)
	parallel(b, clients, func(i int64, data []byte) error {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		defer f.Close()
		h2, h1 := sha256.New(), sha1.New()
		if _, err := io.Copy(io.MultiWriter(f, h2, h1), bytes.NewReader(data)); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		_, err = d.ExecContext(context.Background(), `INSERT INTO f VALUES (?, ?, ?, ?)`, f.Name(), h2.Sum(nil), h1.Sum(nil), len(data))
		return err
	})
}

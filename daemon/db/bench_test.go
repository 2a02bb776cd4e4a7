package db

import (
	"path/filepath"
	"syscall"
	"testing"
)

// What the journal adds to a transaction of ten statements, about those of a small
// upload. TMPDIR=/dev/shm leaves the disk out.
func BenchmarkWrite(b *testing.B) {
	for name, journal := range map[string]string{"plain": "", "journalled": "journal"} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			opt := Options{Path: filepath.Join(dir, "box.db")}
			if journal != "" {
				opt.Journal = filepath.Join(dir, journal)
			}
			d, err := Open(b.Context(), opt)
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			ref := make([]byte, 32)
			n, begin := 0, cpuTime(b)
			for b.Loop() {
				if err := d.Write(b.Context(), func(tx *Tx) error {
					for range 10 {
						n++
						ref[0], ref[1], ref[2] = byte(n), byte(n>>8), byte(n>>16)
						if _, err := tx.Exec("INSERT INTO blob (ref, sha1, size, added, dead, doubted, verified) VALUES (?, ?, ?, ?, NULL, NULL, ?) ON CONFLICT DO NOTHING",
							ref, ref[:20], n, n, n); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has used of the processors, in nanoseconds: on a
// busy machine it says more than the time that passed.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// Package floor is the least that a server of durable uploads can do: receive a
// file over TLS, hash it with SHA-256, write it, fdatasync it, rename it to its
// hash, sync the directory, commit one SQLite row with synchronous=FULL, and only
// then answer; every file on its own, no batches, no accounts, no checks. Its
// speed is what the box is measured against (scripts/bench), and with a fault
// built in it is what the power-cut test must catch (scripts/powercut --self-test).
package floor

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"
)

// Fault is a step that a careless server forgets.
type Fault string

// The faults. Two of the servers keep no rows but files under the client's names,
// since a commit of SQLite on the same ext4 happens to sync directories too.
const (
	NoFault   Fault = "none"
	NoRows    Fault = "norows" // no fault: a file under the client's name instead of a row
	NameFault Fault = "name"   // the same, but the directory is not synced
	DataFault Fault = "data"   // the file's data is not synced
	RowFault  Fault = "row"    // the row is committed with synchronous=NORMAL
)

// Faults lists what a server can be made to forget, and the two that forget nothing.
func Faults() []Fault { return []Fault{NoFault, NoRows, NameFault, DataFault, RowFault} }

// Forgets tells whether the server loses acknowledged files in a power cut.
func (f Fault) Forgets() bool { return f != NoFault && f != NoRows }

// rows tells whether the server keeps a row per file.
func (f Fault) rows() bool { return f != NoRows && f != NameFault }

type server struct {
	dir      string
	fault    Fault
	pipeline bool
	db       *sql.DB
	staged   atomic.Int64
	buffers  sync.Pool
}

// Main runs the server until SIGTERM. It prints "READY host:port" once it answers.
func Main(args []string) error {
	flags := flag.NewFlagSet("floor", flag.ContinueOnError)
	dir := flags.String("dir", "", "everything is kept below this `directory`")
	addr := flags.String("addr", "127.0.0.1:0", "listen on `host:port`")
	cert := flags.String("cert", "", "PEM `file` of the TLS certificate")
	key := flags.String("key", "", "PEM `file` of its key")
	fault := flags.String("fault", string(NoFault), "what to forget: none, norows, name, data, row")
	pipeline := flags.Bool("pipeline", false, "hash beside writing and start writing back early: a floor for large files")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := &server{dir: *dir, fault: Fault(*fault), pipeline: *pipeline}
	s.buffers.New = func() any { b := make([]byte, 256<<10); return &b }
	if err := s.open(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	web.Protocols = new(http.Protocols)
	web.Protocols.SetHTTP1(true)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = web.Shutdown(context.Background())
	}()
	fmt.Println("READY", ln.Addr())
	if err := web.ServeTLS(ln, *cert, *key); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return s.db.Close()
}

func (s *server) open() error {
	dirs := []string{"staging", "names", "blobs"}
	for i := range 256 {
		dirs = append(dirs, fmt.Sprintf("blobs/%02x", i))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"blobs", "."} {
		if err := s.syncDir(d); err != nil {
			return err
		}
	}
	level := "FULL"
	if s.fault == RowFault {
		level = "NORMAL"
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.dir, "floor.db")+"?_journal_mode=WAL&_synchronous="+level+"&_stmt_cache_size=8")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	s.db = db
	if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS file(path TEXT PRIMARY KEY, sha256 BLOB NOT NULL, size INTEGER NOT NULL, added INTEGER NOT NULL) STRICT`); err != nil {
		return err
	}
	return s.syncDir(".")
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	switch r.Method {
	case http.MethodPut:
		sum, err := s.put(name, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"sha256":"%s"}`, sum)
	case http.MethodGet:
		if !s.fault.rows() {
			http.ServeFile(w, r, filepath.Join(s.dir, plainName(name)))
			return
		}
		var sum []byte
		if err := s.db.QueryRow(`SELECT sha256 FROM file WHERE path=?`, name).Scan(&sum); err != nil {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, filepath.Join(s.dir, blobName(hex.EncodeToString(sum))))
	default:
		http.Error(w, "PUT or GET", http.StatusMethodNotAllowed)
	}
}

func blobName(sum string) string { return filepath.Join("blobs", sum[:2], sum) }

func plainName(name string) string { return filepath.Join("names", hex.EncodeToString([]byte(name))) }

func (s *server) put(name string, body io.Reader) (string, error) {
	staged := filepath.Join(s.dir, "staging", fmt.Sprint(os.Getpid(), "-", s.staged.Add(1)))
	f, err := os.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o440)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	var size int64
	if s.pipeline {
		size, err = s.receivePipelined(f, h, body)
	} else {
		buf := s.buffers.Get().(*[]byte)
		size, err = io.CopyBuffer(io.MultiWriter(onlyWriter{f}, h), onlyReader{body}, *buf)
		s.buffers.Put(buf)
	}
	if err == nil && s.fault != DataFault {
		err = unix.Fdatasync(int(f.Fd()))
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(staged))
	}
	sum := h.Sum(nil)
	blob := blobName(hex.EncodeToString(sum))
	if !s.fault.rows() {
		blob = plainName(name)
	}
	if err := os.Rename(staged, filepath.Join(s.dir, blob)); err != nil {
		return "", err
	}
	if s.fault != NameFault {
		if err := s.syncDir(filepath.Dir(blob)); err != nil {
			return "", err
		}
	}
	if !s.fault.rows() {
		return hex.EncodeToString(sum), nil
	}
	_, err = s.db.Exec(`INSERT INTO file VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET sha256=excluded.sha256, size=excluded.size, added=excluded.added`,
		name, sum, size, time.Now().UnixMilli())
	return hex.EncodeToString(sum), err
}

// receivePipelined hashes one buffer while the next is read and written, and asks
// the kernel to write back as it goes, so that little is left for the final sync.
func (s *server) receivePipelined(f *os.File, h hash.Hash, body io.Reader) (size int64, err error) {
	const buffers, length, window = 4, 1 << 20, 16 << 20
	free, full, done := make(chan []byte, buffers), make(chan []byte, buffers), make(chan struct{})
	for range buffers {
		free <- make([]byte, length)
	}
	go func() {
		defer close(done)
		for b := range full {
			_, _ = h.Write(b) // a hash never fails
			free <- b[:cap(b)]
		}
	}()
	defer func() { close(full); <-done }()
	for started := int64(0); ; {
		b := <-free
		n, readErr := fill(b, body)
		if _, err := f.Write(b[:n]); err != nil {
			return size, err
		}
		size += int64(n)
		full <- b[:n]
		if size-started >= window && s.fault != DataFault {
			_ = unix.SyncFileRange(int(f.Fd()), started, size-started, unix.SYNC_FILE_RANGE_WRITE) // a hint
			started = size
		}
		if readErr == io.EOF {
			return size, nil
		}
		if readErr != nil {
			return size, readErr
		}
	}
}

// fill is io.ReadFull, but tells a whole body (io.EOF) from one that broke off.
func fill(b []byte, r io.Reader) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

func (s *server) syncDir(name string) error {
	d, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// These hide ReaderFrom and WriterTo, so that io.CopyBuffer uses the pooled buffer.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }

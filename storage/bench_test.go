package storage_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

// BenchmarkLarge receives one large content over TLS. "floor" only receives,
// hashes, writes and syncs; "store" is the whole way to a durable blob.
func BenchmarkLarge(b *testing.B) {
	const size = 1 << 30
	dir := b.TempDir()
	run := func(name string, receive func(r io.Reader) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := receive(overTLS(b, size)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("floor", func(r io.Reader) error {
		name := filepath.Join(dir, "floor")
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.CopyBuffer(io.MultiWriter(f, h), r, make([]byte, 256<<10))
		return errors.Join(err, f.Sync(), f.Close(), os.Remove(name))
	})
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer fsys.Close()
	s, err := storage.Open(b.Context(), fsys, storage.Options{})
	if err != nil {
		b.Fatal(err)
	}
	run("store", func(r io.Reader) error {
		u, err := s.Begin(b.Context(), size)
		if err != nil {
			return err
		}
		if _, err := u.Write(b.Context(), 0, r); err != nil {
			return err
		}
		sealed, err := u.Seal(b.Context())
		if err != nil {
			return err
		}
		batch := []storage.Sealed{sealed}
		err = s.Commit(b.Context(), batch)[0]
		s.Release(batch)
		return errors.Join(err, fsys.Remove(pathOf(sealed.Ref)))
	})
}

// overTLS returns the receiving end of a TLS connection through which size bytes
// come.
func overTLS(b *testing.B, size int64) io.Reader {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a benchmark
		if err != nil {
			return
		}
		defer c.Close()
		chunk := make([]byte, 1<<20)
		_, _ = rand.Read(chunk)
		for sent := int64(0); sent < size; sent += int64(len(chunk)) {
			if _, err := c.Write(chunk[:min(int64(len(chunk)), size-sent)]); err != nil {
				return
			}
		}
	}()
	conn, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}})
	return io.LimitReader(server, size)
}

// BenchmarkSmall stores contents of 100 kB one after the other, each durable
// before the next begins.
func BenchmarkSmall(b *testing.B) {
	const size = 100_000
	dir := b.TempDir()
	data := random(size)
	n := 0
	fresh := func() []byte { // never the same content twice
		n++
		copy(data, strconv.Itoa(n))
		return data
	}
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			data := fresh()
			sha256.Sum256(data)
			f, err := os.Create(filepath.Join(dir, strconv.Itoa(n)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
	fsys, err := vfs.OpenDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer fsys.Close()
	s, err := storage.Open(b.Context(), fsys, storage.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := put(b.Context(), s, fresh()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

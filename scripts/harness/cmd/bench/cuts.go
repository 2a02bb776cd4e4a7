package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// cuts sends a film of 25 MB by each gateway that can go on with an upload, loses
// the connection at 9 MB, and tells what is sent twice.
func (b *bench) cuts(ctx context.Context) (err error) {
	dir, clear, err := b.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clear()) }()
	server, err := b.startAll(ctx, dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	camera, err := server.AddCamera(ctx, "owner", "cut")
	if err != nil {
		return err
	}
	const size, cut, chunk = 25_000_000, 9_000_000, 5_000_000
	film := make([]byte, size)
	source := func(from, to int64) io.Reader { return bytes.NewReader(film[from:to]) }
	fmt.Fprintf(b.out, "\n### One cut at %.0f MB of a film of %.0f MB\n\n| gateway | sent again |\n|--- |--: |\n", cut/1e6, size/1e6)
	for _, way := range []struct {
		name string
		send func(want string) (again int64, err error)
	}{
		{"tus", func(want string) (int64, error) { return server.CutTus(ctx, "tus.mp4", size, cut, source, want) }},
		{"IETF", func(want string) (int64, error) {
			return server.CutResumable(ctx, "ietf.mp4", size, cut, source, want)
		}},
		{fmt.Sprintf("Nextcloud, chunks of %.0f MB", chunk/1e6), func(want string) (int64, error) {
			return server.CutChunks(ctx, "nextcloud.mp4", "owner", size, cut, chunk, source, want)
		}},
		{"FTP", func(want string) (int64, error) {
			return server.CutFTP(ctx, camera, false, camera.Folder+"ftp.mp4", size, cut, source, want)
		}},
		{"FTPS", func(want string) (int64, error) {
			return server.CutFTP(ctx, camera, true, camera.Folder+"ftps.mp4", size, cut, source, want)
		}},
	} {
		b.seed++
		if _, err := io.ReadFull(newStream(b.seed), film); err != nil {
			return err
		}
		sum := sha256.Sum256(film)
		again, err := way.send(hex.EncodeToString(sum[:]))
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		fmt.Fprintf(b.out, "| %s | %d bytes |\n", way.name, again)
		b.report.Notes = append(b.report.Notes, fmt.Sprintf("One cut at 9 MB of 25 MB, %s: %d bytes sent again.", way.name, again))
	}
	return nil
}

// giant sends one very large file by each gateway that takes it in one request, from
// a sparse source, and watches the box's memory. It needs as much room below --work.
func (b *bench) giant(ctx context.Context) error {
	sparse := filepath.Join(b.work, "sparse")
	if err := errors.Join(os.WriteFile(sparse, nil, 0o600), os.Truncate(sparse, b.giantBytes)); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n### One file of %.0f GB in one request, from a sparse source\n\n| gateway | rate | before | VmHWM |\n|--- |--: |--: |--: |\n", float64(b.giantBytes)/1e9)
	at := folder(filepath.Join(b.work, "giant"))
	for _, way := range []struct {
		name string
		send func(ctx context.Context, server *box.Box, body io.Reader) error
	}{
		{"API", func(ctx context.Context, s *box.Box, body io.Reader) error {
			return s.Put(ctx, "giant.mp4", body, b.giantBytes, "")
		}},
		{"WebDAV", func(ctx context.Context, s *box.Box, body io.Reader) error {
			return s.SendDAV(ctx, "giant.mp4", b.giantBytes, body)
		}},
		{"tus", func(ctx context.Context, s *box.Box, body io.Reader) error {
			return s.SendTus(ctx, "giant.mp4", b.giantBytes, body)
		}},
		{"IETF", func(ctx context.Context, s *box.Box, body io.Reader) error {
			return s.SendResumable(ctx, "giant.mp4", b.giantBytes, body)
		}},
		{"FTPS", func(ctx context.Context, s *box.Box, body io.Reader) error {
			camera, err := s.AddCamera(ctx, "owner", "giant")
			if err != nil {
				return err
			}
			session, err := camera.Connect(ctx, true)
			if err != nil {
				return err
			}
			defer session.Close()
			return session.Put(ctx, camera.Folder+"giant.mp4", body)
		}},
	} {
		if slices.Contains(b.without, way.name) {
			continue
		}
		if err := b.giantBy(ctx, way.name, sparse, at, way.send); err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return os.Remove(sparse)
}

func (b *bench) giantBy(ctx context.Context, name, sparse string, at place, send func(context.Context, *box.Box, io.Reader) error) (err error) {
	dir, clear, err := at()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clear()) }()
	server, err := b.startAll(ctx, dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	before, err := server.Usage()
	if err != nil {
		return err
	}
	source, err := os.Open(sparse)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	began := time.Now()
	if err := send(ctx, server, io.NopCloser(source)); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := server.Usage()
	if err != nil {
		return err
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	fmt.Fprintf(b.out, "| %s | %.0f MB/s | %.1f MiB | %.1f MiB |\n", name, float64(b.giantBytes)/1e6/took.Seconds(), mib(before.RSS), mib(after.Peak))
	b.report.Notes = append(b.report.Notes, fmt.Sprintf("One file of %.0f GB by %s: %.1f MiB at most.", float64(b.giantBytes)/1e9, name, mib(after.Peak)))
	return nil
}

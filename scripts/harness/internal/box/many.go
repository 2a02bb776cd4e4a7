package box

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// A Sending is a file of PutMany.
type Sending struct {
	Path string // on the box
	File string // on this computer, unless Data is set
	Data []byte
	Size int64
	Sum  string // SHA-256, hex, announced
}

// PutMany sends files in one request, and calls kept with the place of each in files as
// soon as the box has acknowledged it with the announced hash. No file is held in
// memory.
func (b *Box) PutMany(ctx context.Context, files []Sending, kept func(n int)) error {
	body := &row{files: files}
	for _, f := range files {
		head, err := json.Marshal(map[string]any{"path": f.Path, "size": f.Size, "sha256": f.Sum, "source": "other"})
		if err != nil {
			return err
		}
		body.heads = append(body.heads, append(head, '\n'))
		body.left += int64(len(head)) + 1 + f.Size
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+"/v1/files", io.NopCloser(body))
	if err != nil {
		return err
	}
	req.ContentLength = body.left
	req.Header.Set("Authorization", "Bearer "+b.Token)
	req.Header.Set("Content-Type", "application/vnd.yunbox.files")
	res, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(res.Body, 2000))
		return &StatusError{req.Method, req.URL.Path, res.StatusCode, string(answer)}
	}
	left := len(files)
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var line struct {
			N       *int
			SHA256  string
			Problem json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		if line.N == nil || *line.N < 0 || *line.N >= len(files) || line.Problem != nil {
			return fmt.Errorf("many files: %s", lines.Bytes())
		}
		if err := sameHash(files[*line.N].Path, line.SHA256, files[*line.N].Sum); err != nil {
			return err
		}
		left--
		kept(*line.N)
	}
	if left > 0 {
		return fmt.Errorf("many files: %d of %d were not acknowledged", left, len(files))
	}
	return nil
}

// row is the body of PutMany.
type row struct {
	files []Sending
	heads [][]byte
	next  int
	left  int64
	now   io.Reader
	begun bool // now is not the line ahead
	file  *os.File
}

func (r *row) Read(p []byte) (int, error) {
	for {
		if r.now != nil {
			n, err := r.now.Read(p)
			if n > 0 || !errors.Is(err, io.EOF) {
				return n, err
			}
			if !r.begun {
				if err := r.open(r.files[r.next-1]); err != nil {
					return 0, err
				}
				continue
			}
			if r.now, r.begun = nil, false; r.file != nil {
				if err := r.file.Close(); err != nil {
					return 0, err
				}
			}
		}
		if r.next == len(r.files) {
			return 0, io.EOF
		}
		r.now = bytes.NewReader(r.heads[r.next])
		r.next++
	}
}

func (r *row) open(f Sending) (err error) {
	if r.begun, r.file, r.now = true, nil, bytes.NewReader(f.Data); f.Data == nil {
		r.file, err = os.Open(f.File)
		r.now = io.LimitReader(r.file, f.Size)
	}
	return err
}

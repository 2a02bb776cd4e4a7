package gatewaytest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

func TestMany(t *testing.T) { t.Parallel(); gatewaytest.Run(t, connectMany(1)) }

// many is a client of POST /v1/files, with one file in the row.
type many struct{ wire }

func connectMany(v version) gatewaytest.Connect {
	return func(t testing.TB, p *daemontest.Person) gatewaytest.Client { return many{connectWire(t, p, v)} }
}

// ahead is the line of a file.
func ahead(f gatewaytest.File, size string) string {
	path := `"`
	for _, b := range []byte(f.Path) { // as it is, also where it is no text
		switch {
		case b < ' ':
			path += fmt.Sprintf(`\u%04x`, b)
		case b == '"' || b == '\\':
			path += `\` + string(rune(b))
		default:
			path += string([]byte{b})
		}
	}
	path += `"`
	line := fmt.Sprintf(`{"path":%s,"size":%s,"mtime":"%d.%03d"`, path, size, gatewaytest.Sent.Unix(), gatewaytest.Sent.UnixMilli()%1000)
	if f.Source != "" {
		line += fmt.Sprintf(`,"source":%q`, f.Source)
	}
	if f.SHA256 != "" {
		line += fmt.Sprintf(`,"sha256":%q`, f.SHA256)
	}
	if f.Again {
		line += `,"again":true`
	}
	return line + "}\n"
}

// Put implements gatewaytest.Client.
func (c many) Put(ctx context.Context, f gatewaytest.File) (gatewaytest.Receipt, error) {
	content := f.Body(0)
	if f.Size < 0 { // the row says how long each file is
		all, err := io.ReadAll(content)
		if err != nil {
			return gatewaytest.Receipt{}, err
		}
		f.Size, content = int64(len(all)), bytes.NewReader(all)
	}
	body := row{io.MultiReader(strings.NewReader(ahead(f, fmt.Sprint(f.Size))), content), content}
	return c.post(ctx, body)
}

// A row closes the content that it ends with.
type row struct {
	io.Reader
	content io.Reader
}

func (r row) Close() error { return closer(r.content).Close() }

func (c many) post(ctx context.Context, body io.Reader) (gatewaytest.Receipt, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.person.Box().URL+"/v1/files", body)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	r.Header.Set("Content-Type", "application/vnd.yunbox.files")
	r.Header.Set("Expect", "100-continue")
	resp, err := c.do(r)
	if err != nil {
		return gatewaytest.Receipt{}, err
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
	if err != nil {
		return gatewaytest.Receipt{}, fmt.Errorf("no line came: %w", err)
	}
	var said struct {
		N              *int
		SHA256, Stored string
		Problem        map[string]any
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return gatewaytest.Receipt{}, err
	}
	if said.Problem == nil {
		if said.N == nil || *said.N != 0 {
			return gatewaytest.Receipt{}, fmt.Errorf("a receipt of no file that was sent: %s", line)
		}
		return gatewaytest.Receipt{SHA256: said.SHA256, Known: said.Stored == "known"}, nil
	}
	refusal := &gatewaytest.Refusal{Member: map[string]string{}}
	for k, v := range said.Problem {
		refusal.Member[k], _ = v.(string)
	}
	status, _ := said.Problem["status"].(float64)
	refusal.Status, refusal.Kind = int(status), strings.TrimPrefix(refusal.Member["type"], "urn:yunbox:problem:")
	if refusal.Member["hint"] != "" {
		refusal.Text = refusal.Member["title"] + ". " + refusal.Member["detail"] + " " + refusal.Member["hint"]
	}
	return gatewaytest.Receipt{}, refusal
}

// Resume implements gatewaytest.Client.
func (many) Resume(context.Context, gatewaytest.File) (gatewaytest.Receipt, error) {
	return gatewaytest.Receipt{}, errors.ErrUnsupported
}

// Cancel implements gatewaytest.Client.
func (many) Cancel(context.Context, string) error { return errors.ErrUnsupported }

// Announce implements gatewaytest.Client: a row that ends with what is said of the file.
func (c many) Announce(ctx context.Context, f gatewaytest.File, size string) error {
	_, err := c.post(ctx, strings.NewReader(ahead(f, size)))
	if r := (*gatewaytest.Refusal)(nil); errors.As(err, &r) && r.Kind == "canceled" {
		return nil // the box waited for the bytes
	}
	return err
}

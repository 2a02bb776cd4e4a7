// Package box starts a yunboxd on a state directory and speaks to it as its
// owner does, over HTTPS with the box's own certificate authority pinned: for the
// programs that test and measure the box from outside.
package box

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"yunbox.local/scripts/harness/internal/proc"
)

// Programs are the paths of the two programs under test.
type Programs struct {
	Yunboxd, Yunboxctl string
	Args               []string // more of yunboxd's
}

// Find takes the programs from a directory, as scripts build them there.
func Find(dir string) Programs {
	return Programs{Yunboxd: filepath.Join(dir, "yunboxd"), Yunboxctl: filepath.Join(dir, "yunboxctl")}
}

// Box is a running yunboxd. Its methods may be used by several goroutines once
// the owner is signed in.
type Box struct {
	*proc.Process
	State  string
	URL    string // https://127.0.0.1:PORT
	Token  string // of the owner: from Claim, or set by who kept it
	CAFile string

	client *http.Client
	local  *http.Client
}

// Start runs yunboxd on a state directory and waits until it answers. wrap, if
// any, is a command that runs it, such as strace.
func (p Programs) Start(ctx context.Context, state string, watch io.Writer, wrap ...string) (*Box, error) {
	command := append(append([]string{}, wrap...), p.Yunboxd, "--state", state, "--https", "127.0.0.1:0", "--mdns=off")
	command = append(command, p.Args...)
	process, err := proc.Start(watch, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	b := &Box{Process: process, State: state, CAFile: filepath.Join(state, "keys", "ca.crt")}
	socket := filepath.Join(state, "run", "yunboxd.sock")
	b.local = &http.Client{Timeout: 10 * time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // it takes a tenth of a second, but not where everything else runs, too
	defer cancel()
	if err := b.Await(ctx, func() error { return b.locate(ctx) }); err != nil {
		b.Kill()
		return nil, err
	}
	return b, nil
}

// Again runs yunboxd on the state and the address of a box that has ended, with some
// variables beside ours, and does not wait for an answer.
func (b *Box) Again(p Programs, env []string, wrap ...string) error {
	command := append(append([]string{"env"}, env...), wrap...)
	command = append(append(command, p.Yunboxd, "--state", b.State, "--mdns=off"), p.Args...)
	command = append(command, "--https", strings.TrimPrefix(b.URL, "https://"))
	process, err := proc.Start(nil, command[0], command[1:]...)
	if err != nil {
		return err
	}
	b.client.CloseIdleConnections()
	b.Process = process
	return nil
}

// locate learns the box's address from its socket and pins its authority.
func (b *Box) locate(ctx context.Context) error {
	var status struct{ Addresses []string }
	if err := b.do(ctx, b.local, http.MethodGet, "http://yunboxd/local/status", nil, &status); err != nil {
		return err
	}
	ca, err := os.ReadFile(b.CAFile)
	if err != nil {
		return err
	}
	port := ""
	for _, address := range status.Addresses {
		if u, err := url.Parse(address); err == nil && u.Scheme == "https" {
			port = u.Port()
		}
	}
	if port == "" {
		return fmt.Errorf("the box names no https address: %q", status.Addresses)
	}
	b.URL = "https://127.0.0.1:" + port
	b.client, err = PinnedClient(ca)
	return err
}

// PinnedClient is an HTTP/1.1 client with kept-alive connections that trusts one
// authority (PEM) and nothing else.
func PinnedClient(ca []byte) (*http.Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in the authority's file")
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		Protocols:           protocols,
		MaxIdleConnsPerHost: 64,
		WriteBufferSize:     64 << 10,
		DisableCompression:  true,
	}}, nil
}

// Client is the pinned client, for requests that are made by hand.
func (b *Box) Client() *http.Client { return b.client }

// StatusError is an answer other than 2xx.
type StatusError struct {
	Method, URL string
	Status      int
	Body        string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, e.Body)
}

// IsStatus tells whether err is an answer of that status.
func IsStatus(err error, status int) bool {
	var e *StatusError
	return errors.As(err, &e) && e.Status == status
}

func (b *Box) do(ctx context.Context, client *http.Client, method, address string, in, out any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return b.send(client, req, out)
}

// send adds the token, and decodes a JSON answer into out if that is not nil.
func (b *Box) send(client *http.Client, req *http.Request, out any) error {
	if b.Token != "" && client == b.client {
		req.Header.Set("Authorization", "Bearer "+b.Token)
	}
	_, answer, err := exchange(client, req)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// API calls a JSON route such as "/v1/me" as the owner; in and out may be nil.
func (b *Box) API(ctx context.Context, method, route string, in, out any) error {
	return b.do(ctx, b.client, method, b.URL+route, in, out)
}

// Local calls a route on the box's own socket, as root does.
func (b *Box) Local(ctx context.Context, method, route string, in, out any) error {
	return b.do(ctx, b.local, method, "http://yunboxd"+route, in, out)
}

// LocalText calls a route of the box's own socket that answers with more than one value.
func (b *Box) LocalText(ctx context.Context, method, route string) ([]byte, error) {
	return Exchange(ctx, b.local, method, "http://yunboxd"+route, nil)
}

// Claim binds the unbound box by the secret of its label, and accepts the policy,
// without which it takes no files.
func (b *Box) Claim(ctx context.Context, username, password string) error {
	var label struct {
		PairURI string `json:"pair_uri"`
	}
	if err := b.Local(ctx, http.MethodGet, "/local/label", nil, &label); err != nil {
		return err
	}
	uri, err := url.Parse(label.PairURI)
	if err != nil || uri.Query().Get("s") == "" {
		return errors.New("the label has no pairing secret: is the box bound already?")
	}
	var session struct{ Token string }
	bind := map[string]string{"secret": uri.Query().Get("s"), "username": username, "password": password}
	if err := b.API(ctx, http.MethodPost, "/v1/bind", bind, &session); err != nil {
		return err
	}
	b.Token = session.Token
	revision, err := b.PolicyRevision(ctx)
	if err != nil {
		return err
	}
	return b.API(ctx, http.MethodPut, "/v1/policy", map[string]any{"accepted": true, "revision": revision}, nil)
}

// PolicyRevision is the revision of the policy in force.
func (b *Box) PolicyRevision(ctx context.Context) (string, error) {
	var policy struct{ Revision string }
	err := b.API(ctx, http.MethodGet, "/v1/policy", nil, &policy)
	return policy.Revision, err
}

// FileURL is the address of the asker's file of that path.
func (b *Box) FileURL(path string) string {
	return b.URL + "/v1/files/" + (&url.URL{Path: path}).EscapedPath()
}

// Put sends one file in one request and returns when the box has acknowledged it,
// after comparing the hash in its answer with want ("" compares nothing).
func (b *Box) Put(ctx context.Context, path string, body io.Reader, size int64, want string) error {
	_, err := b.PutItem(ctx, "other", path, body, size, want)
	return err
}

// PutItem is Put from a source, which decides what must be consented to. It returns
// the item's id.
func (b *Box) PutItem(ctx context.Context, source, path string, body io.Reader, size int64, want string) (id string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, b.FileURL(path)+"?source="+source, body)
	if err != nil {
		return "", err
	}
	req.ContentLength = size
	var stored struct{ ID, SHA256 string }
	if err := b.send(b.client, req, &stored); err != nil {
		return "", err
	}
	return stored.ID, sameHash(path, stored.SHA256, want)
}

// As is the same box, asked with another token.
func (b *Box) As(token string) *Box {
	other := *b
	other.Token = token
	return &other
}

func sameHash(path, got, want string) error {
	if want != "" && got != want {
		return fmt.Errorf("%s: the box says it stored %s, sent was %s", path, got, want)
	}
	return nil
}

// PutResumable sends one file by tus 1.0 in two requests after the one that
// creates the upload.
func (b *Box) PutResumable(ctx context.Context, path string, body []byte, want string) error {
	b64 := base64.StdEncoding.EncodeToString
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+"/v1/uploads", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Tus-Resumable", "1.0.0")
	req.Header.Set("Upload-Length", fmt.Sprint(len(body)))
	req.Header.Set("Upload-Metadata", "path "+b64([]byte(path))+",source "+b64([]byte("other")))
	created, err := b.tus(req)
	if err != nil {
		return err
	}
	upload, err := req.URL.Parse(created.Get("Location"))
	if err != nil {
		return err
	}
	half := len(body) / 2
	var last http.Header
	for _, part := range [][2]int{{0, half}, {half, len(body)}} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPatch, upload.String(), bytes.NewReader(body[part[0]:part[1]]))
		if err != nil {
			return err
		}
		req.Header.Set("Tus-Resumable", "1.0.0")
		req.Header.Set("Upload-Offset", fmt.Sprint(part[0]))
		req.Header.Set("Content-Type", "application/offset+octet-stream")
		if last, err = b.tus(req); err != nil {
			return err
		}
	}
	return sameHash(path, last.Get("Yunbox-Sha256"), want)
}

// PostResumable sends one file in one request that could be gone on with (the
// IETF's resumable uploads, as iOS 26 speaks them).
func (b *Box) PostResumable(ctx context.Context, path string, body []byte, want string) error {
	query := url.Values{"path": {path}, "source": {"other"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+"/v1/uploads?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Upload-Draft-Interop-Version", "8")
	req.Header.Set("Upload-Complete", "?1")
	var stored struct{ SHA256 string }
	if err := b.send(b.client, req, &stored); err != nil {
		return err
	}
	return sameHash(path, stored.SHA256, want)
}

// PutDAV sends one file by WebDAV, and makes the folder for it if that is missing.
func (b *Box) PutDAV(ctx context.Context, path string, body []byte, want string) error {
	header, err := b.dav(ctx, http.MethodPut, path, body)
	if IsStatus(err, http.StatusConflict) {
		_, err = b.dav(ctx, "MKCOL", path[:strings.LastIndexByte(path, '/')], nil)
		if err == nil || IsStatus(err, http.StatusMethodNotAllowed) { // 405: it is there by now
			header, err = b.dav(ctx, http.MethodPut, path, body)
		}
	}
	if err != nil {
		return err
	}
	return sameHash(path, strings.Trim(header.Get("ETag"), `"`), want)
}

// PostAsset sends one file as the uploaders of photo servers do, in a form.
func (b *Box) PostAsset(ctx context.Context, path string, body []byte, want string) error {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("assetData", "photo.jpg")
	if err != nil {
		return err
	}
	if _, err := part.Write(body); err != nil {
		return err
	}
	if err := errors.Join(w.WriteField("fileSize", strconv.Itoa(len(body))), w.Close()); err != nil {
		return err
	}
	query := url.Values{"path": {path}, "source": {"other"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+"/api/assets?"+query.Encode(), &form)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("X-Api-Key", b.Token)
	header, _, err := exchange(b.client, req)
	if err != nil {
		return err
	}
	return sameHash(path, header.Get("Yunbox-Sha256"), want)
}

// RemoveDAV deletes a file by WebDAV.
func (b *Box) RemoveDAV(ctx context.Context, path string) error {
	_, err := b.dav(ctx, http.MethodDelete, path, nil)
	return err
}

// RemoveNextcloud deletes a file as Nextcloud's clients do.
func (b *Box) RemoveNextcloud(ctx context.Context, path string) error {
	address := b.URL + "/remote.php/dav/files/owner/" + (&url.URL{Path: path}).EscapedPath()
	return b.do(ctx, b.client, http.MethodDelete, address, nil, nil)
}

func (b *Box) dav(ctx context.Context, method, path string, body []byte) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.URL+"/dav/"+(&url.URL{Path: path}).EscapedPath(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.Token)
	req.Header.Set("Yunbox-Source", "other")
	header, _, err := exchange(b.client, req)
	return header, err
}

// PutChunks sends one file in three chunks, as Nextcloud's clients do. What an earlier
// try left of it is removed.
func (b *Box) PutChunks(ctx context.Context, path string, body []byte, want string) error {
	folder := path[:strings.LastIndexByte(path, '/')]
	if _, err := b.dav(ctx, "MKCOL", folder, nil); err != nil && !IsStatus(err, http.StatusMethodNotAllowed) {
		return err
	}
	ask := func(method, name string, body []byte) (http.Header, error) {
		req, err := http.NewRequestWithContext(ctx, method, b.URL+"/remote.php/dav/uploads/owner/"+url.PathEscape(path[len(folder)+1:])+name, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+b.Token)
		req.Header.Set("Yunbox-Source", "other")
		req.Header.Set("Destination", b.URL+"/remote.php/dav/files/owner/"+(&url.URL{Path: path}).EscapedPath())
		header, _, err := exchange(b.client, req)
		return header, err
	}
	_, err := ask("MKCOL", "", nil)
	if IsStatus(err, http.StatusMethodNotAllowed) {
		if _, err = ask(http.MethodDelete, "", nil); err == nil {
			_, err = ask("MKCOL", "", nil)
		}
	}
	for n, third := 1, (len(body)+2)/3; err == nil && n <= 3; n++ {
		_, err = ask(http.MethodPut, fmt.Sprintf("/%05d", n), body[min((n-1)*third, len(body)):min(n*third, len(body))])
	}
	if err != nil {
		return err
	}
	header, err := ask("MOVE", "/.file", nil)
	if err != nil {
		return err
	}
	return sameHash(path, strings.Trim(header.Get("ETag"), `"`), want)
}

func (b *Box) tus(req *http.Request) (http.Header, error) {
	req.Header.Set("Authorization", "Bearer "+b.Token)
	header, _, err := exchange(b.client, req)
	return header, err
}

// Exchange makes one request with a whole body (nil: none) and gives the whole
// answer; other than 2xx it is a *StatusError.
func Exchange(ctx context.Context, client *http.Client, method, address string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	_, answer, err := exchange(client, req)
	return answer, err
}

func exchange(client *http.Client, req *http.Request) (http.Header, []byte, error) {
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, nil, &StatusError{req.Method, req.URL.Path, res.StatusCode, strings.TrimSpace(string(answer[:min(len(answer), 2000)]))}
	}
	return res.Header, answer, nil
}

// Hash reads a file back and returns the SHA-256 of what came.
func (b *Box) Hash(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.FileURL(path), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+b.Token)
	res, err := b.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, res.Body); err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", &StatusError{Method: req.Method, URL: req.URL.Path, Status: res.StatusCode}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

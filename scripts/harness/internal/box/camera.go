package box

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Camera leaves files on the box by FTP: a box that was started with --ftp, and for
// what comes in the clear --ftp-plain=on.
type Camera struct {
	Folder string // of its files, with a slash at the end

	address, user, password string
	tls                     *tls.Config
}

// AddCamera makes a camera of the signed-in person, whose name on the box is user,
// and consents to it.
func (b *Box) AddCamera(ctx context.Context, user, name string) (*Camera, error) {
	revision, err := b.PolicyRevision(ctx)
	if err != nil {
		return nil, err
	}
	grant := map[string]any{"granted": true, "policy_revision": revision}
	if err := b.API(ctx, http.MethodPut, "/v1/consents/camera_transfer", grant, nil); err != nil {
		return nil, err
	}
	var made struct {
		Token string
		Port  int `json:"ftp_port"`
	}
	if err := b.API(ctx, http.MethodPost, "/v1/tokens", map[string]string{"name": name, "scope": "camera"}, &made); err != nil {
		return nil, err
	}
	u, err := url.Parse(b.URL)
	if err != nil {
		return nil, err
	}
	if made.Port == 0 {
		return nil, errors.New("the box's camera gateway is off")
	}
	ca, err := os.ReadFile(b.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in the authority's file")
	}
	return &Camera{Folder: "Camera/" + name + "/", address: net.JoinHostPort(u.Hostname(), fmt.Sprint(made.Port)), user: user, password: made.Token,
		tls: &tls.Config{RootCAs: pool, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}}, nil
}

// Put sends a file, whose path must lie in Folder, on connections of its own in the
// clear, and returns when the box has acknowledged it. FTP tells no hash.
func (c *Camera) Put(ctx context.Context, path string, content []byte, _ string) error {
	s, err := c.Connect(ctx, false)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Put(ctx, path, bytes.NewReader(content))
}

// A CameraSession is a signed-in camera, for one goroutine.
type CameraSession struct {
	camera *Camera
	conn   net.Conn
	ftp    *textproto.Conn
	secure bool
}

// Connect signs in, with TLS on both connections if secure.
func (c *Camera) Connect(ctx context.Context, secure bool) (_ *CameraSession, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	s := &CameraSession{camera: c, conn: conn, ftp: textproto.NewConn(conn), secure: secure}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	defer context.AfterFunc(ctx, s.Close)()
	if _, err := s.say(220, ""); err != nil {
		return nil, err
	}
	if secure {
		if _, err := s.say(234, "AUTH TLS"); err != nil {
			return nil, err
		}
		s.ftp = textproto.NewConn(tls.Client(conn, c.tls))
		for _, command := range []string{"PBSZ 0", "PROT P"} {
			if _, err := s.say(200, command); err != nil {
				return nil, err
			}
		}
	}
	for _, step := range []struct {
		code    int
		command string
	}{{331, "USER " + c.user}, {230, "PASS " + c.password}, {200, "TYPE I"}} {
		if _, err := s.say(step.code, step.command); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends the session without a word, as a camera does that is switched off.
func (s *CameraSession) Close() { _ = s.conn.Close() }

// say sends a command ("": none) whose answer must have that code.
func (s *CameraSession) say(code int, command string) (text string, err error) {
	if err := s.conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return "", err
	}
	if command != "" {
		if err := s.ftp.PrintfLine("%s", command); err != nil {
			return "", err
		}
	}
	_, text, err = s.ftp.ReadResponse(code)
	return text, err
}

// Put sends a file, whose path must lie in the camera's folder, and returns when the
// box has acknowledged it.
func (s *CameraSession) Put(ctx context.Context, path string, content io.Reader) error {
	defer context.AfterFunc(ctx, s.Close)()
	data, err := s.Begin(ctx, path, 0)
	if err != nil {
		return err
	}
	defer data.Close()
	if _, err := io.Copy(data, content); err != nil {
		return err
	}
	if err := data.Close(); err != nil {
		return err
	}
	return s.End()
}

// Begin opens the data connection on which a file is to be sent from an offset on.
func (s *CameraSession) Begin(ctx context.Context, path string, at int64) (net.Conn, error) {
	passive, err := s.say(229, "EPSV")
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(s.camera.address)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(passive, "|")
	if len(parts) != 5 {
		return nil, fmt.Errorf("EPSV is answered %q", passive)
	}
	data, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, parts[3]))
	if err != nil {
		return nil, err
	}
	if at > 0 {
		_, err = s.say(350, fmt.Sprint("REST ", at))
	}
	if err == nil {
		_, err = s.say(150, "STOR /"+strings.TrimPrefix(path, s.camera.Folder))
	}
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	if s.secure {
		return tls.Client(data, s.camera.tls), nil
	}
	return data, nil
}

// End reads the answer to what was sent on a data connection, which is closed.
func (s *CameraSession) End() error {
	_, err := s.say(226, "")
	return err
}

// Size is where the box says that an upload stands.
func (s *CameraSession) Size(path string) (int64, error) {
	text, err := s.say(213, "SIZE /"+strings.TrimPrefix(path, s.camera.Folder))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

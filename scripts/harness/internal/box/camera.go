package box

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// Camera leaves files on the box by FTP, in the clear: a box that was started with
// --ftp and --ftp-plain=on.
type Camera struct {
	Folder string // of its files, with a slash at the end

	address, user, password string
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
	return &Camera{Folder: "Camera/" + name + "/", address: net.JoinHostPort(u.Hostname(), fmt.Sprint(made.Port)), user: user, password: made.Token}, nil
}

// Put sends a file, whose path must lie in Folder, and returns when the box has
// acknowledged it. FTP tells no hash.
func (c *Camera) Put(ctx context.Context, path string, content []byte, _ string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	ftp := textproto.NewConn(conn)
	say := func(code int, command string) (text string, err error) {
		if command != "" {
			if err := ftp.PrintfLine("%s", command); err != nil {
				return "", err
			}
		}
		_, text, err = ftp.ReadResponse(code)
		return text, err
	}
	if _, err := say(220, ""); err != nil {
		return err
	}
	for _, step := range []struct {
		code    int
		command string
	}{{331, "USER " + c.user}, {230, "PASS " + c.password}, {200, "TYPE I"}} {
		if _, err := say(step.code, step.command); err != nil {
			return err
		}
	}
	passive, err := say(229, "EPSV")
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		return err
	}
	parts := strings.Split(passive, "|")
	if len(parts) != 5 {
		return fmt.Errorf("EPSV is answered %q", passive)
	}
	data, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, parts[3]))
	if err != nil {
		return err
	}
	defer data.Close()
	if _, err := say(150, "STOR /"+strings.TrimPrefix(path, c.Folder)); err != nil {
		return err
	}
	if _, err := data.Write(content); err != nil {
		return err
	}
	if err := data.Close(); err != nil {
		return err
	}
	_, err = say(226, "")
	return err
}

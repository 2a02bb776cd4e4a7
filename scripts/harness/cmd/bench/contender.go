package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/proc"
)

// A contender is a server that takes uploads.
type contender struct {
	name string
	how  string // how it is spoken to
	// start runs it with all of its data below dir. wrap is a command to run it by.
	start func(ctx context.Context, dir string, wrap []string) (*running, error)
}

// running is a started contender. One of send, many and folder is set.
type running struct {
	*proc.Process
	// send uploads one file; nil when it was answered as stored.
	send func(ctx context.Context, f file, body io.Reader) error
	// many uploads all files in requests with many of them.
	many func(ctx context.Context, lanes [][]file) error
	// folder uploads a folder with a client program that is not ours.
	folder func(ctx context.Context, dir string) error
}

// race makes the contenders: all HTTP ones have the same certificate and client.
type race struct {
	programs  box.Programs
	tusd      string
	cert, key string
	ca        []byte
}

func (r *race) client() *http.Client {
	client, err := box.PinnedClient(r.ca)
	if err != nil {
		panic(err) // we made the certificate ourselves
	}
	return client
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

// launch starts a server on a free port and waits until that port answers.
func launch(ctx context.Context, wrap []string, command func(port int) []string) (*running, int, error) {
	port, err := freePort()
	if err != nil {
		return nil, 0, err
	}
	line := append(append([]string{}, wrap...), command(port)...)
	p, err := proc.Start(nil, line[0], line[1:]...)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = p.Await(ctx, func() error {
		conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		p.Kill()
		return nil, 0, err
	}
	return &running{Process: p}, port, nil
}

// request sends a body and wants a 2xx.
func request(ctx context.Context, client *http.Client, method, url string, f file, body io.Reader, header map[string]string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.ContentLength = f.size
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return &box.StatusError{Method: method, URL: url, Status: res.StatusCode, Body: string(bytes.TrimSpace(answer))}
	}
	return nil
}

func makeDirs(dir string, names ...string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	return errors.Join(errs...)
}

func (r *race) box() contender {
	return contender{name: "yunbox", how: "HTTPS PUT", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		b, err := r.startBox(ctx, dir, wrap)
		if err != nil {
			return nil, err
		}
		return &running{Process: b.Process, send: func(ctx context.Context, f file, body io.Reader) error {
			return b.Put(ctx, f.name, body, f.size, f.sum)
		}}, nil
	}}
}

// boxMany sends many files in one request, in as many requests at a time as are said.
func (r *race) boxMany(streams int) contender {
	name, how := "yunbox, many in a request", fmt.Sprintf("HTTPS POST, %d at a time", streams)
	return contender{name: name, how: how, start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		b, err := r.startBox(ctx, dir, wrap)
		if err != nil {
			return nil, err
		}
		return &running{Process: b.Process, many: func(ctx context.Context, lanes [][]file) error {
			rows := make([][]box.Sending, min(streams, len(lanes)))
			for i, lane := range lanes {
				for _, f := range lane {
					row := &rows[i%len(rows)]
					*row = append(*row, box.Sending{Path: f.name, File: f.path, Size: f.size, Sum: f.sum})
				}
			}
			errs := make([]error, len(rows))
			var wait sync.WaitGroup
			for i, row := range rows {
				wait.Go(func() { errs[i] = b.PutMany(ctx, row, func(int) {}) })
			}
			wait.Wait()
			return errors.Join(errs...)
		}}, nil
	}}
}

func (r *race) startBox(ctx context.Context, dir string, wrap []string) (*box.Box, error) {
	b, err := r.programs.Start(ctx, filepath.Join(dir, "state"), nil, wrap...)
	if err != nil {
		return nil, err
	}
	if err := b.Claim(ctx, "owner", "correct horse battery"); err != nil {
		b.Kill()
		return nil, err
	}
	return b, nil
}

func (r *race) floor(name string, extra ...string) contender {
	return contender{name: name, how: "HTTPS PUT", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		s, port, err := launch(ctx, wrap, func(port int) []string {
			return append([]string{self, "floor", "--dir", dir, "--cert", r.cert, "--key", r.key, "--addr", fmt.Sprint("127.0.0.1:", port)}, extra...)
		})
		if err != nil {
			return nil, err
		}
		client := r.client()
		s.send = func(ctx context.Context, f file, body io.Reader) error {
			return request(ctx, client, http.MethodPut, fmt.Sprintf("https://127.0.0.1:%d/%s", port, f.name), f, body, nil)
		}
		return s, nil
	}}
}

func (r *race) rcloneWebDAV() contender {
	return contender{name: "rclone webdav", how: "HTTPS PUT", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		if err := makeDirs(dir, "data"); err != nil {
			return nil, err
		}
		s, port, err := launch(ctx, wrap, func(port int) []string {
			return []string{"rclone", "serve", "webdav", filepath.Join(dir, "data"), "--config", "/dev/null", "--cert", r.cert, "--key", r.key, "--addr", fmt.Sprint("127.0.0.1:", port)}
		})
		if err != nil {
			return nil, err
		}
		client := r.client()
		s.send = func(ctx context.Context, f file, body io.Reader) error {
			return request(ctx, client, http.MethodPut, fmt.Sprintf("https://127.0.0.1:%d/%s", port, f.name), f, body, nil)
		}
		return s, nil
	}}
}

// rcloneRestic is the REST server of restic's repositories.
func (r *race) rcloneRestic() contender {
	return contender{name: "rclone restic", how: "HTTPS POST", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		s, url, err := r.startRestic(ctx, dir, wrap)
		if err != nil {
			return nil, err
		}
		client := r.client()
		if err := request(ctx, client, http.MethodPost, url+"?create=true", file{}, nil, nil); err != nil {
			s.Kill()
			return nil, err
		}
		s.send = func(ctx context.Context, f file, body io.Reader) error {
			return request(ctx, client, http.MethodPost, url+"data/"+f.sum, f, body, nil)
		}
		return s, nil
	}}
}

func (r *race) startRestic(ctx context.Context, dir string, wrap []string) (*running, string, error) {
	if err := makeDirs(dir, "data"); err != nil {
		return nil, "", err
	}
	s, port, err := launch(ctx, wrap, func(port int) []string {
		return []string{"rclone", "serve", "restic", filepath.Join(dir, "data"), "--config", "/dev/null", "--cert", r.cert, "--key", r.key, "--addr", fmt.Sprint("127.0.0.1:", port)}
	})
	return s, fmt.Sprintf("https://127.0.0.1:%d/", port), err
}

func (r *race) nginx() contender {
	return contender{name: "nginx DAV", how: "HTTPS PUT", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		if err := makeDirs(dir, "data", "tmp"); err != nil {
			return nil, err
		}
		var confErr error
		s, port, err := launch(ctx, wrap, func(port int) []string {
			conf := filepath.Join(dir, "nginx.conf")
			confErr = os.WriteFile(conf, fmt.Appendf(nil, `
daemon off; user root; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 64; }
http {
	access_log off; client_max_body_size 0; client_body_temp_path %[1]s/tmp; keepalive_requests 1000000;
	fastcgi_temp_path %[1]s/tmp; proxy_temp_path %[1]s/tmp; scgi_temp_path %[1]s/tmp; uwsgi_temp_path %[1]s/tmp;
	server {
		listen 127.0.0.1:%[2]d ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		location / { root %[1]s/data; dav_methods PUT DELETE; }
	}
}
`, dir, port, r.cert, r.key), 0o600)
			return []string{"/usr/sbin/nginx", "-c", conf, "-e", filepath.Join(dir, "error.log")}
		})
		if err := errors.Join(err, confErr); err != nil {
			return nil, err
		}
		client := r.client()
		s.send = func(ctx context.Context, f file, body io.Reader) error {
			return request(ctx, client, http.MethodPut, fmt.Sprintf("https://127.0.0.1:%d/%s", port, f.name), f, body, nil)
		}
		return s, nil
	}}
}

func (r *race) tus() contender {
	return contender{name: "tusd", how: "HTTPS tus 1.0, creation-with-upload", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		s, port, err := launch(ctx, wrap, func(port int) []string {
			return []string{r.tusd, "-host", "127.0.0.1", "-port", fmt.Sprint(port), "-upload-dir", filepath.Join(dir, "data"), "-tls-certificate", r.cert, "-tls-key", r.key, "-verbose=false", "-show-greeting=false", "-show-startup-logs=false"}
		})
		if err != nil {
			return nil, err
		}
		client := r.client()
		s.send = func(ctx context.Context, f file, body io.Reader) error {
			return request(ctx, client, http.MethodPost, fmt.Sprintf("https://127.0.0.1:%d/files/", port), f, body, map[string]string{
				"Tus-Resumable": "1.0.0", "Upload-Length": fmt.Sprint(f.size), "Content-Type": "application/offset+octet-stream",
				"Upload-Metadata": "filename " + base64.StdEncoding.EncodeToString([]byte(f.name)),
			})
		}
		return s, nil
	}}
}

func (r *race) samba() contender {
	return contender{name: "samba", how: "SMB 3, not encrypted, by smbclient", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		if err := makeDirs(dir, "data", "run"); err != nil {
			return nil, err
		}
		var confErr error
		s, port, err := launch(ctx, wrap, func(port int) []string {
			conf := filepath.Join(dir, "smb.conf")
			confErr = os.WriteFile(conf, fmt.Appendf(nil, `
[global]
	server role = standalone server
	map to guest = Bad User
	guest account = nobody
	interfaces = 127.0.0.1/8
	bind interfaces only = yes
	smb ports = %[2]d
	private dir = %[1]s/run
	lock directory = %[1]s/run
	state directory = %[1]s/run
	cache directory = %[1]s/run
	pid directory = %[1]s/run
	ncalrpc dir = %[1]s/run/rpc
	log file = %[1]s/run/log
	load printers = no
	disable spoolss = yes
[bench]
	path = %[1]s/data
	guest ok = yes
	read only = no
	force user = root
`, dir, port), 0o600)
			return []string{"/usr/sbin/smbd", "-F", "--no-process-group", "-s", conf}
		})
		if err := errors.Join(err, confErr); err != nil {
			return nil, err
		}
		s.folder = func(ctx context.Context, from string) error {
			out, err := exec.CommandContext(ctx, "smbclient", "//127.0.0.1/bench", "-p", fmt.Sprint(port), "-N", "-m", "SMB3", "-c", "lcd "+from+"; prompt; mput *").CombinedOutput()
			// smbclient's exit code says nothing about single files.
			if err == nil && bytes.Contains(out, []byte("NT_STATUS_")) {
				err = errors.New("some files were refused")
			}
			if err != nil {
				return fmt.Errorf("smbclient: %w: %s", err, lastLine(out))
			}
			return nil
		}
		return s, nil
	}}
}

func (r *race) rsync() contender {
	return contender{name: "rsync --fsync", how: "rsync daemon, not encrypted", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		s, url, err := r.startRsync(ctx, dir, wrap)
		if err != nil {
			return nil, err
		}
		s.folder = func(ctx context.Context, from string) error {
			return rsync(ctx, from, url)
		}
		return s, nil
	}}
}

// rsyncTLS is the same with what rsync brings for a network that others use: rsync-ssl(1)
// here and stunnel, as its manual says, before the daemon.
func (r *race) rsyncTLS() contender {
	return contender{name: "rsync-ssl --fsync", how: "rsync daemon behind stunnel", start: func(ctx context.Context, dir string, wrap []string) (*running, error) {
		conf, err := rsyncConf(dir)
		if err != nil {
			return nil, err
		}
		var confErr error
		s, port, err := launch(ctx, wrap, func(port int) []string {
			name := filepath.Join(dir, "stunnel.conf")
			confErr = os.WriteFile(name, fmt.Appendf(nil, "foreground = yes\nsyslog = no\ndebug = 3\npid =\n[rsync]\naccept = 127.0.0.1:%d\ncert = %s\nkey = %s\nexec = /usr/bin/rsync\nexecArgs = rsync --server --daemon --config=%s .\n", port, r.cert, r.key, conf), 0o600)
			return []string{"stunnel", name}
		})
		if err := errors.Join(err, confErr); err != nil {
			return nil, err
		}
		s.folder = func(ctx context.Context, from string) error {
			return rsync(ctx, from, fmt.Sprintf("rsync://localhost:%d/bench/", port), "RSYNC_SSL_CA_CERT="+r.cert)
		}
		return s, nil
	}}
}

// rsyncConf is the configuration of a daemon that keeps its files below dir.
func rsyncConf(dir string) (name string, err error) {
	if err := makeDirs(dir, "data"); err != nil {
		return "", err
	}
	name = filepath.Join(dir, "rsyncd.conf")
	return name, os.WriteFile(name, fmt.Appendf(nil, "use chroot = no\nuid = root\ngid = root\nlog file = /dev/null\n[bench]\n\tpath = %s/data\n\tread only = no\n", dir), 0o600)
}

func (r *race) startRsync(ctx context.Context, dir string, wrap []string) (*running, string, error) {
	conf, err := rsyncConf(dir)
	if err != nil {
		return nil, "", err
	}
	s, port, err := launch(ctx, wrap, func(port int) []string {
		return []string{"rsync", "--daemon", "--no-detach", "--config", conf, "--address", "127.0.0.1", "--port", fmt.Sprint(port)}
	})
	return s, fmt.Sprintf("rsync://127.0.0.1:%d/bench/", port), err
}

// rsync sends a folder; with a setting for rsync-ssl it uses that.
func rsync(ctx context.Context, from, url string, tls ...string) error {
	program := "rsync"
	if len(tls) > 0 {
		program = "rsync-ssl"
	}
	cmd := exec.CommandContext(ctx, program, "-rt", "--fsync", from+"/", url)
	cmd.Env = append(os.Environ(), tls...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, lastLine(out))
	}
	return nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

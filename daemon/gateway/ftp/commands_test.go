//go:build linux

package ftp_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
)

// Whatever somebody types after signing in, each line is answered in the form of RFC
// 959 §4.2 or the connection ends, the next camera is served, and nothing appears
// outside of the camera's own folder.
func FuzzCommands(f *testing.F) {
	box := daemontest.StartLogged(f, io.Discard, func(c *config.Config) { c.FTP, c.FTPPlain = "127.0.0.1:0", true })
	ada := box.Bind()
	ada.Grant("camera_transfer")
	pw := cameraPassword(ada, "cam").Token
	f.Cleanup(func() {
		for _, it := range items(ada) {
			if !strings.HasPrefix(it.Path, "Camera/cam/") {
				f.Errorf("there is %q", it.Path)
			}
		}
	})
	for _, s := range []string{
		"NOOP", "PWD", "CWD /", "CWD ../..", "MKD a/../../b", "TYPE I\r\nTYPE A", "SIZE x", "MDTM 20260101000000 x", "MFMT 99999999999999 x", "REST -1", "REST 18446744073709551616\r\nSTOR x",
		"PORT 1,2,3,4,5,6", "PORT 256,0,0,1,1,1", "EPRT |1|127.0.0.1|70000|", "EPRT |3||1|", "EPSV ALL", "EPSV 9", "OPTS UTF8 ON", "OPTS HASH SHA-256", "HASH x", "XSHA256 x 1 -1", "COMB \"a b\" c",
		"SITE CHMOD 777 /", "SITE SYMLINK /etc x", "RNFR x\r\nRNTO ../../y", "DELE /etc/passwd", "RMD /", "ALLO 99999999999999999999", "STAT", "STAT /", "HELP", "FEAT", "AUTH TLS", "PBSZ 0", "PROT P", "PROT X",
		"MODE Z", "STRU R", "LANG zh", "HOST evil", "CLNT \xff", "ABOR", "AVBL", "MLST x", "MLST \x00", "USER root\r\nPASS x", "", " ", "\xff\xf4\xff\xf2ABOR", strings.Repeat("A", 5000), "QUIT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := login(t, box, nil, "ada", pw)
		defer c.Close()
		c.conn.SetDeadline(time.Now().Add(time.Second)) // one that waits, such as for TLS, is let go
		if err := c.PrintfLine("%s\r\nNOOP\r\nQUIT", text); err != nil {
			return // it was refused in the middle of a long line
		}
		for range 3 * (strings.Count(text, "\n") + 3) * 100 {
			line, err := c.ReadLineBytes()
			if err != nil {
				break // the end, after QUIT or what is none of FTP
			}
			if len(line) > 0 && strings.ContainsAny(string(line), "\x00\r") {
				t.Errorf("%q is answered by %q", text, line)
			}
		}
	})
}

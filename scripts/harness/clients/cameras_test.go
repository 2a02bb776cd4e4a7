package clients

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// cameraBox is a box with the camera gateway on, and a camera's password.
func cameraBox(t *testing.T, plain string) (b *box.Box, address, password string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port, to be used in a moment
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("YUNBOX_FTP", address)
	t.Setenv("YUNBOX_FTP_PLAIN", plain)
	b = start(t)
	revision, err := b.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grant := map[string]any{"granted": true, "policy_revision": revision}
	if err := b.API(t.Context(), http.MethodPut, "/v1/consents/camera_transfer", grant, nil); err != nil {
		t.Fatal(err)
	}
	var made struct{ Token string }
	if err := b.API(t.Context(), http.MethodPost, "/v1/tokens", map[string]string{"name": "cam", "scope": "camera"}, &made); err != nil {
		t.Fatal(err)
	}
	return b, address, made.Token
}

// lftp prepares lftp with commands, over FTPS that it verifies, or in the clear.
func lftp(ctx context.Context, t *testing.T, b *box.Box, address, password string, secure bool, commands string) *exec.Cmd {
	t.Helper()
	tls := "set ftp:ssl-allow no; "
	if secure {
		tls = "set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ssl:ca-file " + b.CAFile + "; "
	}
	cmd := exec.CommandContext(ctx, "lftp", "-c", tls+
		"set net:timeout 20; set net:max-retries 3; set net:reconnect-interval-base 1; set ftp:charset UTF-8; set file:charset UTF-8; "+
		"open -u owner,"+password+" ftp://"+address+"; "+commands)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	return cmd
}

func mustLftp(t *testing.T, b *box.Box, address, password string, secure bool, commands string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := lftp(ctx, t, b, address, password, secure, commands).CombinedOutput()
	if err != nil {
		t.Fatalf("lftp: %v\n%s", err, out)
	}
	return string(out)
}

// TestLftpMirror sends a card's content twice: the second time there is nothing to do.
func TestLftpMirror(t *testing.T) { // R01 R03 R13
	b, address, password := cameraBox(t, "on")
	card := t.TempDir()
	var sums = map[string]string{}
	for i, name := range []string{"DCIM/100CAM/DSC00001.JPG", "DCIM/100CAM/DSC00002.JPG", "DCIM/春节 1/微信图片_😀.jpg", "empty.txt", "DCIM/100CAM/C0001.MP4"} {
		size := int64(100_000 + i)
		switch {
		case strings.HasSuffix(name, ".txt"):
			size = 0
		case strings.HasSuffix(name, ".MP4"):
			size = 24 * mib
		}
		from, sum := content(t, size)
		to := filepath.Join(card, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(to, time.Now(), time.Date(2009+i, 3, 4, 5, 6, 7, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		sums[name] = sum
	}
	for _, secure := range []bool{true, false} {
		folder := fmt.Sprintf("card-%v", secure)
		mustLftp(t, b, address, password, secure, "mirror -R -p '"+card+"' "+folder)
		for name, sum := range sums {
			mustHave(t, b, "Camera/cam/"+folder+"/"+name, sum)
		}
		again := mustLftp(t, b, address, password, secure, "mirror -R -p --verbose=3 '"+card+"' "+folder)
		if n := len(regexp.MustCompile(`(?m)^Transferring`).FindAllString(again, -1)); n != 0 {
			t.Errorf("secure %v: the second run sends %d files:\n%s", secure, n, again)
		}
	}
}

// arrives waits until the box has size bytes of a file that is on its way: neither lftp nor
// curl says what one could wait for.
func arrives(t *testing.T, b *box.Box, size int64) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		list, err := os.ReadDir(filepath.Join(b.State, "staging"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if info, err := e.Info(); err == nil && info.Size() >= size {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes never arrive", size)
		}
	}
}

// TestLftpKilled kills lftp in the middle, as a camera loses its battery, and goes on.
func TestLftpKilled(t *testing.T) { // R04
	b, address, password := cameraBox(t, "on")
	for _, secure := range []bool{true, false} {
		file, sum := content(t, 12*mib)
		name := fmt.Sprintf("killed-%v.MP4", secure)
		ctx, cancel := context.WithCancel(t.Context())
		cmd := lftp(ctx, t, b, address, password, secure, "set net:limit-rate 0:2M; set net:limit-max 0:64K; put '"+file+"' -o "+name)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		arrives(t, b, 2*mib)
		cancel() // SIGKILL
		if err := cmd.Wait(); err == nil {
			t.Fatalf("lftp had come to its end:\n%s", &out)
		}
		mustNotHave(t, b, "Camera/cam/"+name)
		report := mustLftp(t, b, address, password, secure, "debug 5; put -c '"+file+"' -o "+name)
		mustHave(t, b, "Camera/cam/"+name, sum)
		from := regexp.MustCompile(`---> REST (\d+)`).FindStringSubmatch(report)
		if from == nil || len(from[1]) < 7 {
			t.Errorf("secure %v: it began again:\n%s", secure, report)
		} else {
			t.Logf("secure %v: killed on its way to %d bytes, went on from %s", secure, 12*mib, from[1])
		}
		size := mustLftp(t, b, address, password, secure, "cls -s --block-size=1 "+name)
		if !strings.Contains(size, fmt.Sprint(12*mib)) {
			t.Errorf("it is listed as %s", size)
		}
		mustLftp(t, b, address, password, secure, "put -c '"+file+"' -o "+name)
	}
}

// ftpCurl runs curl and returns its exit code.
func ftpCurl(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", append([]string{"-sS"}, args...)...)
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// TestCurlFTPS sends with curl, which verifies the box and resumes with APPE.
func TestCurlFTPS(t *testing.T) { // R01 R04 R20
	b, address, password := cameraBox(t, "off")
	file, sum := content(t, 6*mib)
	who := []string{"--ssl-reqd", "--cacert", b.CAFile, "--user", "owner:" + password}
	to := "ftp://" + address + "/DCIM/"
	if code, out := ftpCurl(t, append(who, "--ftp-create-dirs", "-T", file, to+"a.jpg")...); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	mustHave(t, b, "Camera/cam/DCIM/a.jpg", sum)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cut := exec.CommandContext(ctx, "curl", append(who, "-sS", "--limit-rate", "1M", "-T", file, to+"b.jpg")...)
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	arrives(t, b, mib)
	cancel()
	if err := cut.Wait(); err == nil {
		t.Fatal("curl had come to its end")
	}
	mustNotHave(t, b, "Camera/cam/DCIM/b.jpg")
	if code, out := ftpCurl(t, append(who, "-C", "-", "-T", file, to+"b.jpg")...); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	mustHave(t, b, "Camera/cam/DCIM/b.jpg", sum)

	if code, _ := ftpCurl(t, "--ssl-reqd", "--cacert", b.CAFile, "--user", "owner:0000-0000-0000-0000", "-T", file, to+"c.jpg"); code != 67 {
		t.Errorf("a wrong password: curl ends with %d", code)
	}
	if code, _ := ftpCurl(t, "--user", "owner:"+password, "-T", file, to+"d.jpg"); code == 0 {
		t.Error("without TLS it is taken, too")
	}
	if code, _ := ftpCurl(t, append(who, "--ftp-port", "-", "-T", file, to+"e.jpg")...); code == 0 {
		t.Error("active mode is offered")
	}
	if code, _ := ftpCurl(t, append(who, to+"a.jpg")...); code == 0 {
		t.Error("a camera's password reads files")
	}
	if err := b.API(t.Context(), http.MethodDelete, "/v1/consents/camera_transfer", nil, nil); err != nil {
		t.Fatal(err)
	}
	code, out := ftpCurl(t, append(who, "-v", "-T", file, to+"f.jpg")...)
	if code == 0 || !strings.Contains(out, "camera_transfer") {
		t.Errorf("without consent: %d %s", code, out)
	}
	for _, name := range []string{"c", "d", "e", "f"} {
		mustNotHave(t, b, "Camera/cam/DCIM/"+name+".jpg")
	}
}

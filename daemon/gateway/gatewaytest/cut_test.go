package gatewaytest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/gateway/gatewaytest"
)

// R05: one cut at 9 MB of a film of 25 MB. What had arrived is not sent again. A
// client of tus that creates and sends in one request is told its upload's address
// in the answer only, so a cut leaves it nothing to go on with.
func TestOneCut(t *testing.T) {
	t.Parallel()
	box := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) { c.FTP, c.FTPPlain = "127.0.0.1:0", true })
	ada := box.Bind()
	ada.Grant("album_backup", "camera_transfer")
	const size, cut = 25_000_000, 9_000_000
	film := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{9})
	for _, g := range []struct {
		name    string
		connect gatewaytest.Connect
		again   int64 // bytes at most
	}{
		{"tus", connectTus(1, false), 64 << 10},
		{"IETF 8", connectIETF(1, 8), 64 << 10},
		{"Nextcloud", connectNextcloudChunks(1), chunkSize},
		{"FTP", connectFTP(false), 64 << 10},
		{"FTPS", connectFTP(true), 64 << 10},
	} {
		t.Run(g.name, func(t *testing.T) {
			box.For(t)
			_, _ = rng.Read(film) // it never fails
			sum := sha256.Sum256(film)
			client := g.connect(t, ada)
			f := gatewaytest.File{Path: g.name + ".mp4", Source: "album", Size: size}
			if terse, ok := client.(gatewaytest.Terse); ok {
				f.Path, f.Source = terse.Folder()+"/"+f.Path, terse.Source()
			}
			f.Body = func(off int64) io.Reader {
				return io.MultiReader(bytes.NewReader(film[off:cut]), iotest.ErrReader(errors.New("out of range")))
			}
			if _, err := client.Put(t.Context(), f); err == nil {
				t.Fatal("a cut film was stored")
			}
			f.Body = func(off int64) io.Reader { return bytes.NewReader(film[off:]) }
			r, err := client.Resume(t.Context(), f)
			if err != nil || r.SHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("%+v, %v", r, err)
			}
			if again := cut - r.Resumed; again < 0 || again > g.again {
				t.Errorf("%d bytes were sent again", again)
			} else {
				t.Logf("%d bytes were sent again", again)
			}
		})
	}
}

package clients

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/scripts/harness/internal/box"
)

// immichBox is a box and what an uploader of a photo server is given.
type immichBox struct {
	*box.Box
	key string
}

func startImmich(t *testing.T, purposes ...string) immichBox {
	t.Helper()
	b := immichBox{Box: start(t)}
	b.grant(t, purposes...)
	var app struct{ Token string }
	if err := b.API(t.Context(), http.MethodPost, "/v1/tokens", map[string]string{"name": "uploader", "scope": "files"}, &app); err != nil {
		t.Fatal(err)
	}
	b.key = app.Token
	return b
}

func (b immichBox) grant(t *testing.T, purposes ...string) {
	t.Helper()
	revision, err := b.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range purposes {
		in := map[string]any{"granted": true, "policy_revision": revision}
		if err := b.API(t.Context(), http.MethodPut, "/v1/consents/"+purpose, in, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// cli runs @immich/cli on the Node that it needs. It trusts the box's own
// authority, and nothing else new. It returns what the program said.
func (b immichBox) cli(t *testing.T, address, key string, args ...string) (said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node_modules/node/bin/node", append([]string{"node_modules/@immich/cli/dist/index.js"}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+b.CAFile, "HOME="+t.TempDir(),
		"IMMICH_INSTANCE_URL="+address, "IMMICH_API_KEY="+key)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

type immichItem struct {
	ID, Path, SHA256, Source string
	Size                     int64
	MTime                    time.Time
}

func (b immichBox) items(t *testing.T) map[string]immichItem {
	t.Helper()
	var page struct{ Items []immichItem }
	if err := b.API(t.Context(), http.MethodGet, "/v1/items?recursive=true&limit=1000", nil, &page); err != nil {
		t.Fatal(err)
	}
	all := map[string]immichItem{}
	for _, it := range page.Items {
		all[it.Path] = it
	}
	return all
}

// photos makes a folder as phones and computers leave them, and returns the
// hashes of those of its files that are to be sent, by path.
func photos(t *testing.T, files map[string]int64) (dir string, sums map[string]string) {
	t.Helper()
	dir, sums = t.TempDir(), map[string]string{}
	for name, size := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		from, sum := content(t, size)
		if err := os.Rename(from, file); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, photoTime, photoTime); err != nil {
			t.Fatal(err)
		}
		if ext := filepath.Ext(name); ext != ".txt" && ext != ".xmp" {
			sums[name] = sum
		}
	}
	return dir, sums
}

var photoTime = time.Date(2023, 5, 6, 7, 8, 9, 123_000_000, time.UTC)

// kept checks that each of sums is an item of the album with the photo's time.
func (b immichBox) kept(t *testing.T, sums map[string]string) {
	t.Helper()
	all := map[string]immichItem{}
	for _, it := range b.items(t) {
		all[it.SHA256] = it
	}
	for name, sum := range sums {
		it, ok := all[sum]
		if !ok {
			t.Errorf("%s is not on the box", name)
			continue
		}
		if !it.MTime.Equal(photoTime) || it.Source != "album" || !strings.HasPrefix(it.Path, "Photos/2023/05/") {
			t.Errorf("%s is kept as %+v", name, it)
		}
		mustHave(t, b.Box, it.Path, sum)
	}
}

// says checks what the program said.
func says(t *testing.T, said string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("it did not say %q:\n%s", part, said)
		}
	}
}

func TestImmichCLI(t *testing.T) { // R02 R13
	b := startImmich(t, "album_backup")
	upload := []string{"upload", "--recursive", "--no-progress"}
	p := proxy(t, b.Box)
	address := fmt.Sprintf("https://127.0.0.1:%d", p.Port())
	dir, sums := photos(t, map[string]int64{
		"DCIM/Camera/IMG_0001.JPG":                 300 << 10,
		"DCIM/100APPLE/IMG_0001.JPG":               200 << 10, // the same name, another photo
		"DCIM/照片 2023/风景 😀.jpg":                    100 << 10,
		"DCIM/照片 2023/a b#c%d&e+f;g=h'i[j].jpg":    50 << 10,
		`DCIM/a "quoted" photo.jpg`:                40 << 10,
		"DCIM/" + strings.Repeat("长", 80) + ".jpg": 30 << 10,
		"DCIM/empty.png":                           0,
		"DCIM/VID_0003.mp4":                        24 * mib,
		"DCIM/raw.dng":                             20 << 10,
		"DCIM/raw.dng.xmp":                         200, // goes with its photo
		"DCIM/lonely.xmp":                          300, // belongs to no photo
		"DCIM/notes.txt":                           300, // no photo
	})
	t.Run("first run", func(t *testing.T) {
		said, err := b.cli(t, address, b.key, append(upload, dir)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		says(t, said, "Found 9 new files and 0 duplicates", "Successfully uploaded 9 new assets")
		b.kept(t, sums)
		if all := b.items(t); len(all) != 10 || all["Photos/2023/05/raw.dng.xmp"].Size != 200 {
			t.Errorf("%+v", all)
		}
		t.Logf("%d bytes were sent", p.Sent())
	})
	t.Run("second run sends nothing", func(t *testing.T) {
		before := p.Sent()
		said, err := b.cli(t, address, b.key, append(upload, dir)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		says(t, said, "Found 0 new files and 9 duplicates")
		sent := p.Sent() - before
		t.Logf("%d bytes were sent, TLS and questions included", sent)
		if sent > 20<<10 { // less than the smallest of the files that are not empty
			t.Errorf("%d bytes were sent", sent)
		}
	})
	t.Run("the same photo twice", func(t *testing.T) {
		twice, sums := photos(t, map[string]int64{"a/one.jpg": 60 << 10})
		bytes, err := os.ReadFile(filepath.Join(twice, "a/one.jpg"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(twice, "a/two.jpg"), bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(twice, "a/two.jpg"), photoTime, photoTime); err != nil {
			t.Fatal(err)
		}
		before := len(b.items(t))
		said, err := b.cli(t, address, b.key, append(upload, twice)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		says(t, said, "Successfully uploaded 1 new asset", "Skipped 1 duplicate asset")
		b.kept(t, sums)
		if now := len(b.items(t)); now != before+1 {
			t.Errorf("%d files became %d", before, now)
		}
	})
	t.Run("albums", func(t *testing.T) {
		for range 2 { // the second time they are there
			said, err := b.cli(t, address, b.key, append(upload, "--album", dir)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			all := b.items(t)
			for _, name := range []string{ // a third album has the other IMG_0001.JPG, which has a number
				"Albums/照片 2023/风景 😀.jpg", "Albums/照片 2023/a b#c%d&e+f;g=h'i[j].jpg", "Albums/DCIM/VID_0003.mp4",
			} {
				if _, ok := all[name]; !ok {
					t.Errorf("%s is missing", name)
				}
			}
			if len(all) != 11+9 {
				t.Errorf("%d files", len(all))
			}
		}
	})
	t.Run("server-info", func(t *testing.T) {
		said, err := b.cli(t, address, b.key, "server-info")
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		says(t, said, "Version: 3.2.2", "Videos: 2", "Total: 20")
	})
	t.Run("wrong key", func(t *testing.T) {
		before, items := p.Sent(), len(b.items(t))
		more, _ := photos(t, map[string]int64{"new.jpg": mib})
		said, err := b.cli(t, address, "yb_wrong", append(upload, more)...)
		if err == nil {
			t.Errorf("a wrong key was let in:\n%s", said)
		}
		says(t, said, "401")
		if sent := p.Sent() - before; sent > 64<<10 || len(b.items(t)) != items {
			t.Errorf("%d bytes were sent for a refusal", sent)
		}
	})
}

func TestImmichCLINeedsConsent(t *testing.T) { // R20
	b := startImmich(t) // the policy only
	dir, sums := photos(t, map[string]int64{"IMG_0001.JPG": 200 << 10, "b/c.jpg": 100 << 10})
	chat, _ := photos(t, map[string]int64{"mmexport1598266474988.jpg": 80 << 10})
	upload := func(dir string) string {
		t.Helper()
		said, err := b.cli(t, b.URL, b.key, "upload", "--recursive", "--no-progress", dir)
		t.Logf("%v\n%s", err, said)
		return said
	}
	says(t, upload(dir), "Failed to upload 2 assets", "Your consent is needed first", "/v1/consents/album_backup")
	if all := b.items(t); len(all) != 0 {
		t.Errorf("it kept %+v", all)
	}
	b.grant(t, "album_backup")
	says(t, upload(dir), "Successfully uploaded 2 new assets")
	b.kept(t, sums)
	// What WeChat saved is not the album's, whatever it is sent with.
	says(t, upload(chat), "Failed to upload 1 asset", "/v1/consents/wechat_backup")
	b.grant(t, "wechat_backup")
	says(t, upload(chat), "Successfully uploaded 1 new asset")
	if it := b.items(t)["Photos/2023/05/mmexport1598266474988.jpg"]; it.Source != "wechat" {
		t.Errorf("%+v", it)
	}
}

// The protocol cannot resume: the program sends a file that was cut off again, and
// nothing of the first try is to be seen.
func TestImmichCLIAfterACut(t *testing.T) {
	b := startImmich(t, "album_backup")
	dir, sums := photos(t, map[string]int64{"VID_0003.mp4": 24 * mib})
	p := proxy(t, b.Box, 9_000_000)
	said, err := b.cli(t, fmt.Sprintf("https://127.0.0.1:%d", p.Port()), b.key, "upload", "--no-progress", dir)
	if err != nil || p.Cuts() != 1 {
		t.Fatalf("%v, %d cuts\n%s", err, p.Cuts(), said)
	}
	says(t, said, "Successfully uploaded 1 new asset")
	b.kept(t, sums)
	if all := b.items(t); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	t.Logf("%d bytes were sent for a file of %d", p.Sent(), 24*mib)
}

// The client of the power-cut test does what that test believes.
func TestPowercutAssetClient(t *testing.T) {
	b := start(t)
	file, sum := content(t, 5000)
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PostAsset(t.Context(), "phone 8/照片.jpg", body, sum); err != nil {
		t.Fatal(err)
	}
	mustHave(t, b, "phone 8/照片.jpg", sum)
	if err := b.PostAsset(t.Context(), "phone 8/照片.jpg", body, sum[1:]+"0"); err == nil {
		t.Error("another hash was taken for the right one")
	}
}

package daemon_test

import (
	"database/sql"
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

var flips = flag.Int("flips", 60, "how many contents TestNoFlippedBitIsServed damages; 1000 takes a minute")

// uploadInParts sends a file by tus, in several requests, and returns its address.
func uploadInParts(t *testing.T, p *daemontest.Person, name, content string) string {
	t.Helper()
	meta := func(k, v string) string { return k + " " + base64.StdEncoding.EncodeToString([]byte(v)) }
	made := ask(p, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(len(content)),
		"Upload-Metadata", meta("filename", name)+","+meta("source", "album"))
	where := made.is(t, name, 201, "").header.Get("Location")
	where = strings.TrimPrefix(where, p.Box().URL)
	for at := 0; at < len(content); {
		n := min(700_000, len(content)-at)
		ask(p, "PATCH", where, content[at:at+n], "Tus-Resumable", "1.0.0", "Upload-Offset", fmt.Sprint(at),
			"Content-Type", "application/offset+octet-stream").is(t, name, 204, "")
		at += n
	}
	return where
}

// got is what of a file came whole: nil if it was refused or broke off.
func got(t *testing.T, p *daemontest.Person, address, ranges string) (body []byte, status int) {
	t.Helper()
	r := p.Request("GET", address, nil)
	if ranges != "" {
		r.Header.Set("Range", ranges)
	}
	resp, err := p.Box().Client.Do(r)
	if err != nil {
		return nil, 0
	}
	all := readAll(resp)
	if int64(len(all)) != resp.ContentLength || resp.StatusCode/100 != 2 {
		return nil, resp.StatusCode
	}
	return []byte(all), resp.StatusCode
}

// One bit is flipped in each of many contents. Nobody gets it as good: not in the
// whole file, not in a part of it, by no protocol; and what is not damaged is served. R03
func TestNoFlippedBitIsServed(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	type file struct {
		name, content, upload string
		flipped               int
	}
	files := make([]file, *flips)
	for i := range files {
		size := 1 + rng.IntN(60_000)
		if i%5 == 0 {
			size = []int{storage.SumsFrom, storage.SumsFrom + 1, 9 * storage.SumChunk, storage.SumsFrom + rng.IntN(1<<20)}[rng.IntN(4)]
		}
		f := file{name: fmt.Sprintf("f%d.mp4", i), content: randomText(rng, size)}
		if i%3 == 0 {
			f.upload = uploadInParts(t, ada, f.name, f.content)
		} else {
			put(t, ada, f.name, f.content)
		}
		border := storage.SumChunk * (1 + rng.IntN(8))
		f.flipped = []int{0, size - 1, rng.IntN(size), border - 1, border}[rng.IntN(5)] % size
		flipBit(t, b, f.content, f.flipped, byte(1)<<rng.IntN(8))
		files[i] = f
	}
	for i, f := range files {
		addresses := []string{"/v1/files/" + f.name, "/dav/" + f.name, "/remote.php/dav/files/ada/" + f.name}
		if f.upload != "" {
			addresses = append(addresses, f.upload)
		}
		from := max(0, f.flipped-rng.IntN(200_000))
		to := min(len(f.content)-1, f.flipped+rng.IntN(200_000))
		address := addresses[i/2%len(addresses)]
		ranges := []string{
			fmt.Sprintf("bytes=%d-%d", f.flipped, f.flipped),
			fmt.Sprintf("bytes=%d-%d", from, to),
			"bytes=0-",
			fmt.Sprintf("bytes=%d-", from),
			fmt.Sprintf("bytes=-%d", len(f.content)-from),
			fmt.Sprintf("bytes=0-0,%d-%d", f.flipped, f.flipped),
			"",
		}[rng.IntN(7)]
		// What does not touch the damaged chunk is good, or refused.
		far := (f.flipped + 2*storage.SumChunk) % len(f.content)
		if far/storage.SumChunk != f.flipped/storage.SumChunk && len(f.content) > storage.SumsFrom {
			part, status := got(t, ada, address, fmt.Sprintf("bytes=%d-%d", far, far))
			if status != 206 || string(part) != f.content[far:far+1] {
				t.Errorf("%s, %s: a good part was not served: %d %q", f.name, address, status, part)
			}
		}
		if part, status := got(t, ada, address, ranges); part != nil {
			t.Errorf("%s, %d bytes, flipped at %d: %s %q: %d bytes were served (%d)", f.name, len(f.content), f.flipped, address, ranges, len(part), status)
		}
		if whole, _ := got(t, ada, "/v1/files/"+f.name, ""); whole != nil {
			t.Errorf("%s was served whole", f.name)
		}
	}
	var damaged struct {
		Count int `json:"damaged"`
	}
	ada.Call("GET", "/v1/damaged", nil, &damaged)
	if damaged.Count != len(files) {
		t.Errorf("%d of %d are on the list", damaged.Count, len(files))
	}
	// Whoever has them sends them again, and all parts are served again.
	for _, f := range files {
		put(t, ada, f.name, f.content)
		at := f.flipped
		if part, status := got(t, ada, "/v1/files/"+f.name, fmt.Sprintf("bytes=%d-%d", at, at)); status != 206 || string(part) != f.content[at:at+1] {
			t.Errorf("%s was not healed: %d", f.name, status)
		}
	}
}

func randomText(rng *rand.Rand, size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

func flipBit(t *testing.T, b *daemontest.Box, content string, at int, bit byte) {
	t.Helper()
	sum := sumOf(content)
	blob := filepath.Join(b.State, "blobs", sum[:2], sum)
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(blob, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{content[at] ^ bit}, int64(at)); err != nil {
		t.Fatal(err)
	}
}

// sumRows runs a statement on the records, and tells how many
// contents have sums.
func sumRows(t *testing.T, b *daemontest.Box, statement string) (n int) {
	t.Helper()
	c, err := sql.Open("sqlite3", "file:"+filepath.Join(b.State, "box.db")+"?_busy_timeout=20000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if statement != "" {
		if _, err := c.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.QueryRow(`SELECT count(*) FROM blob_sums`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What came with an older version has no sums: a reader of a part waits until all of it
// was read once, and the reading back of everything finds them too. Wrong sums are put
// right, and make no damage.
func TestSumsAreFoundLater(t *testing.T) {
	t.Parallel()
	rng := vfstest.Seed(t)
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	content := randomText(rng, 3<<20)
	put(t, ada, "film.mp4", content)
	uploadInParts(t, ada, "other.mp4", randomText(rng, 2<<20))
	put(t, ada, "small.mp4", "small")
	if n := sumRows(t, b, ""); n != 2 {
		t.Fatalf("%d contents have sums", n)
	}
	lose := func(statement string) {
		sumRows(t, b, statement)
	}
	part := func() (string, int) {
		p, status := got(t, ada, "/v1/files/film.mp4", "bytes=1500000-1500009")
		return string(p), status
	}
	good := content[1_500_000:1_500_010]
	for what, read := range map[string]func(){
		"a part":    func() {},
		"the whole": func() { got(t, ada, "/v1/files/film.mp4", "") },
		"the check": func() { checkDeep(t, b) },
		"the scrub": func() { b.LocalLines("POST", "/local/scrub", map[string]any{"whole": true, "wait": true}) },
	} {
		lose(`DELETE FROM blob_sums`)
		read()
		if what == "the whole" && sumRows(t, b, "") != 1 || what != "the whole" && what != "a part" && sumRows(t, b, "") != 2 {
			t.Errorf("%s did not find the sums: %d", what, sumRows(t, b, ""))
		}
		if p, status := part(); status != http.StatusPartialContent || p != good {
			t.Errorf("after %s: %d %q", what, status, p)
		}
		if n := sumRows(t, b, ""); n < 1 {
			t.Errorf("after %s there are no sums", what)
		}
	}
	lose(`UPDATE blob_sums SET sums = zeroblob(length(sums))`)
	if p, _ := part(); p != "" && p != good { // a client may have asked twice
		t.Errorf("%q was served", p)
	}
	if p, status := part(); status != http.StatusPartialContent || p != good {
		t.Errorf("wrong sums were not put right: %d %q", status, p)
	}
	var damaged struct {
		Count int `json:"damaged"`
	}
	if ada.Call("GET", "/v1/damaged", nil, &damaged); damaged.Count != 0 {
		t.Errorf("wrong sums were taken for %d damages", damaged.Count)
	}
	// A sum goes with its content.
	lose(`DELETE FROM blob_sums`)
	flipBit(t, b, content, 1_500_003, 4)
	if p, status := part(); p != "" || status == http.StatusPartialContent {
		t.Errorf("damage without sums was served: %d %q", status, p)
	}
}

package nextcloud_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// Chunks in any order are taken, seen when they are whole, and make one file.
func TestChunksInAnyOrder(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/5", "five ", to...).is(201)
	w.do("PUT", uploads+"u/3", "three ", to...).is(201)
	w.lists("u", "3:6 5:5")
	w.do("PROPFIND", uploads+"u/5", "", "Depth", "0").is(207)
	w.do("PROPFIND", uploads+"u/4", "", "Depth", "0").is(404)
	w.do("PUT", uploads+"u/5", "five ", to...).is(204) // its answer was lost
	w.do("MOVE", uploads+"u/.file", "", to...).is(400)
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "25")...).is(400)
	w.do("PUT", uploads+"u/1", "one ", to...).is(201)
	w.do("PUT", uploads+"u/2", "two ", to...).is(201)
	w.lists("u", "1:4 2:4 3:6 5:5")
	w.do("GET", files+"a.bin", "").is(404)
	w.Crash(nil) // what was acknowledged outlives the power, also what waits
	w.lists("u", "1:4 2:4 3:6 5:5")
	w.do("PUT", uploads+"u/4", "four ", to...).is(201)
	w.do("PUT", uploads+"u/3", "three ", to...).is(204)
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "24")...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != "one two three four five " {
		t.Errorf("%q", got)
	}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/7", "x", to...).is(201)
	w.do("PUT", uploads+"u/7", "y", to...).is(409) // of another file
	w.do("PROPFIND", uploads+"u", "").is(404)
	w.nothingStaged()
	// A gap is none if the length is right: the names need only be in order.
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	for _, n := range []string{"40", "10", "30"} {
		w.do("PUT", uploads+"u/"+n, n, to...).is(201)
	}
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "8")...).is(400)
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "6")...).is(204)
	if got := w.do("GET", files+"a.bin", "").body; got != "103040" {
		t.Errorf("%q", got)
	}
	w.nothingStaged()
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/7", "x", to...).is(201)
	w.do("DELETE", uploads+"u", "").is(204)
	w.nothingStaged()
}

// nothingStaged checks that no bytes of unfinished files are left.
func (w *world) nothingStaged() {
	w.t.Helper()
	left, err := os.ReadDir(filepath.Join(w.State, "staging"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range left {
		w.t.Errorf("staging holds %s", f.Name())
	}
}

// rclone names a chunk by its first and last byte, ownCloud's clients by its first,
// and says neither place nor length before the end.
func TestChunksNamedByOffset(t *testing.T) {
	w := newWorld(t)
	const size, part = 250_000, 30_000
	body := make([]byte, size)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	for name, format := range map[string]string{"rclone": "%015d-%015d", "owncloud": "%016d"} {
		w.do("MKCOL", uploads+name+"/", "").is(201)
		var parts []int
		for at := 0; at < size; at += part {
			parts = append(parts, at)
		}
		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for _, at := range parts {
			end := min(at+part, size)
			chunk := fmt.Sprintf(format, at, end-1)
			chunk, _, _ = strings.Cut(chunk, "%!(EXTRA")
			w.do("PUT", uploads+name+"/"+chunk, string(body[at:end])).is(201)
		}
		w.do("MOVE", uploads+name+"/.file", "", "Destination", files+name+".bin", "X-OC-Mtime", "1600000000").is(201)
		if got := w.do("GET", files+name+".bin", "").body; got != string(body) {
			t.Errorf("%s: %d bytes came back, or others", name, len(got))
		}
		w.nothingStaged()
	}
	w.do("MKCOL", uploads+"v", "").is(201)
	for _, bad := range []string{"0-3", "0-5", "5-0", "-", "0-", "-4", "0-4-4", "0-9999999999999999999"} {
		w.do("PUT", uploads+"v/"+bad, "12345").is(400)
	}
	w.do("PUT", uploads+"v/0-4", "12345").is(201)
	// An overlap is another file.
	w.do("PUT", uploads+"v/3-7", "45678").is(409)
}

// What is set aside is bounded: more waits for what is missing, and comes in then.
func TestFewChunksAreSetAside(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	var want strings.Builder
	want.WriteString("1,")
	for n := 2; n <= 65; n++ {
		w.do("PUT", fmt.Sprintf("%su/%d", uploads, n), fmt.Sprintf("%d,", n), to...).is(201)
		fmt.Fprintf(&want, "%d,", n)
	}
	waited := make(chan answer, 1)
	go func() { waited <- w.do("PUT", uploads+"u/66", "66,", to...) }()
	if n := len(w.chunks("u")); n != 64 {
		t.Errorf("%d chunks are set aside", n)
	}
	w.do("PUT", uploads+"u/1", "1,", to...).is(201)
	(<-waited).is(201)
	w.do("MOVE", uploads+"u/.file", "", to...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != want.String()+"66," {
		t.Errorf("%q", got)
	}
	w.nothingStaged()
}

// R01 R02: the power may go after an early chunk got its row among those that were
// appended and before its bytes are there: it still waits then, and is appended again.
// Or after that and before it was forgotten.
func TestCutWhileAnEarlyChunkIsAppended(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	b := daemontest.StartOn(t, state, nil)
	w := &world{Box: b, t: t, ada: b.Bind()}
	w.ada.Grant("storage")
	to := []string{"Destination", files + "a.bin"}
	sqlite := func(statement string) {
		t.Helper()
		b.Stop()
		db, err := sql.Open("sqlite3", filepath.Join(state, "box.db"))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		} else if n, err := res.RowsAffected(); err != nil || n != 1 {
			t.Fatalf("%d rows, %v", n, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		b.Restart()
	}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/1", "12345", to...).is(201)
	w.do("PUT", uploads+"u/3", "abcde", to...).is(201)
	sqlite(`UPDATE nextcloud_early SET number = 2, name = '2'`) // as if it came next
	sqlite(`INSERT INTO nextcloud_chunk (upload, number, name, size, end, crc, written) SELECT upload, 2, '2', 5, 10, crc, 0 FROM nextcloud_early`)
	w.lists("u", "1:5 2:5")
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "10")...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != "12345abcde" {
		t.Errorf("%q", got)
	}
	w.nothingStaged()
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/1", "12345", to...).is(201)
	w.do("PUT", uploads+"u/2", "67890", to...).is(201)
	w.do("PUT", uploads+"u/4", "67890", to...).is(201)
	sqlite(`UPDATE nextcloud_early SET number = 2, name = '2'`)
	w.lists("u", "1:5 2:5")
	w.do("PUT", uploads+"u/3", "x", to...).is(201)
	w.do("MOVE", uploads+"u/.file", "", to...).is(204)
	if got := w.do("GET", files+"a.bin", "").body; got != "1234567890x" {
		t.Errorf("%q", got)
	}
	w.nothingStaged()
}

// A chunk that is damaged while it waits makes no file, and is asked for again.
func TestDamagedEarlyChunk(t *testing.T) {
	w := newWorld(t)
	to := []string{"Destination", files + "a.bin"}
	w.do("MKCOL", uploads+"u", "", to...).is(201)
	w.do("PUT", uploads+"u/2", strings.Repeat("good", 1000), to...).is(201)
	parts, err := filepath.Glob(filepath.Join(w.State, "staging", "*.part"))
	if err != nil || len(parts) == 0 {
		t.Fatal(parts, err)
	}
	for _, name := range parts {
		if info, err := os.Stat(name); err == nil && info.Size() == 4000 {
			err = os.WriteFile(name, []byte(strings.Repeat("evil", 1000)), 0o600)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	w.do("PUT", uploads+"u/1", "1", to...).is(503)
	w.lists("u", "1:1")
	w.do("PUT", uploads+"u/1", "1", to...).is(204)
	w.do("PUT", uploads+"u/2", strings.Repeat("good", 1000), to...).is(201)
	w.do("MOVE", uploads+"u/.file", "", append(to, "OC-Total-Length", "4001")...).is(201)
	if got := w.do("GET", files+"a.bin", "").body; got != "1"+strings.Repeat("good", 1000) {
		t.Errorf("%d bytes", len(got))
	}
}

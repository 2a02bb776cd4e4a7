package daemon_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"yunbox.local/daemon/daemontest"
)

func blobPath(b *daemontest.Box, content string) string {
	sum := sumOf(content)
	return filepath.Join(b.State, "blobs", sum[:2], sum)
}

// flip changes one bit of a stored content, behind the daemon's back.
func flip(b *daemontest.Box, content string, bit int) error {
	f, err := os.OpenFile(blobPath(b, content), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{content[bit/8] ^ 1<<(bit%8)}, int64(bit/8))
	return errors.Join(err, f.Close())
}

// each does something with n things, sixteen at a time.
func each(n int, f func(i int)) {
	var wait sync.WaitGroup
	limit := make(chan struct{}, 16)
	for i := range n {
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			f(i)
		})
	}
	wait.Wait()
}

// One bit flips in each of a thousand files. One pass finds them all, none is served,
// no client is told that it need not send them, and all are whole when the phone has
// sent them again. R03
func TestThousandFlippedBits(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	const n = 1000
	content := func(i int) string { return fmt.Sprintf("picture %d ", i) + strings.Repeat("of the sea ", 10+i%200) }
	name := func(i int) string { return fmt.Sprintf("/v1/files/%d.jpg", i) }
	send := func(i int) {
		if r := ask(ada, "PUT", name(i)+"?source=album", content(i), "Repr-Digest", digestOf(content(i))); r.status/100 != 2 {
			t.Errorf("%d: %v", i, r)
		}
	}
	each(n, send)
	for i := range n {
		if err := flip(b, content(i), i*7%(8*len(content(i)))); err != nil {
			t.Fatal(err)
		}
	}
	scrub := func() (done struct {
		Event                string
		Done, Total, Damaged int64
	}) {
		t.Helper()
		lines := b.LocalLines("POST", "/local/scrub", map[string]any{"whole": true, "wait": true})
		if err := json.Unmarshal(lines[len(lines)-1], &done); err != nil || done.Event != "done" {
			t.Fatalf("%s: %v", lines[len(lines)-1], err)
		}
		return done
	}
	if done := scrub(); done.Done != n || done.Damaged != n {
		t.Errorf("%+v", done)
	}
	var question struct {
		SHA256 []string `json:"sha256"`
	}
	for i := range n {
		question.SHA256 = append(question.SHA256, sumOf(content(i)))
	}
	asked, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	known := func() int {
		return strings.Count(string(ask(ada, "POST", "/v1/blobs/known", string(asked)).body), `"`) / 2
	}
	none := known()
	var care struct {
		Care struct {
			Damaged int64
			Oldest  *string `json:"oldest_unverified"`
		}
	}
	ask(ada, "GET", "/v1/storage", "").is(t, "storage", 200, "").into(t, &care)
	if care.Care.Damaged != n {
		t.Errorf("the page is told of %d damaged files", care.Care.Damaged)
	}
	each(n, func(i int) {
		want := 500
		headers := []string{}
		switch i % 3 {
		case 1:
			headers = []string{"Range", "bytes=0-3"}
		case 2: // by another protocol
			if r := ask(ada, "GET", fmt.Sprintf("/dav/%d.jpg", i), ""); r.status != want || strings.Contains(string(r.body), "picture") {
				t.Errorf("%d by WebDAV: %v", i, r)
			}
		}
		if r := ask(ada, "GET", name(i), "", headers...); r.status != want || strings.Contains(string(r.body), "picture") {
			t.Errorf("%d: %v", i, r)
		}
	})
	// Naming what the box does not have any more needs the bytes.
	if r := ask(ada, "PUT", "/v1/files/other.jpg?source=album", "", "Repr-Digest", digestOf(content(0)), "Content-Length", "0"); r.status/100 == 2 {
		t.Errorf("a damaged content got another name: %v", r)
	}
	each(n, send)
	if all := known(); all-none != n {
		t.Errorf("%d are known after they were sent again", all-none)
	}
	ask(ada, "GET", "/v1/storage", "").is(t, "storage", 200, "").into(t, &care)
	if care.Care.Damaged != 0 || care.Care.Oldest == nil {
		t.Errorf("%+v", care)
	}
	each(n/10, func(i int) {
		if r := ask(ada, "GET", name(i), ""); r.status != 200 || string(r.body) != content(i) {
			t.Errorf("%d was not healed: %d, %d bytes", i, r.status, len(r.body))
		}
	})
	if done := scrub(); done.Damaged != 0 {
		t.Errorf("%+v", done)
	}
	checkDeep(t, b)
	var state struct {
		Scrub struct{ Damaged, Healed int64 }
	}
	b.Local("GET", "/local/status", nil, &state)
	if state.Scrub.Damaged != 0 || state.Scrub.Healed != n {
		t.Errorf("%+v", state)
	}
}

// A bit flips in what a reader has not read yet: the answer breaks off before its last
// byte, and the file is on the list. Whoever listens is told, and is told again when
// it is whole.
func TestFlipUnderAReader(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada, bob := b.Bind(), b.AddPerson("bob")
	ada.Grant("album_backup")
	content := strings.Repeat("a long film, frame by frame, ", 1<<19)
	put(t, ada, "film.mp4", content)
	events, err := b.Client.Do(ada.Request("GET", "/v1/events", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	lines := bufio.NewScanner(events.Body)
	told := func(want string) {
		t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && strings.Contains(data, "damaged") {
				if data != want {
					t.Errorf("told %s, want %s", data, want)
				}
				return
			}
		}
		t.Fatalf("nothing was told: %v", lines.Err())
	}
	resp, err := b.Client.Do(ada.Request("GET", "/v1/files/film.mp4", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := flip(b, content, 8*(len(content)-5)); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(resp.Body)
	if err == nil || len(rest)+1<<20 >= len(content) {
		t.Errorf("the reader got %d of %d bytes and %v", len(rest)+1<<20, len(content), err)
	}
	resp.Body.Close()
	told(`{"damaged":1}`)
	var list struct {
		Damaged int64
		Files   []struct {
			Item   struct{ Path string }
			Damage string
		}
	}
	ask(ada, "GET", "/v1/damaged", "").is(t, "damaged", 200, "").into(t, &list)
	if list.Damaged != 1 || len(list.Files) != 1 || list.Files[0].Item.Path != "film.mp4" || list.Files[0].Damage != "bytes" {
		t.Errorf("%+v", list)
	}
	ask(bob, "GET", "/v1/damaged", "").is(t, "another's damage", 200, "").into(t, &list)
	if list.Damaged != 0 || len(list.Files) != 0 {
		t.Errorf("bob learns of ada's files: %+v", list)
	}
	ask(ada, "GET", "/v1/files/film.mp4", "", "Range", "bytes=0-9").is(t, "a part", 500, "damaged")
	put(t, ada, "film.mp4", content)
	told(`{"damaged":0}`)
	if r := ask(ada, "GET", "/v1/files/film.mp4", ""); r.status != 200 || string(r.body) != content {
		t.Errorf("it was not healed: %d, %d bytes", r.status, len(r.body))
	}
}

// A run goes on after a restart of the box, and damage stays on the list.
func TestDamageSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	put(t, ada, "a.jpg", "the only copy")
	if err := os.Truncate(blobPath(b, "the only copy"), 0); err != nil {
		t.Fatal(err)
	}
	b.LocalLines("POST", "/local/scrub", map[string]any{"whole": true, "wait": true})
	b.Restart()
	ask(ada, "GET", "/v1/files/a.jpg", "").is(t, "an emptied file", 500, "damaged")
	if lines := b.LocalLines("POST", "/local/repair", map[string]any{}); len(lines) != 2 || !strings.Contains(string(lines[0]), `"waiting"`) {
		t.Errorf("%s", lines)
	}
	put(t, ada, "a.jpg", "the only copy")
	if lines := b.LocalLines("POST", "/local/repair", map[string]any{}); len(lines) != 1 || !strings.Contains(string(lines[0]), `"healed":0,"waiting":0`) {
		t.Errorf("%s", lines)
	}
	var list struct {
		Damage []struct {
			State, Ending string
			By            string `json:"found_by"`
		}
	}
	b.Local("GET", "/local/damage", nil, &list)
	if len(list.Damage) != 1 || list.Damage[0].State != "healed" || list.Damage[0].Ending != "upload" || list.Damage[0].By != "scrub" {
		t.Errorf("%+v", list)
	}
}

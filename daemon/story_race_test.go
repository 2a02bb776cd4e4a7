package daemon_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/storage/vfs/vfstest"
)

// tryPut sends a file from the album beside the test and returns the status, 0
// if there was no answer.
func tryPut(ctx context.Context, p *daemontest.Person, path, content string, headers ...string) int {
	r, err := http.NewRequestWithContext(ctx, "PUT", p.Box().URL+"/v1/files/"+path+"?source=album", strings.NewReader(content))
	if err != nil {
		return 0
	}
	r.Header.Set("Authorization", "Bearer "+p.Token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.Box().Client.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// R13: one person deletes for good what another is just sending. Whoever was
// told "stored" has it, however the two fall together.
func TestWhatOneDeletesAnotherKeeps(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada, bob := b.Bind(), b.AddPerson("bob")
	ada.Grant("album_backup")
	bob.Grant("album_backup")
	for round := range 25 {
		content := fmt.Sprintf("the photo of round %d", round)
		name := fmt.Sprintf("%d.jpg", round)
		put(t, bob, name, content)
		var page struct{ Items []struct{ ID string } }
		ask(bob, "GET", "/v1/items", "").is(t, "items", 200, "").into(t, &page)
		var group sync.WaitGroup
		group.Go(func() {
			ask(bob, "DELETE", "/v1/files/"+name, "")
			ask(bob, "DELETE", "/v1/items/"+page.Items[0].ID, "")
		})
		var status int
		group.Go(func() {
			for range round % 5 { // at different moments of the deletion
				tryPut(t.Context(), ada, "other.jpg", fmt.Sprint("another", round))
			}
			status = tryPut(t.Context(), ada, name, content)
		})
		group.Wait()
		if status != 201 {
			t.Fatalf("round %d: %d", round, status)
		}
		if r := ask(ada, "GET", "/v1/files/"+name, ""); r.status != 200 || string(r.body) != content {
			t.Fatalf("round %d: what ada was told is stored went with bob's: %v", round, r)
		}
	}
	checkDeep(t, b)
}

// checkDeep lets the box compare its records with its disk.
func checkDeep(t *testing.T, b *daemontest.Box) {
	t.Helper()
	for _, line := range b.LocalLines("POST", "/local/check", map[string]any{"deep": true}) {
		if strings.Contains(string(line), `"event":"damage"`) {
			t.Errorf("%s", line)
		}
	}
}

// R22: from the moment at which the withdrawal is answered nothing is added any
// more, whatever was on its way.
func TestNothingComesInAfterAWithdrawal(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	count := func() int {
		var me struct{ Usage struct{ Items int } }
		ask(ada, "GET", "/v1/me", "").is(t, "me", 200, "").into(t, &me)
		return me.Usage.Items
	}
	for round := range 6 {
		ada.Grant("album_backup")
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		var stored, refused atomic.Int64
		for phone := range 4 {
			group.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					switch tryPut(ctx, ada, fmt.Sprintf("%d/%d/%d.jpg", round, phone, i), fmt.Sprint(round, phone, i, strings.Repeat("x", 20_000))) {
					case 201:
						stored.Add(1)
					case 403:
						refused.Add(1)
					}
				}
			})
		}
		for deadline := time.Now().Add(2 * time.Minute); stored.Load() < int64(5+3*round) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		ada.Withdraw("album_backup")
		then := count()
		// The phones go on trying until each of them was refused several times.
		for deadline := time.Now().Add(2 * time.Minute); refused.Load() < 20; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the phones are not refused")
			}
		}
		stop()
		group.Wait()
		if now := count(); now != then {
			t.Fatalf("round %d: %d files at the withdrawal, %d after it", round, then, now)
		}
	}
	checkDeep(t, b)
}

// Of many who take one free name at once, one gets it, and nobody's bytes are
// mixed with another's.
func TestOneNameForMany(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	const many = 12
	contentOf := func(i int) string { return strings.Repeat(fmt.Sprintf("%02d", i), 40_000) }
	statuses := make([]int, many)
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() { statuses[i] = tryPut(t.Context(), ada, "new.jpg", contentOf(i), "If-None-Match", "*") })
	}
	group.Wait()
	winner := -1
	for i, status := range statuses {
		switch {
		case status == 201 && winner < 0:
			winner = i
		case status != 412:
			t.Errorf("%d: %d", i, status)
		}
	}
	if winner < 0 {
		t.Fatal("nobody got the name")
	}
	r := ask(ada, "GET", "/v1/files/new.jpg", "").is(t, "the winner's", 200, "")
	if string(r.body) != contentOf(winner) {
		t.Error("the name holds other bytes than the winner's")
	}
	// Without a condition all are kept: the last as the file, the others as versions.
	for i := range many {
		group.Go(func() { statuses[i] = tryPut(t.Context(), ada, "all.jpg", contentOf(i)) })
	}
	group.Wait()
	var page struct {
		Items []struct{ ID, Path, SHA256 string }
	}
	ask(ada, "GET", "/v1/items", "").is(t, "items", 200, "").into(t, &page)
	seen := map[string]bool{}
	for _, item := range page.Items {
		if item.Path != "all.jpg" {
			continue
		}
		seen[item.SHA256] = true
		var list struct{ Versions []struct{ SHA256 string } }
		ask(ada, "GET", "/v1/items/"+item.ID+"/versions", "").is(t, "versions", 200, "").into(t, &list)
		for _, v := range list.Versions {
			seen[v.SHA256] = true
		}
	}
	for i, status := range statuses {
		if status/100 != 2 || !seen[sumOf(contentOf(i))] {
			t.Errorf("%d was told %d, and its content is kept: %v", i, status, seen[sumOf(contentOf(i))])
		}
	}
}

// Four connections fight for one upload, each of which breaks off somewhere, as
// a phone does that changes between networks. Bytes are never mixed up, and one
// of them ends it.
func TestManyConnectionsForOneUpload(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	rng := vfstest.Seed(t)
	var film strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&film, "%07d ", i)
	}
	body := film.String()
	for round := range 3 {
		path := fmt.Sprintf("film %d.mp4", round)
		address := ask(ada, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(len(body)),
			"Upload-Metadata", "path "+b64(path)+",source "+b64("album")).is(t, "creation", 201, "").header.Get("Location")
		var group sync.WaitGroup
		var ends atomic.Int64
		for range 4 {
			cuts := rand.New(rand.NewPCG(rng.Uint64(), 0))
			group.Go(func() {
				for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
					offset, stored := upload(t.Context(), ada, address, body, -1, 0)
					if stored {
						ends.Add(1)
						return
					}
					if offset >= 0 {
						upload(t.Context(), ada, address, body, offset, 1+cuts.IntN(len(body)/3))
					}
				}
			})
		}
		group.Wait()
		if ends.Load() != 4 {
			t.Fatalf("round %d: %d of 4 connections saw the end", round, ends.Load())
		}
		if r := ask(ada, "GET", "/v1/files/"+strings.ReplaceAll(path, " ", "%20"), ""); r.status != 200 || string(r.body) != body {
			t.Fatalf("round %d: the film is another: %d, %d bytes of %d", round, r.status, len(r.body), len(body))
		}
	}
	checkDeep(t, b)
}

// upload sends n bytes of body from offset on and breaks off, if there are more;
// with offset -1 it asks only. It returns where the upload stands, -1 if the box
// did not say, and whether the file is stored.
func upload(ctx context.Context, p *daemontest.Person, address, body string, offset, n int) (at int, stored bool) {
	method, in := "HEAD", io.Reader(nil)
	if offset >= 0 {
		method = "PATCH"
		in = strings.NewReader(body[offset:])
		if offset+n < len(body) {
			in = io.MultiReader(strings.NewReader(body[offset:offset+n]), iotest.ErrReader(io.ErrUnexpectedEOF))
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, address, in)
	if err != nil {
		return -1, false
	}
	r.Header.Set("Authorization", "Bearer "+p.Token)
	r.Header.Set("Tus-Resumable", "1.0.0")
	if offset >= 0 {
		r.Header.Set("Upload-Offset", strconv.Itoa(offset))
		r.Header.Set("Content-Type", "application/offset+octet-stream")
		r.ContentLength = int64(len(body) - offset)
	}
	resp, err := p.Box().Client.Do(r)
	if err != nil {
		return -1, false
	}
	resp.Body.Close()
	at, err = strconv.Atoi(resp.Header.Get("Upload-Offset"))
	if err != nil {
		return -1, false
	}
	return at, resp.Header.Get("Yunbox-Item") != ""
}

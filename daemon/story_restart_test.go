package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

// A second daemon on the same state directory is refused, and the first does not
// even notice.
func TestTwoDaemonsOnOneState(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("album_backup")
	put(t, ada, "a.jpg", "photo")
	for range 2 {
		err := open(t, b.State)
		if problem.KindOf(err) != problem.Locked {
			t.Fatalf("a second daemon was let in: %v", err)
		}
		if p := problem.As(err); p.Hint == "" || !strings.Contains(problem.Sentence(err), b.State) {
			t.Errorf("it is not told which state directory is taken, or what to do: %v", problem.Sentence(err))
		}
		put(t, ada, "b.jpg", "another")
		if r := ask(ada, "GET", "/v1/files/a.jpg", ""); string(r.body) != "photo" {
			t.Error(r)
		}
	}
	var status struct{ Bound bool }
	b.Local("GET", "/local/status", nil, &status) // its socket was not taken away either
	if !status.Bound {
		t.Errorf("%+v", status)
	}
	b.Stop()
	if err := open(t, b.State); err != nil {
		t.Errorf("a stopped box still holds its state: %v", err)
	}
}

// Sessions, app tokens, consents, devices, uploads and the box's own key are the
// same after a restart, and after a kill.
func TestARestartForgetsNothing(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	ask(ada, "DELETE", "/v1/consents/storage", "").is(t, "withdrawal", 200, "")
	var app, lost, device struct{ ID, Token string }
	ask(ada, "POST", "/v1/devices", `{"name":"phone","kind":"phone"}`).is(t, "device", 201, "").into(t, &device)
	ask(ada, "POST", "/v1/tokens", `{"name":"camera","scope":"files"}`).is(t, "token", 201, "").into(t, &app)
	ask(ada, "POST", "/v1/tokens", `{"name":"lost","scope":"full"}`).is(t, "token", 201, "").into(t, &lost)
	ask(ada, "DELETE", "/v1/tokens/"+lost.ID, "").is(t, "revoke", 204, "")
	put(t, ada, "a.jpg", "photo")
	put(t, ada, "a.jpg", "edited photo")
	put(t, ada, "gone.jpg", "rubbish")
	ask(ada, "DELETE", "/v1/files/gone.jpg", "").is(t, "trash", 204, "")
	tus := []string{"Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream"}
	film := strings.Repeat("film ", 100_000)
	address := ask(ada, "POST", "/v1/uploads", "", append(tus, "Upload-Length", strconv.Itoa(len(film)),
		"Upload-Metadata", "path "+b64("film.mp4")+",source "+b64("album")+",sha256 "+b64(sumOf(film)))...).is(t, "creation", 201, "").header.Get("Location")
	address = strings.TrimPrefix(address, b.URL)

	offset := 0
	for i, again := range []func(){b.Restart, func() { b.Crash(nil) }, b.Restart} {
		// Some more of the film, which is not stored before all of it is here.
		part := film[offset : offset+70_001]
		ask(ada, "PATCH", address, part, append(tus, "Upload-Offset", strconv.Itoa(offset))...).is(t, "a part", 204, "")
		offset += len(part)
		before := picture(t, b, ada)
		again()
		if after := picture(t, b, ada); after != before {
			t.Errorf("restart %d:\n%s\nbecame\n%s", i, before, after)
		}
		if got := ask(ada, "HEAD", address, "", tus...).header.Get("Upload-Offset"); got != strconv.Itoa(offset) {
			t.Fatalf("restart %d: %d bytes were acknowledged, the upload stands at %q", i, offset, got)
		}
		ask(ada, "GET", "/v1/files/film.mp4", "").is(t, "half a film", 404, "not-found")
		ask(ada.With(lost.Token), "GET", "/v1/me", "").is(t, "a revoked token", 401, "unauthenticated")
		ask(ada.With(app.Token), "GET", "/v1/me", "").is(t, "an app token", 200, "")
		ask(ada, "PUT", "/v1/files/x.jpg?source=other", "x").is(t, "a withdrawn consent", 403, "consent-required")
	}
	last := ask(ada, "PATCH", address, film[offset:], append(tus, "Upload-Offset", strconv.Itoa(offset))...).is(t, "the rest", 204, "")
	if last.header.Get("Yunbox-Sha256") != sumOf(film) {
		t.Errorf("%v", last.header)
	}
	if r := ask(ada, "GET", "/v1/files/film.mp4", ""); string(r.body) != film {
		t.Error("the film is another after it was put together over three restarts")
	}
	// The person who signs out is out, whatever is started anew.
	ask(ada, "DELETE", "/v1/session", "").is(t, "sign out", 204, "")
	b.Restart()
	ask(ada, "GET", "/v1/me", "").is(t, "an ended session", 401, "unauthenticated")
	b.SignIn("ada")
}

// picture is all that should be the same after a restart.
func picture(t *testing.T, b *daemontest.Box, p *daemontest.Person) string {
	t.Helper()
	var s strings.Builder
	for _, target := range []string{
		"/.well-known/yunbox", "/v1/me", "/v1/consents", "/v1/consents/receipts", "/v1/devices", "/v1/items?recursive=true", "/v1/items?trash=true",
		"/v1/files/a.jpg",
	} {
		r := ask(p, "GET", target, "")
		if r.status != 200 {
			t.Errorf("%s: %v", target, r)
		}
		fmt.Fprintf(&s, "%s %s\n", target, r.body)
	}
	ca, err := os.ReadFile(filepath.Join(b.State, "keys", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	s.Write(ca)
	var verdict struct {
		Entries int64
		Head    string
		Bad     any
	}
	b.Local("GET", "/local/audit/verify", nil, &verdict)
	fmt.Fprintf(&s, "audit %+v\n", verdict)
	return s.String()
}

// A start asks the disk for no more when there are more files.
func TestAStartDoesNotLookAtEveryFile(t *testing.T) { // R05
	t.Parallel()
	disk := vfstest.NewDisk()
	b := daemontest.StartOn(t, t.TempDir(), disk)
	ada := b.Bind()
	ada.Grant("album_backup")
	calls := func() int {
		t.Helper()
		b.Stop()
		before := disk.Calls(vfstest.OpAny)
		b.Restart()
		return disk.Calls(vfstest.OpAny) - before
	}
	put(t, ada, "first.jpg", "first")
	few := calls()
	for i := range 150 {
		put(t, ada, fmt.Sprintf("%d.jpg", i), strconv.Itoa(i))
	}
	// What a box does beside its start, a look or two, may come before or after it is ready.
	if many := calls(); many > few+10 {
		t.Errorf("a start makes %d calls with one file and %d with 151", few, many)
	}
}

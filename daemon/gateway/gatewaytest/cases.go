package gatewaytest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// cases run in this order on one box whose blobs are on the real disk.
var cases = []testCase{
	{"new", aNewFile},
	{"known", aKnownFile},
	{"cut", aCutConnection},
	{"resumed", aResumedUpload},
	{"cancelled", aCancelledUpload},
	{"hanging", aHangingConnection},
	{"hash", aWrongHash},
	{"short", aShortBody},
	{"long", aLongBody},
	{"sizes", absurdSizes},
	{"versions", sameNameOtherBytes},
	{"consent", noConsent},
	{"sources", unknownSources},
	{"found sources", foundSources},
	{"withdrawn", consentWithdrawnMidway},
	{"paused", consentWithdrawnInAPause},
	{"names", names},
	{"deleted", deletedByItsOwner},
	{"ledger", whatBecameOfIt},
	{"others", otherPeople},
	{"quota", quota},
	{"tokens", tokens},
	{"restart", aRestartedBox},
	{"killed", aKilledBox},
}

// R01: what was sent is there, byte for byte, whatever its length.
func aNewFile(s *suite) {
	for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 3<<20 + 7} {
		name := fmt.Sprintf("%d.jpg", n)
		body := content(s.Name()+name, n)
		before := s.status()
		s.isKnown(s.put(s.file(name, body), body), false, "bytes that nobody sent before")
		if after := s.status(); after.Blobs != before.Blobs+1 || after.Items != before.Items+1 {
			s.Errorf("%d bytes: %+v became %+v", n, before, after)
		}
	}
	body := content(s.Name()+"unsaid", 100<<10)
	f := s.file("unsaid.jpg", body)
	f.Size = -1
	s.put(f, body)
	f = s.file("proven.jpg", content(s.Name()+"proven", 100<<10))
	f.SHA256 = sum(content(s.Name()+"proven", 100<<10))
	s.put(f, content(s.Name()+"proven", 100<<10))
}

// R13: one content is kept once, under as many names as its owner gives it.
func aKnownFile(s *suite) {
	body := content(s.Name(), 200<<10)
	s.put(s.file("a.jpg", body), body)
	s.unchanged(func() {
		s.isKnown(s.put(s.file("a.jpg", body), body), true, "the same file under the same name")
	})
	blobs, items := s.status().Blobs, len(s.items(s.ada))
	s.isKnown(s.put(s.file("copy of a.jpg", body), body), true, "the same content under another name")
	if got := s.status().Blobs; got != blobs {
		s.Errorf("%d contents were kept, now %d", blobs, got)
	}
	if got := len(s.items(s.ada)); got != items+1 {
		s.Errorf("%d files were listed, now %d", items, got)
	}
}

// A connection that breaks leaves nothing that anybody could see, wherever it
// breaks.
func aCutConnection(s *suite) {
	body := content(s.Name(), 300<<10)
	at := []int{1, len(body) - 1}
	for n := 64 << 10; n < len(body); n += 64 << 10 {
		at = append(at, n)
	}
	for _, n := range at {
		name := fmt.Sprintf("cut at %d.jpg", n)
		s.unchanged(func() {
			f := s.file(name, body)
			f.Body = cutAt(body, n)
			if _, err := s.client.Put(s.Context(), f); err == nil {
				s.Fatalf("%d of %d bytes came, and the box said stored", n, len(body))
			}
			s.quiet()
			s.absent(f.Path)
		})
	}
	s.put(s.file("whole.jpg", body), body)
}

// resumable skips nothing silently: what a protocol cannot do is its own answer.
func (s *suite) resumable(f File) bool {
	s.Helper()
	_, err := s.client.Resume(s.Context(), f)
	if errors.Is(err, errors.ErrUnsupported) {
		s.Log("this protocol cannot go on with an upload: it sends the file again")
		return false
	}
	return true
}

// An upload that broke off several times goes on from where it stood.
func aResumedUpload(s *suite) {
	body := content(s.Name(), 1<<20+11)
	f := s.file("a.mp4", body)
	f.SHA256 = sum(body)
	f.Body = cutAt(body, 200<<10)
	if _, err := s.client.Put(s.Context(), f); err == nil {
		s.Fatal("a cut upload was stored")
	}
	s.quiet()
	f.Body = cutAt(body, 500<<10)
	if !s.resumable(f) {
		f.Body = from(body)
		s.put(f, body)
		return
	}
	s.absent(f.Path)
	s.quiet()
	f.Body = cutAt(body, len(body)-1)
	if _, err := s.client.Resume(s.Context(), f); err == nil {
		s.Fatal("a cut upload was stored")
	}
	s.quiet()
	s.absent(f.Path)
	f.Body = from(body)
	r, err := s.client.Resume(s.Context(), f)
	if err != nil {
		s.Fatal(err)
	}
	if r.Resumed < 900<<10 || r.SHA256 != sum(body) {
		s.Errorf("it went on from %d of %d bytes: %+v", r.Resumed, len(body), r)
	}
	s.kept(f.Path, body)
	// The last answer may be lost, too: whoever asks again is told the same.
	again, err := s.client.Resume(s.Context(), f)
	if err != nil || again.SHA256 != r.SHA256 || again.Known != r.Known {
		s.Errorf("asked again: %+v, %v; the first answer was %+v", again, err, r)
	}
}

// What is given up is gone, and frees its name and its room.
func aCancelledUpload(s *suite) {
	body := content(s.Name(), 300<<10)
	f := s.file("a.mp4", body)
	f.Body = cutAt(body, 200<<10)
	s.unchanged(func() {
		if _, err := s.client.Put(s.Context(), f); err == nil {
			s.Fatal("a cut upload was stored")
		}
		s.quiet()
		s.cancel(f)
		f.Body = from(body)
		if _, err := s.client.Resume(s.Context(), f); err == nil {
			s.Error("a cancelled upload went on")
		}
		s.absent(f.Path)
	})
	s.put(f, body)
}

// A phone that comes back does not wait for the connection that it lost.
func aHangingConnection(s *suite) {
	body := content(s.Name(), 600<<10)
	f := s.file("a.mp4", body)
	g := newGate(body, 300<<10)
	defer close(g.open)
	f.Body = g.Body
	first := make(chan error, 1)
	go func() {
		_, err := s.client.Put(s.Context(), f)
		first <- err
	}()
	s.reach(g)
	f.Body = from(body)
	r, err := s.client.Resume(s.Context(), f)
	if errors.Is(err, errors.ErrUnsupported) {
		if _, err := s.client.Put(s.Context(), f); err != nil {
			s.Fatal(err)
		}
		s.kept(f.Path, body)
		return
	}
	if err != nil || r.SHA256 != sum(body) {
		s.Fatalf("%+v, %v", r, err)
	}
	s.kept(f.Path, body)
	if err := s.wait(first); err == nil {
		s.Error("the connection that hung was told that it stored the file")
	}
}

// reach waits until all before the gate has been sent.
func (s *suite) reach(g *gate) {
	s.Helper()
	select {
	case <-g.reached:
	case <-time.After(2 * time.Minute):
		s.Fatal("the body was not asked for within two minutes")
	}
}

// wait returns what a client that runs beside the test got.
func (s *suite) wait(c chan error) error {
	s.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(2 * time.Minute):
		s.Fatal("no answer within two minutes")
		return nil
	}
}

// Bytes that are not the announced ones are not kept.
func aWrongHash(s *suite) {
	body, other := content(s.Name(), 150<<10), content(s.Name()+"other", 150<<10)
	f := s.file("a.jpg", body)
	f.SHA256 = sum(other)
	s.unchanged(func() {
		_, err := s.client.Put(s.Context(), f)
		s.refused("bytes with another hash", err, "mismatch")
		s.absent(f.Path)
	})
	f.SHA256 = sum(body)
	s.put(f, body)
}

// A body that ends before it should is no file.
func aShortBody(s *suite) {
	body := content(s.Name(), 100<<10)
	f := s.file("a.jpg", body)
	f.Body = endAt(body, 70<<10)
	s.unchanged(func() {
		if r, err := s.client.Put(s.Context(), f); err == nil {
			s.Errorf("70 of 100 KiB came, and the box said stored: %+v", r)
		}
		s.absent(f.Path)
	})
}

// More bytes than announced: what was meant is not known, so nothing is kept.
func aLongBody(s *suite) {
	body := content(s.Name(), 100<<10)
	f := s.file("a.jpg", body)
	f.Size, f.SHA256 = 70<<10, sum(body)
	s.unchanged(func() {
		if r, err := s.client.Put(s.Context(), f); err == nil {
			s.Errorf("100 of 70 KiB came, and the box said stored: %+v", r)
		}
		s.absent(f.Path)
	})
}

// Sizes that no file has are refused at once, and never with a fault of the box.
func absurdSizes(s *suite) {
	for _, size := range []string{
		"-1", "-9223372036854775808", "1099511627777", "9223372036854775807", "9223372036854775808",
		"18446744073709551616", "1e3", "0x10", "+5", "5,5", "five",
	} {
		s.unchanged(func() {
			f := s.file("absurd.jpg", nil)
			err := s.client.Announce(s.Context(), f, size)
			var r *Refusal
			if !errors.As(err, &r) || r.Status < 400 || r.Status > 499 {
				s.Errorf("a file of %s bytes: %v", size, err)
			}
			s.absent(f.Path)
		})
	}
	if err := s.client.Announce(s.Context(), s.file("possible.jpg", nil), "1000"); err != nil {
		s.Errorf("a file of 1000 bytes: %v", err)
	}
}

// R01: an edited photo under the same name does not destroy the first.
func sameNameOtherBytes(s *suite) {
	first, second := content(s.Name()+"1", 90<<10), content(s.Name()+"2", 80<<10)
	s.put(s.file("a.jpg", first), first)
	items := len(s.items(s.ada))
	s.put(s.file("a.jpg", second), second)
	if now := len(s.items(s.ada)); now != items {
		s.Errorf("%d files were listed, now %d", items, now)
	}
	var id string
	for _, i := range s.items(s.ada) {
		if i.Path == s.path("a.jpg") {
			id = i.ID
		}
	}
	var list struct{ Versions []struct{ SHA256 string } }
	s.ada.Call("GET", "/v1/items/"+id+"/versions", nil, &list)
	if len(list.Versions) != 1 || list.Versions[0].SHA256 != sum(first) {
		s.Errorf("the first content is not among the versions: %+v", list)
	}
	if known := s.known(s.ada, first, second); len(known) != 2 {
		s.Errorf("of both contents the box knows %v", known)
	}
}

// known asks which contents the person need not send.
func (s *suite) known(p *daemontest.Person, bodies ...[]byte) []string {
	s.Helper()
	var question struct {
		SHA256 []string `json:"sha256"`
	}
	for _, b := range bodies {
		question.SHA256 = append(question.SHA256, sum(b))
	}
	var answer struct{ Known []string }
	p.Call("POST", "/v1/blobs/known", question, &answer)
	return answer.Known
}

// R20: what was not consented to is refused before a byte of it is sent, with
// the purpose and the place to consent; and a yes to one thing is not a yes to
// another.
func noConsent(s *suite) {
	s.unchanged(func() {
		for _, tt := range []struct {
			who             *daemontest.Person
			source, purpose string
		}{
			{s.bob, "album", "album_backup"}, {s.bob, "other", "storage"},
			{s.ada, "wechat", "wechat_backup"}, {s.ada, "qq", "qq_backup"}, {s.ada, "tim", "qq_backup"},
		} {
			f := s.file("private.jpg", content(s.Name(), 50<<10))
			f.Source = tt.source
			client := s.connect(s, tt.who)
			what := tt.source + " of " + tt.who.Name
			r := s.refused(what, client.Announce(s.Context(), f, "1000000"), "consent-required")
			if r.Member["purpose"] != tt.purpose || r.Member["grant_url"] != "/v1/consents/"+tt.purpose {
				s.Errorf("%s: the refusal does not say where to consent: %+v", what, r)
			}
			_, err := client.Put(s.Context(), f)
			s.refused(what, err, "consent-required")
		}
		if n := len(s.items(s.bob)); n != 0 {
			s.Errorf("bob never agreed to anything and has %d files", n)
		}
	})
}

func unknownSources(s *suite) {
	s.unchanged(func() {
		for _, source := range []string{"facebook", "ALBUM", "album ", "album_backup"} {
			f := s.file("a.jpg", content(s.Name(), 1000))
			f.Source = source
			s.refused(source, s.client.Announce(s.Context(), f, "1000"), "invalid")
			_, err := s.client.Put(s.Context(), f)
			s.refused(source, err, "invalid")
		}
	})
}

// R06: where the client does not say where a file comes from, its names do, and
// they decide which consent it needs, before a byte of it is sent.
func foundSources(s *suite) {
	undeclared := func(name string, body []byte) File {
		f := s.file(name, body)
		f.Source = ""
		return f
	}
	s.unchanged(func() {
		for name, purpose := range map[string]string{
			"Pictures/WeiXin/a.jpg": "wechat_backup", "DCIM/Camera/mmexport1598266474988.jpg": "wechat_backup",
			"Tencent/QQfile_recv/a.zip": "qq_backup", "TIM图片20200101120000.png": "qq_backup",
		} {
			f := undeclared(name, content(s.Name()+name, 50<<10))
			r := s.refused(name, s.client.Announce(s.Context(), f, "1000000"), "consent-required")
			if r.Member["purpose"] != purpose {
				s.Errorf("%s: the refusal names %q, not %s", name, r.Member["purpose"], purpose)
			}
			_, err := s.client.Put(s.Context(), f)
			s.refused(name, err, "consent-required")
		}
	})
	wants := map[string][3]string{ // source, how it is known, when it was taken
		"DCIM/Camera/a.jpg":            {"album", "folder", ""},
		"IMG_20260501_123000.jpg":      {"album", "name", "2026-05-01T12:30:00Z"},
		"DCIM/100CANON/b.jpg":          {"camera", "folder", ""},
		"Screenshot_1598266474988.png": {"screenshot", "name", "2020-08-24T10:54:34.988Z"},
		"IMG_0001.JPG":                 {"album", "guess", ""},
		"letter.pdf":                   {"other", "none", ""},
	}
	for name := range wants {
		body := content(s.Name()+name, 10<<10)
		if _, err := s.client.Put(s.Context(), undeclared(name, body)); err != nil {
			s.Errorf("%s: %v", name, err)
		}
		s.kept(s.path(name), body)
	}
	found := 0
	for _, i := range s.items(s.ada) {
		want, ok := wants[strings.TrimPrefix(i.Path, s.folder+"/")]
		if !ok || !strings.HasPrefix(i.Path, s.folder+"/") {
			continue
		}
		found++
		taken := ""
		if i.Taken != nil {
			taken = i.Taken.Format(time.RFC3339Nano)
		}
		if got := [3]string{i.Source, i.SourceBy, taken}; got != want {
			s.Errorf("%s is listed as %v, want %v", i.Path, got, want)
		}
		if (i.TakenFrom == "name") != (taken != "") || i.TakenLocal != strings.HasPrefix(taken, "2026") {
			s.Errorf("%s: taken from %q, local %v", i.Path, i.TakenFrom, i.TakenLocal)
		}
	}
	if found != len(wants) {
		s.Errorf("%d of %d are listed", found, len(wants))
	}
}

// R22: withdrawing stops what runs, at once and for good, and nothing else.
func consentWithdrawnMidway(s *suite) {
	body := content(s.Name(), 400<<10)
	album, camera := newGate(body, 200<<10), newGate(content(s.Name()+"camera", 400<<10), 200<<10)
	defer close(album.open)
	type running struct {
		f    File
		done chan error
	}
	begin := func(name, source string, g *gate) running {
		f := s.file(name, g.body)
		f.Source, f.Body = source, g.Body
		r := running{f, make(chan error, 1)}
		go func() {
			_, err := s.connect(s, s.ada).Put(s.Context(), f)
			r.done <- err
		}()
		s.reach(g)
		return r
	}
	// Both clients are of their own: the one that is refused is asked again later.
	cameraRun := begin("shot.jpg", "camera", camera)
	client := s.client
	f := s.file("photo.jpg", body)
	f.Body = album.Body
	done := make(chan error, 1)
	go func() {
		_, err := client.Put(s.Context(), f)
		done <- err
	}()
	s.reach(album)
	blobs := s.status().Blobs
	s.ada.Withdraw("album_backup")
	// The answer, or the end of the connection, comes without another byte.
	if err := s.wait(done); err == nil {
		s.Fatal("the upload of a withdrawn consent was stored")
	} else if r := (*Refusal)(nil); errors.As(err, &r) && r.Kind != "consent-required" {
		s.Errorf("the person is told %v", r)
	}
	s.absent(f.Path)
	if now := s.status().Blobs; now != blobs {
		s.Errorf("%d contents were kept before the withdrawal, %d after it", blobs, now)
	}
	f.Body = from(body)
	if _, err := client.Resume(s.Context(), f); err == nil {
		s.Error("the upload went on after the withdrawal")
	}
	// Neither does a new consent bring the stopped upload back.
	s.ada.Grant("album_backup")
	if _, err := client.Resume(s.Context(), f); err == nil {
		s.Error("an upload that was stopped by a withdrawal was finished under a later consent")
	}
	s.absent(f.Path)
	close(camera.open)
	if err := s.wait(cameraRun.done); err != nil {
		s.Errorf("an upload for another purpose did not survive: %v", err)
	}
	s.kept(cameraRun.f.Path, camera.body)
	s.put(f, body)
}

// R22: what was paused when its consent was withdrawn is gone from the disk, and a later
// consent does not bring it back.
func consentWithdrawnInAPause(s *suite) {
	body := content(s.Name(), 400<<10)
	f := s.file("photo.jpg", body)
	before := s.staged()
	f.Body = cutAt(body, 200<<10)
	if _, err := s.client.Put(s.Context(), f); err == nil {
		s.Fatal("a cut upload was stored")
	}
	s.quiet()
	paused := s.staged()
	s.ada.Withdraw(s.purpose)
	s.eventually("what was paused is gone", func() bool { return s.staged() <= before })
	f.Body = from(body)
	var r *Refusal
	_, err := s.client.Resume(s.Context(), f)
	if errors.Is(err, errors.ErrUnsupported) {
		if paused > before {
			s.Errorf("%d files waited, %d in the pause, and nobody can go on with one", before, paused)
		}
	} else if !errors.As(err, &r) {
		s.Errorf("going on without consent: %v", err)
	}
	_, err = s.client.Put(s.Context(), f)
	s.refused("beginning anew without consent", err, "consent-required")
	s.ada.Grant(s.purpose)
	if _, err := s.client.Resume(s.Context(), f); err == nil {
		s.Error("what a withdrawal ended went on under a later consent")
	}
	s.absent(f.Path)
}

// staged counts the files of the box that wait to be gone on with.
func (s *suite) staged() int {
	s.Helper()
	list, err := os.ReadDir(filepath.Join(s.box.State, "staging"))
	if err != nil {
		s.Fatal(err)
	}
	n := 0
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".state") {
			n++
		}
	}
	return n
}

// R26: a person asks for other people's contents and learns nothing, neither by
// asking nor by sending.
func otherPeople(s *suite) {
	body, own := content(s.Name(), 120<<10), content(s.Name()+"own", 1000)
	f := s.file("a.jpg", body)
	s.put(f, body)
	s.bob.Grant("storage", s.purpose)
	defer func() { s.bob.Withdraw("storage"); s.bob.Withdraw(s.purpose) }()
	if known := s.known(s.bob, body, own); len(known) != 0 {
		s.Errorf("bob learns that the box has %v", known)
	}
	bobs := s.connect(s, s.bob)
	var r *Refusal
	if _, err := bobs.Get(s.Context(), f.Path); !errors.As(err, &r) || r.Kind != "not-found" {
		s.Errorf("bob reads ada's file: %v", err)
	}
	blobs := s.status().Blobs
	// To him the content is new, with or without saying its hash first.
	for _, hash := range []string{"", sum(body)} {
		g := f
		g.Path, g.SHA256 = s.path("of bob"+hash+".jpg"), hash
		got, err := bobs.Put(s.Context(), g)
		if err != nil {
			s.Fatal(err)
		}
		s.isKnown(got, hash != "", "to bob, who sends it for the first and the second time") // then it is his
	}
	if now := s.status().Blobs; now != blobs {
		s.Errorf("the same content of two people takes %d blobs more", now-blobs)
	}
	if known := s.known(s.bob, body); len(known) != 1 {
		s.Error("bob's own content is not known to him")
	}
	s.kept(f.Path, body)
	// Ada's file stays hers when bob's goes.
	for _, i := range s.items(s.bob) {
		s.bob.Call("DELETE", "/v1/files/"+escape(i.Path), nil, nil)
		s.bob.Call("DELETE", "/v1/items/"+i.ID, nil, nil)
	}
	s.kept(f.Path, body)
}

// A person's share is a limit that nothing slips past.
func quota(s *suite) {
	var me struct{ Usage struct{ Bytes int64 } }
	s.ada.Call("GET", "/v1/me", nil, &me)
	s.ada.SetQuota(me.Usage.Bytes + 150<<10)
	defer s.ada.SetQuota(-1)
	large := content(s.Name(), 200<<10)
	f := s.file("large.jpg", large)
	s.unchanged(func() {
		full := func(what string, err error) {
			s.Helper()
			// 552 is FTP's word for it.
			if r := s.refused(what, err, "quota"); r.Status != http.StatusInsufficientStorage && r.Status != 552 {
				s.Errorf("%s: status %d", what, r.Status)
			}
		}
		full("announcing too much", s.client.Announce(s.Context(), f, fmt.Sprint(len(large)))) // no byte of the body
		_, err := s.client.Put(s.Context(), f)
		full("sending too much", err)
		unsaid := f
		unsaid.Size = -1
		if _, err = s.client.Put(s.Context(), unsaid); err == nil {
			s.Error("what did not say its size went past the quota")
		}
		s.absent(f.Path)
	})
	// Two uploads of which each fits, but not both.
	names, results := []string{"one.jpg", "two.jpg"}, make(chan error, 2)
	var gates []*gate
	for _, name := range names {
		g := newGate(content(s.Name()+name, 100<<10), 50<<10)
		gates, s.waste[sum(g.body)] = append(gates, g), true
		f := s.file(name, g.body)
		f.Body = g.Body
		client := s.connect(s, s.ada)
		go func() {
			_, err := client.Put(s.Context(), f)
			results <- err
		}()
	}
	for _, g := range gates {
		select {
		case <-g.reached:
		case err := <-results: // refused before its body: the other one counts already
			results <- err
		case <-time.After(2 * time.Minute):
			s.Fatal("the body was not asked for within two minutes")
		}
	}
	for _, g := range gates {
		close(g.open)
	}
	stored := 0
	for range names {
		if err := s.wait(results); err == nil {
			stored++
		} else {
			s.refused("the one that did not fit any more", err, "quota")
		}
	}
	if stored != 1 {
		s.Errorf("%d of two uploads went into a share that has room for one", stored)
	}
	s.ada.SetQuota(-1)
	s.put(f, large)
}

// Nothing opens with what is no credential, or no longer one.
func tokens(s *suite) {
	body := content(s.Name(), 60<<10)
	f := s.file("a.jpg", body)
	s.put(f, body)
	var app, lost struct{ ID, Token string }
	s.ada.Call("POST", "/v1/tokens", map[string]any{"name": "camera", "scope": "files"}, &app)
	s.ada.Call("POST", "/v1/tokens", map[string]any{"name": "lost", "scope": "files"}, &lost)
	s.ada.Call("DELETE", "/v1/tokens/"+lost.ID, nil, nil)
	other := s.box.SignIn("ada")
	other.Call("DELETE", "/v1/session", nil, nil)
	s.unchanged(func() {
		for what, token := range map[string]string{
			"a revoked app token": lost.Token, "a session that was ended": other.Token,
			"garbage": "garbage", "a token that was cut short": app.Token[:len(app.Token)-1],
			"somebody's password": daemontest.Password, "an id instead of a token": app.ID, "a long token": strings.Repeat("a", 8000),
		} {
			client := s.connect(s, s.ada.With(token))
			g := s.file("by a stranger.jpg", body)
			stranger := func(does string, err error) {
				s.Helper()
				if r := (*Refusal)(nil); errors.As(err, &r) && r.Kind == "rate-limited" {
					return // so many tries of one address are not looked at any more
				}
				s.refused(what+does, err, "unauthenticated")
			}
			stranger(" announces", client.Announce(s.Context(), g, "1000"))
			_, err := client.Put(s.Context(), g)
			stranger(" sends", err)
			_, err = client.Get(s.Context(), f.Path)
			stranger(" reads", err)
		}
	})
	// An app token that opens files only is enough for files.
	client := s.connect(s, s.ada.With(app.Token))
	if _, err := client.Put(s.Context(), s.file("by the camera.jpg", body)); err != nil {
		s.Error(err)
	}
	s.kept(s.path("by the camera.jpg"), body)
	if status, _, _ := s.ada.Do(s.ada.With(app.Token).Request(http.MethodGet, "/v1/tokens", nil)); status != http.StatusForbidden {
		s.Errorf("a token for files lists the tokens: %d", status)
	}
}

// A session that nobody uses for a month is over.
func expiredSessions(s *suite) {
	body := content(s.Name(), 60<<10)
	f := s.file("a.jpg", body)
	s.put(f, body)
	s.box.Pass(31 * 24 * time.Hour)
	s.restart(func() {})
	_, err := s.client.Put(s.Context(), s.file("b.jpg", body))
	s.refused("sending in an expired session", err, "unauthenticated")
	_, err = s.client.Get(s.Context(), f.Path)
	s.refused("reading in an expired session", err, "unauthenticated")
	s.refused("announcing in an expired session", s.client.Announce(s.Context(), f, "1000"), "unauthenticated")
	*s.ada = *s.box.SignIn("ada")
	s.client = s.connect(s, s.ada)
	s.kept(f.Path, body)
}

// aRestartedBox: what was acknowledged is there, what was under way goes on.
func aRestartedBox(s *suite) { interrupted(s, s.box.Restart) }

func aKilledBox(s *suite) { interrupted(s, func() { s.box.Crash(nil) }) }

func interrupted(s *suite, stop func()) {
	kept, body := content(s.Name()+"kept", 70<<10), content(s.Name(), 1<<20)
	s.put(s.file("kept.jpg", kept), kept)
	f := s.file("under way.mp4", body)
	f.Body = cutAt(body, 600<<10)
	if _, err := s.client.Put(s.Context(), f); err == nil {
		s.Fatal("a cut upload was stored")
	}
	s.quiet()
	s.restart(stop)
	s.kept(s.path("kept.jpg"), kept)
	s.absent(f.Path)
	f.Body = from(body)
	r, err := s.client.Resume(s.Context(), f)
	if errors.Is(err, errors.ErrUnsupported) {
		s.put(f, body)
		return
	}
	if err != nil || r.SHA256 != sum(body) {
		s.Fatalf("%+v, %v", r, err)
	}
	if r.Resumed < 500<<10 {
		s.Errorf("600 KiB had arrived, it went on from %d", r.Resumed)
	}
	s.kept(f.Path, body)
}

// Across checks that two protocols lead to one box: what was sent by one is known
// to the other, and is one content.
func Across(t *testing.T, a, b Connect) {
	t.Helper()
	box := start(t, nil)
	ada := box.Bind()
	ada.Grant("album_backup", "camera_transfer")
	s := &suite{T: t, box: box, ada: ada, connect: a, folder: "across", source: "album"}
	for _, connect := range []Connect{a, b} {
		if terse, ok := connect(t, ada).(Terse); ok {
			s.speakTersely(terse) // both send to the same place
		}
	}
	for i, order := range [][2]Connect{{a, b}, {b, a}} {
		body := content(fmt.Sprint(t.Name(), i), 130<<10)
		s.client = order[0](t, ada)
		s.hears(s.client)
		s.isKnown(s.put(s.file(fmt.Sprint(i, ".jpg"), body), body), false, "the first")
		before := s.status()
		s.client = order[1](t, ada)
		s.hears(s.client)
		s.isKnown(s.put(s.file(fmt.Sprint(i, ".jpg"), body), body), true, "what came by the other protocol under this name")
		if after := s.status(); after.Items != before.Items || after.Blobs != before.Blobs {
			t.Errorf("the same file again: %+v became %+v", before, after)
		}
		s.isKnown(s.put(s.file(fmt.Sprint(i, " again.jpg"), body), body), true, "what came by the other protocol under another name")
		if after := s.status(); after.Items != before.Items+1 || after.Blobs != before.Blobs {
			t.Errorf("the same content under another name: %+v became %+v", before, after)
		}
	}
	check(t, box, nil)
}

// hears sets what the receipts of c say.
func (s *suite) hears(c Client) {
	terse, ok := c.(Terse)
	s.tellsKnown = !ok || terse.Cannot("known") == ""
}

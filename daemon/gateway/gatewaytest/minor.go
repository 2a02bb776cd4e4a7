package gatewaytest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// Minors holds every way in against what holds for a child (R24): nothing is taken, not
// a byte, until its guardian agreed; what runs stops when the guardian withdraws or is
// its guardian no longer; and a child does not agree by itself.
func Minors(t *testing.T, ways []Way) {
	t.Helper()
	box := start(t, nil)
	ada := box.Bind()
	ada.Grant("storage", "album_backup", "camera_transfer") // what she agreed to for herself is not for the child
	kid := box.AddChild("kid", time.Now().AddDate(9, 0, 0).Format("2006-01"), "ada")
	s := &suite{box: box, ada: kid, bob: ada, waste: map[string]bool{}}
	each := func(what string, ways []Way, run func(w Way)) {
		for _, w := range ways {
			t.Run(what+"/"+w.Name, func(t *testing.T) {
				box.For(t)
				s.T, s.folder, s.connect, s.client = t, w.Name, w.Connect, w.Connect(t, kid)
				s.source, s.purpose, s.tellsKnown = "album", "album_backup", true
				if terse, ok := s.client.(Terse); ok {
					s.speakTersely(terse)
				}
				run(w)
			})
		}
	}
	no := func(what string) {
		each(what, ways, func(Way) {
			f := s.file("private.jpg", content(s.Name(), 50<<10))
			r := s.refused(what, s.client.Announce(s.Context(), f, "1000000"), "consent-required")
			if r.Kind != "" && (!strings.Contains(r.Text, "uardian") || r.Member["grant_url"] != "") {
				s.Errorf("the child is not sent to a guardian: %+v", r)
			}
			_, err := s.client.Put(s.Context(), f)
			s.refused(what, err, "consent-required")
			if n := len(s.items(kid)); n != 0 {
				s.Errorf("%d files were taken", n)
			}
		})
	}
	no("nobody has accepted")
	ada.BecomeGuardian(kid)
	no("nothing was agreed to")
	ada.GrantFor(kid, "storage", "album_backup", "camera_transfer")
	stopped := func(what string, ways []Way, stop, again func(*daemontest.Person)) {
		each(what, ways, func(Way) {
			body := content(s.Name(), 400<<10)
			f := s.file("photo.jpg", body)
			s.put(f, body)
			other := newGate(content(s.Name()+"other", 400<<10), 200<<10)
			defer close(other.open)
			f = s.file("other.jpg", other.body)
			f.Body = other.Body
			done := make(chan error, 1)
			go func() {
				_, err := s.client.Put(s.Context(), f)
				done <- err
			}()
			s.reach(other)
			stop(kid)
			if err := s.wait(done); err == nil {
				s.Fatal("an upload was stored that nobody stands behind any more")
			} else if r := (*Refusal)(nil); errors.As(err, &r) && r.Kind != "" && r.Kind != "consent-required" {
				s.Errorf("the child is told %v", r)
			}
			again(kid)
			s.absent(f.Path)
			s.kept(s.path("photo.jpg"), body)
		})
	}
	stopped("the guardian withdraws", ways[:2], func(*daemontest.Person) { ada.WithdrawFor(kid, s.purpose) },
		func(*daemontest.Person) { ada.GrantFor(kid, s.purpose) })
	stopped("the policy is withdrawn", ways[2:4], func(*daemontest.Person) { ada.WithdrawFor(kid, "storage") },
		func(*daemontest.Person) { ada.GrantFor(kid, "storage") })
	stopped("the guardian is removed", ways, func(*daemontest.Person) { box.Local("DELETE", "/local/guardians/kid/ada", nil, nil) },
		func(*daemontest.Person) {
			box.Local("POST", "/local/guardians/kid", map[string]any{"username": "ada"}, nil)
			ada.BecomeGuardian(kid)
		})
	t.Run("nothing damaged, nothing left over", func(t *testing.T) {
		box.For(t)
		check(t, box, s.waste)
	})
}

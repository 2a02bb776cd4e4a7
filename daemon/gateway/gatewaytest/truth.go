package gatewaytest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What its owner deleted does not come back by a backup, from whatever device,
// under whatever name, until they say so or the time is over; nor does it stay
// away from anybody else.
func deletedByItsOwner(s *suite) {
	_, onPurpose := s.client.(OnPurpose)
	remove := func(path string, forGood bool) {
		s.Helper()
		for _, i := range s.items(s.ada) {
			if i.Path == path {
				s.ada.Call("DELETE", "/v1/files/"+escape(path), nil, nil)
				if forGood {
					s.ada.Call("DELETE", "/v1/items/"+i.ID, nil, nil)
				}
				return
			}
		}
		s.Fatalf("%s is not there", path)
	}
	for what, forGood := range map[string]bool{"trash": false, "for good": true} {
		body := content(s.Name()+what, 120<<10)
		f := s.file(what+".jpg", body)
		s.put(f, body)
		remove(f.Path, forGood)
		other := f
		other.Path = s.path(what + " after a reinstall.jpg")
		if onPurpose {
			s.put(other, body) // a person copied it there: they want it
			remove(other.Path, true)
			s.eventually("its bytes are gone", func() bool { return !forGood || !s.onDisk(body) })
			continue
		}
		s.eventually("its bytes are gone", func() bool { return !forGood || !s.onDisk(body) })
		for _, said := range []string{"", sum(body)} {
			for _, f := range []File{f, other} {
				f.SHA256 = said
				s.unchanged(func() {
					if said != "" {
						s.refused(what, s.client.Announce(s.Context(), f, fmt.Sprint(f.Size)), "deleted")
					}
					_, err := s.client.Put(s.Context(), f)
					r := s.refused(what, err, "deleted")
					if at, err := time.Parse(time.RFC3339, r.Member["deleted"]); err != nil || time.Since(at).Abs() > time.Hour {
						s.Errorf("%s: the refusal does not say when it was deleted: %+v", what, r)
					}
					s.absent(f.Path)
				})
				s.eventually("the declined bytes are gone", func() bool { return !forGood || !s.onDisk(body) })
			}
		}
		elsewhere := other
		elsewhere.Source, elsewhere.Path = "other", s.path(what+" as a file of my own.jpg")
		s.put(elsewhere, body) // what people put there themselves is no backup
		remove(elsewhere.Path, forGood)
		other.Again = true
		s.put(other, body)
		s.put(f, body) // it is kept again, so its other name is no question any more
		remove(f.Path, forGood)
		remove(other.Path, forGood)
		f.SHA256 = sum(body)
		_, err := s.client.Put(s.Context(), f)
		s.refused(what+", again", err, "deleted")
		s.ada.Call("PATCH", "/v1/me", map[string]any{"decline_deleted_days": 0}, nil)
		s.put(f, body)
		s.ada.Call("PATCH", "/v1/me", map[string]any{"decline_deleted_days": 365}, nil)
	}
}

// onDisk says whether the box keeps a content for anybody.
func (s *suite) onDisk(body []byte) bool {
	s.Helper()
	for _, line := range s.box.LocalLines("POST", "/local/check", map[string]any{}) {
		if strings.Contains(string(line), sum(body)) { // as an orphan
			return true
		}
	}
	return false
}

// What a device offered is in its ledger, whatever became of it, and only its own
// person reads it.
func whatBecameOfIt(s *suite) {
	phone := s.box.SignIn("ada")
	var device struct{ ID string }
	phone.Call("POST", "/v1/devices", map[string]any{"name": s.Name(), "kind": "phone"}, &device)
	var token struct{ Token string }
	phone.Call("POST", "/v1/tokens", map[string]any{"name": "phone", "scope": "files", "device": device.ID}, &token)
	client := s.connect(s, s.ada.With(token.Token))
	send := func(name, source string, body []byte, hash string) error {
		f := s.file(name, body)
		f.Source, f.SHA256 = source, hash
		_, err := client.Put(s.Context(), f)
		return err
	}
	body := content(s.Name(), 50<<10)
	for name, err := range map[string]error{"stored": send("a.jpg", "album", body, ""), "known": send("b.jpg", "album", body, "")} {
		if err != nil {
			s.Fatalf("%s: %v", name, err)
		}
	}
	s.refused("without consent", send("secret.jpg", "wechat", content(s.Name()+"secret", 1000), ""), "consent-required")
	s.refused("without consent again", send("secret 2.jpg", "wechat", content(s.Name()+"secret", 1000), ""), "consent-required")
	s.refused("another hash", send("c.jpg", "album", content(s.Name()+"c", 1000), sum([]byte(s.Name()))), "mismatch")
	var me struct{ Usage struct{ Bytes int64 } }
	s.ada.Call("GET", "/v1/me", nil, &me)
	s.ada.SetQuota(me.Usage.Bytes + 1000)
	s.refused("too much", send("d.jpg", "album", content(s.Name()+"d", 50<<10), ""), "quota")
	s.ada.SetQuota(-1)
	type entry struct{ Path, Outcome, Kind, Reason string }
	read := func(query string) (all []entry) {
		s.Helper()
		for cursor := ""; ; {
			var page struct {
				Entries []entry
				Next    *string
			}
			s.ada.Call("GET", "/v1/devices/"+device.ID+"/ledger?limit=2"+query+cursor, nil, &page)
			all = append(all, page.Entries...)
			if page.Next == nil {
				return all
			}
			cursor = "&cursor=" + *page.Next
		}
	}
	want := []entry{
		{s.path("d.jpg"), "declined", "quota", ""}, {s.path("c.jpg"), "failed", "mismatch", ""},
		{"", "declined", "consent-required", ""}, {s.path("b.jpg"), "known", "", ""}, {s.path("a.jpg"), "stored", "", ""},
	}
	equal := func(query string, want ...entry) {
		s.Helper()
		got := read(query)
		for i := range got {
			if got[i].Outcome != "stored" && got[i].Outcome != "known" {
				if got[i].Reason == "" {
					s.Errorf("%+v does not say why", got[i])
				}
				got[i].Reason = ""
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("the ledger%s is\n%v, want\n%v", query, got, want)
		}
	}
	equal("", want...)
	equal("&outcome=declined", want[0], want[2])
	equal("&outcome=failed", want[1])
	equal("&outcome=known", want[3])
	equal("&outcome=stored", want[4])
	if status, _, _ := s.bob.Do(s.bob.Request(http.MethodGet, "/v1/devices/"+device.ID+"/ledger", nil)); status != http.StatusNotFound {
		s.Errorf("bob reads the ledger of ada's phone: %d", status)
	}
}

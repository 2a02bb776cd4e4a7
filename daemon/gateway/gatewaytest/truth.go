package gatewaytest

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"yunbox.local/daemon/daemontest"
)

// device makes a device of ada's and a client that backs it up.
func (s *suite) device() (id string, c Client) {
	s.Helper()
	phone := s.box.SignIn("ada")
	var device struct{ ID string }
	phone.Call("POST", "/v1/devices", map[string]any{"name": s.Name(), "kind": "phone"}, &device)
	var token struct{ Token string }
	phone.Call("POST", "/v1/tokens", map[string]any{"name": "phone", "scope": "files", "device": device.ID}, &token)
	return device.ID, s.connect(s, s.ada.With(token.Token))
}

// by runs do with another client in the place of s.client.
func (s *suite) by(c Client, do func()) {
	s.Helper()
	was := s.client
	s.client = c
	defer func() { s.client = was }()
	do()
}

// What its owner deleted does not come back by a backup, from whatever device,
// under whatever name, until they say so or the time is over. Nor does it stay away
// when a person puts it back by a drive.
func deletedByItsOwner(s *suite) {
	_, wordless := s.client.(Wordless)
	_, drive := s.client.(Drive)
	_, late := s.client.(HashComesLast)
	id, phone := s.device()
	backups := []Client{phone}
	if !drive {
		backups = append(backups, s.client)
	}
	remove := func(path string, forGood bool) {
		s.Helper()
		for _, i := range s.items(s.ada) {
			if i.Path == path {
				s.ada.Call("DELETE", "/v1/files/"+escape(path), nil, nil)
				if forGood {
					before := s.status().Blobs
					s.ada.Call("DELETE", "/v1/items/"+i.ID, nil, nil)
					s.eventually("its bytes are gone", func() bool { return s.status().Blobs < before })
				}
				return
			}
		}
		s.Fatalf("%s is not there", path)
	}
	declined := func(c Client, what string, f File) {
		s.Helper()
		s.by(c, func() {
			s.unchanged(func() {
				if f.SHA256 != "" && !late {
					s.refused(what, c.Announce(s.Context(), f, fmt.Sprint(f.Size)), "deleted")
				}
				_, err := c.Put(s.Context(), f)
				r := s.refused(what, err, "deleted")
				if at, err := time.Parse(time.RFC3339, r.Member["deleted"]); err != nil || time.Since(at).Abs() > time.Hour {
					s.Errorf("%s: the refusal does not say when it was deleted: %+v", what, r)
				}
				s.absent(f.Path)
			})
		})
	}
	for what, forGood := range map[string]bool{"trash": false, "for good": true} {
		body := content(s.Name()+what, 120<<10)
		f := s.file(what+".jpg", body)
		s.put(f, body)
		remove(f.Path, forGood)
		other := f
		other.Path = s.path(what + " after a reinstall.jpg")
		if drive {
			s.put(other, body) // a person copied it there: they want it
			remove(other.Path, forGood)
		}
		for _, c := range backups {
			for _, said := range []string{"", sum(body)} {
				for _, f := range []File{f, other} {
					f.SHA256 = said
					declined(c, what, f)
					if forGood && s.onDisk(body) {
						s.Error("declined bytes were published")
					}
				}
			}
		}
		var page struct {
			Entries []struct{ Path, SHA256, Outcome, Kind, Reason string }
		}
		s.ada.Call("GET", "/v1/devices/"+id+"/ledger?limit=1", nil, &page)
		if e := page.Entries; len(e) != 1 || e[0].Path != other.Path || e[0].SHA256 != sum(body) || e[0].Outcome != "declined" || e[0].Kind != "deleted" || e[0].Reason == "" {
			s.Errorf("%s: the ledger of the phone ends with %+v", what, e)
		}
		elsewhere := other
		elsewhere.Source, elsewhere.Path = "other", s.path(what+" as a file of my own.jpg")
		s.by(phone, func() { s.put(elsewhere, body) }) // what people put there themselves is no backup
		remove(elsewhere.Path, forGood)
		if !wordless {
			other.Again = true
			s.by(phone, func() { s.put(other, body) })
			remove(other.Path, forGood)
			other.Again = false
		}
		declined(phone, what+", again", other)
		s.want(body, !forGood)
		for _, f := range []File{other, f} { // it is kept again, so its other name is no question any more
			s.by(phone, func() { s.put(f, body) })
		}
		for _, i := range s.items(s.ada) {
			if i.SHA256 == sum(body) {
				s.ada.Call("DELETE", "/v1/files/"+escape(i.Path), nil, nil)
			}
		}
		f.SHA256 = sum(body)
		declined(phone, what+", once more", f)
		s.ada.Call("PATCH", "/v1/me", map[string]any{"decline_deleted_days": 0}, nil)
		s.by(phone, func() { s.put(f, body) })
		s.ada.Call("PATCH", "/v1/me", map[string]any{"decline_deleted_days": 365}, nil)
	}
}

// want says that ada wants a content back: the word that every protocol shares.
func (s *suite) want(body []byte, inTrash bool) {
	s.Helper()
	ask := func(p *daemontest.Person) (wanted []struct{ SHA256, Item, Path string }) {
		s.Helper()
		var got struct {
			Wanted []struct{ SHA256, Item, Path string }
		}
		p.Call("POST", "/v1/blobs/wanted", map[string]any{"sha256": []string{sum(body)}}, &got)
		return got.Wanted
	}
	if w := ask(s.bob); len(w) != 0 {
		s.Errorf("bob wants back what ada deleted: %+v", w)
	}
	w := ask(s.ada)
	if len(w) != 1 || w[0].SHA256 != sum(body) || (w[0].Item != "") != inTrash {
		s.Fatalf("wanted: %+v", w)
	}
	if inTrash {
		s.kept(w[0].Path, body)
	}
	if w := ask(s.ada); len(w) != 0 {
		s.Errorf("wanted twice: %+v", w)
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
	id, client := s.device()
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
			s.ada.Call("GET", "/v1/devices/"+id+"/ledger?limit=2"+query+cursor, nil, &page)
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
	if status, _, _ := s.bob.Do(s.bob.Request(http.MethodGet, "/v1/devices/"+id+"/ledger", nil)); status != http.StatusNotFound {
		s.Errorf("bob reads the ledger of ada's phone: %d", status)
	}
}

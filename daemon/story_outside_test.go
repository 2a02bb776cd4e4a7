package daemon_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/mail/mailtest"
)

type disclosed struct {
	Disclosures []struct {
		Seq                                                   int64
		About, Kind, Recipient, Why, Basis, Authority, Object string
		By                                                    *string
		Categories                                            []string
	}
	Next *int64
}

// kinds are what the register says to a person, the oldest first.
func kindsOf(t *testing.T, p *daemontest.Person, path string) (kinds string, all disclosed) {
	t.Helper()
	ask(p, "GET", path, "").is(t, "the register", 200, "").into(t, &all)
	var list []string
	for _, d := range all.Disclosures {
		list = append(list, d.Kind)
	}
	slices.Reverse(list)
	return strings.Join(list, " "), all
}

// R38: what leaves the box is written down, for whom it is about and, without them, for
// who runs it.
func TestWhatLeavesTheBoxIsWrittenDown(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("storage", "album_backup")
	put(t, ada, "a.jpg", "a photo")
	addCopy(t, b, t.TempDir()).run()
	bob := b.AddPerson("bob")

	e := prepareExport(t, ada, `{}`)
	archive := "/v1/me/exports/" + e.ID + "/archive"
	ask(ada, "HEAD", archive, "").is(t, "looking at it takes nothing along", 200, "")
	for range 2 {
		ask(ada, "GET", archive, "", "Range", "bytes=1-100").is(t, "a part", 206, "")
	}
	kinds, all := kindsOf(t, ada, "/v1/me/disclosures")
	if kinds != "second_copy export" {
		t.Fatalf("it says %q", kinds)
	}
	if d := all.Disclosures[0]; d.About != "person" || d.Object != e.ID || d.By == nil || *d.By != ada.ID || d.Basis != "person" {
		t.Errorf("the export: %+v", d)
	}
	if d := all.Disclosures[1]; d.About != "everyone" || d.Basis != "owner" {
		t.Errorf("the copy: %+v", d)
	}
	if kinds, _ := kindsOf(t, bob, "/v1/me/disclosures"); kinds != "" {
		t.Errorf("bob, who came later, is told of %q", kinds)
	}
	ask(bob, "GET", "/v1/disclosures", "").is(t, "bob looks at the whole register", 403, "forbidden")
	ask(bob, "POST", "/v1/me/exports", `{}`).is(t, "bob's export", 202, "")
	fetchExport(t, bob, `{}`)
	kinds, all = kindsOf(t, ada, "/v1/disclosures")
	if kinds != "second_copy export export" || all.Disclosures[0].By != nil || all.Disclosures[0].Object != "" {
		t.Errorf("ada, who runs the box, sees %q: %+v", kinds, all.Disclosures[0])
	}
	if kinds, _ := kindsOf(t, ada, "/v1/me/disclosures"); kinds != "second_copy export" {
		t.Errorf("of her own: %q", kinds)
	}
	var verified struct {
		Disclosure struct {
			Entries int64
			Bad     *struct{}
		}
	}
	b.Local("GET", "/local/audit/verify", nil, &verified)
	if verified.Disclosure.Entries != 3 || verified.Disclosure.Bad != nil {
		t.Errorf("%+v", verified)
	}
}

// R37: an incident is written, sent, read, and those whom it does not concern hear
// nothing of it.
func TestPeopleAreToldOfAnIncident(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob, carl := b.AddPerson("bob"), b.AddPerson("carl")
	ask(bob, "POST", "/v1/devices", `{"name":"bob's phone","kind":"phone"}`).is(t, "a device", 201, "")
	const text = `"happened":"2026-03-04T05:06:00Z","contact":"Ada","text":{"zh":{"title":"a","what":"b","effect":"c","measures":"d","advice":"e","remedies":"f"}}`
	var i struct {
		ID     string
		Sent   *string
		Reach  struct{ People, Seen int }
		People []struct {
			Username string
			Seen     *string
		}
	}
	ask(bob, "POST", "/v1/incidents", `{`+text+`,"scope":{"everyone":true}}`).is(t, "bob writes one", 403, "forbidden")
	ask(ada, "POST", "/v1/incidents", `{`+text+`,"scope":{"touched":["nonsense"]}}`).is(t, "no such data", 404, "not-found")
	ask(ada, "POST", "/v1/incidents", `{`+text+`,"scope":{"everyone":true}}`).is(t, "a draft", 201, "").into(t, &i)
	one := "/v1/incidents/" + i.ID
	ask(ada, "PUT", one, `{`+text+`,"scope":{"touched":["devices"]}}`).is(t, "changed", 200, "")
	told := func(p *daemontest.Person, path string) (n int) {
		t.Helper()
		var list struct{ Incidents []struct{ ID string } }
		ask(p, "GET", path, "").is(t, path, 200, "").into(t, &list)
		return len(list.Incidents)
	}
	if told(bob, "/v1/me/incidents")+told(b.Nobody(), "/v1/announcements") != 0 {
		t.Error("a draft is seen")
	}
	b.Pass(6 * time.Minute)
	ask(ada, "POST", one+"/send", `{"publish":false}`).is(t, "sending it from a browser that was left open", 403, "step-up-required")
	ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "it is her", 200, "")
	ask(ada, "POST", one+"/send", `{"publish":false}`).is(t, "sent", 200, "").into(t, &i)
	if i.Sent == nil || i.Reach.People != 1 || i.People[0].Username != "bob" {
		t.Fatalf("%+v", i)
	}
	if told(bob, "/v1/me/incidents") != 1 || told(carl, "/v1/me/incidents") != 0 || told(b.Nobody(), "/v1/announcements") != 0 {
		t.Error("it is seen by others than bob")
	}
	if r := ask(bob, "GET", "/v1/me/notices", "").is(t, "bob's news", 200, ""); !strings.Contains(string(r.body), `"incident"`) {
		t.Errorf("%v", r)
	}
	ask(carl, "POST", "/v1/me/incidents/"+i.ID+"/seen", "").is(t, "carl says that he has read it", 404, "not-found")
	for range 2 {
		ask(bob, "POST", "/v1/me/incidents/"+i.ID+"/seen", "").is(t, "bob has read it", 204, "")
	}
	ask(ada, "GET", one, "").is(t, "who was told", 200, "").into(t, &i)
	if i.Reach.Seen != 1 || i.People[0].Seen == nil {
		t.Errorf("%+v", i)
	}
	ask(ada, "DELETE", one, "").is(t, "taking it back", 409, "conflict")
	ask(bob, "GET", one, "").is(t, "bob looks at who was told", 403, "forbidden")

	ask(ada, "POST", "/v1/incidents", `{`+text+`,"scope":{"people":["`+carl.ID+`"]}}`).is(t, "another", 201, "").into(t, &i)
	ask(ada, "POST", "/v1/incidents/"+i.ID+"/send", `{"publish":true}`).is(t, "sent and published", 200, "")
	if told(b.Nobody(), "/v1/announcements") != 1 {
		t.Error("it is not on the page")
	}
	ask(ada, "DELETE", "/v1/incidents/"+i.ID+"/publication", "").is(t, "off the page", 204, "")
	if told(b.Nobody(), "/v1/announcements") != 0 {
		t.Error("it is still on the page")
	}
}

// R17 R19: what the maker would be told is shown, and sent as it was shown, only with
// consent, only where an address is set, and nothing beside it.
func TestTheMakerIsToldWhatWasShown(t *testing.T) {
	t.Parallel()
	type request struct {
		header http.Header
		path   string
		body   string
	}
	var mu sync.Mutex
	var got []request
	answer := `{"latest":"99.0.0"}`
	maker := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, request{r.Header, r.URL.RequestURI(), string(body)})
		io.WriteString(w, answer)
	}))
	defer maker.Close()
	ca := filepath.Join(t.TempDir(), "maker.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) {
		c.Maker = config.Maker{Updates: maker.URL + "/updates", Statistics: maker.URL + "/statistics", CA: ca}
	})
	ada := b.Bind()
	bob, carl := b.AddPerson("bob"), b.AddPerson("carl")
	for _, p := range []*daemontest.Person{ada, bob, carl} {
		p.Grant("storage", "album_backup")
		for i := range 4 {
			put(t, p, fmt.Sprintf("%d.jpg", i), fmt.Sprint(p.Name, i))
		}
	}
	show := func(path string) (payload string) {
		t.Helper()
		var s struct{ URL, Payload string }
		ask(ada, "GET", path, "").is(t, path, 200, "").into(t, &s)
		if s.URL != maker.URL+map[string]string{"/v1/update-check": "/updates", "/v1/statistics": "/statistics"}[path] {
			t.Errorf("%s would go to %s", path, s.URL)
		}
		return s.Payload
	}
	send := func(path, payload string) reply {
		t.Helper()
		body, err := json.Marshal(map[string]string{"payload": payload})
		if err != nil {
			t.Fatal(err)
		}
		return ask(ada, "POST", path, string(body))
	}
	for _, path := range []string{"/v1/update-check", "/v1/statistics"} {
		send(path, show(path)).is(t, "without consent", 403, "consent-required")
		ask(bob, "GET", path, "").is(t, "a member", 403, "forbidden")
	}
	ada.Grant("update_check", "statistics")
	bob.Grant("statistics")
	first := show("/v1/update-check")
	var three map[string]string
	if err := json.Unmarshal([]byte(first), &three); err != nil || len(three) != 3 || three["application_number"] == "" || three["os_type"] != runtime.GOOS || three["app_version"] == "" {
		t.Errorf("%s, %v", first, err)
	}
	send("/v1/update-check", first+" ").is(t, "something else", 409, "conflict")
	if len(got) != 0 {
		t.Fatalf("%v was sent", got)
	}
	if r := send("/v1/update-check", first).is(t, "sent", 200, ""); !strings.Contains(string(r.body), `"newer":true`) {
		t.Errorf("%v", r)
	}
	sums := show("/v1/statistics")
	if !strings.Contains(sums, `"people":"1-9","files":"1-9"`) {
		t.Errorf("carl is counted, who did not consent: %s", sums) // 8 files of two, 12 of all three
	}
	send("/v1/statistics", sums).is(t, "sent", 204, "")
	if len(got) != 2 || got[0].body != first || got[0].path != "/updates" || got[1].body != sums {
		t.Fatalf("%v", got)
	}
	for _, r := range got {
		for name := range r.header {
			switch name {
			case "Content-Type", "Content-Length", "Accept-Encoding", "Connection":
			default:
				t.Errorf("%s was sent, too: %v", name, r.header[name])
			}
		}
	}
	for p, want := range map[*daemontest.Person]string{ada: "update_check statistics", bob: "statistics", carl: ""} {
		if kinds, _ := kindsOf(t, p, "/v1/me/disclosures"); kinds != want {
			t.Errorf("the register says %q to %s", kinds, p.Name)
		}
	}
	ask(ada, "POST", "/v1/update-check/number", "").is(t, "another number", 200, "")
	if again := show("/v1/update-check"); again == first {
		t.Error("the number stays the same")
	}
	answer = `{"latest":"<script>"}`
	send("/v1/update-check", show("/v1/update-check")).is(t, "an answer that is none", 503, "unavailable")
	ada.Withdraw("update_check")
	send("/v1/update-check", show("/v1/update-check")).is(t, "withdrawn", 403, "consent-required")
}

// R37 R38: somebody who gave an e-mail address gets a notice by a real mail server, and
// finds that in the register.
func TestAnIncidentComesByEmail(t *testing.T) {
	t.Parallel()
	server := mailtest.Start(t, false, false)
	ca := filepath.Join(t.TempDir(), "mail.pem")
	if err := os.WriteFile(ca, server.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	b := daemontest.StartWith(t, t.TempDir(), nil, func(c *config.Config) {
		c.Mail = config.Mail{Server: server.Addr, From: "Box <box@home.example>", User: mailtest.User, CA: ca}
	})
	ada := b.Bind()
	bob := b.AddPerson("bob")
	b.Local("PUT", "/local/secrets/mail", map[string]string{"value": mailtest.Password}, nil)
	bob.Grant("storage", "profile_details")
	ask(bob, "PUT", "/v1/me/profile/email", `{"value":"bob@mail.example"}`).is(t, "an address", 204, "")
	var i struct{ ID string }
	ask(ada, "POST", "/v1/incidents", `{"happened":"2026-03-04T05:06:00Z","contact":"Ada","scope":{"everyone":true},"text":{"en":{"title":"A","what":"b","effect":"c","measures":"d","advice":"e","remedies":"f"}}}`).
		is(t, "a draft", 201, "").into(t, &i)
	ask(ada, "POST", "/v1/incidents/"+i.ID+"/send", `{"publish":false}`).is(t, "sent", 200, "")
	server.Wait(t)
	if got := server.Messages(); len(got) != 1 || got[0].To != "bob@mail.example" {
		t.Fatalf("%+v", got)
	}
	if kinds, all := kindsOf(t, bob, "/v1/me/disclosures"); kinds != "email" || all.Disclosures[0].Object != i.ID || all.Disclosures[0].Authority != "4.5" {
		t.Errorf("the register: %q, %+v", kinds, all)
	}
	if kinds, _ := kindsOf(t, ada, "/v1/me/disclosures"); kinds != "" {
		t.Errorf("ada, who gave no address: %q", kinds)
	}
}

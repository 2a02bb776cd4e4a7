package daemon_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/httpd"
)

// closed is what is refused to people who did not accept the current privacy policy,
// and why, of what neither reads nor deletes by its method; and what looks as if it read.
// Management needs no line.
//
// DO NOT ADD A LINE TO FIX A TEST: would it take in or process anything of theirs? And
// what lets them see, take away or delete what they have, or go, must never stand here.
const closed = `
PATCH /v1/me                             a setting of use
POST /v1/tokens                          opens the box to more
PATCH /v1/tokens/{id}                    a name in a list
PUT /v1/me/username                      new data
POST /v1/me/second-factor                new data
PUT /v1/me/second-factor                 likewise
POST /v1/me/second-factor/recovery-codes likewise
POST /v1/devices                         likewise
POST /v1/me/links                        likewise
POST /v1/me/links/{service}              leads to it
PATCH /v1/devices/{id}                   likewise
PUT /v1/devices/{id}/about               likewise
PUT /v1/me/profile/{detail}              likewise
PUT /v1/me/profile/avatar                likewise
POST /v1/me/usage                        likewise
POST /v1/blobs/wanted                    asks for files
POST /v1/sources                         looks at names
PATCH /v1/items/{id}                     new data
POST /v1/items/{id}/restore              use
PUT /v1/files/{path...}                  takes in
POST /v1/files                           likewise
PUT /v1/handovers/{id}                   has files come
POST /v1/ownership                       manages the box
PUT /v1/ownership                        likewise
POST /v1/uploads                         likewise
POST /v1/uploads/{$}                     likewise
PATCH /v1/uploads/{id}                   likewise
POST /v1/uploads/{id}                    likewise
GET /ocs/v1.php/core/getapppassword      makes a password
GET /ocs/v2.php/core/getapppassword      likewise
GET /index.php/login/v2/flow/{flow}      leads to one
POST /index.php/login/v2/flow/{flow}     makes one
POST /api/assets                         takes in
POST /api/assets/bulk-upload-check       asks for files
PUT /api/assets/{id}                     new data
POST /api/albums                         use
PUT /api/albums/{id}/assets              likewise
PUT /api/jobs/{name}                     likewise
POST /v1/duplicates/scan                 processes
POST /v1/duplicates/plan                 likewise
POST /v1/duplicates/apply                likewise
POST /v1/duplicates/picture              likewise
PUT /v1/children/{id}                    new data
POST /v1/children/{id}/guardians         use
PUT /v1/children/{id}/consents/{purpose} who does not accept the policy accepts it for nobody; withdrawing remains
PUT /v1/guardianship/requests/{id}       likewise
`

// R23: each route says whether it remains to whoever did not accept the policy.
func TestEveryRouteSaysWhetherItRemains(t *testing.T) {
	shut := map[string]bool{}
	for line := range strings.Lines(closed) {
		if f := strings.Fields(line); len(f) > 2 {
			shut[f[0]+" "+f[1]] = true
		}
	}
	seen := map[string]bool{}
	for _, r := range routes(t) {
		seen[r.Pattern] = true
		if r.Access == httpd.AdminOnly {
			if r.Remains != "" {
				t.Errorf("%s: whoever declined the policy manages the box", r.Pattern)
			}
			continue
		}
		if (r.Remains == "") != shut[r.Pattern] { // whatever is public remains
			t.Errorf("%s: does it remain to people who declined the policy? httpd/remains.go says %q, this test %v", r.Pattern, r.Remains, !shut[r.Pattern])
		}
		const drives = "GET HEAD OPTIONS PROPFIND DELETE UNLOCK"
		if !strings.Contains(r.Pattern, " ") && r.Access != httpd.Public && r.Remains != drives {
			t.Errorf("%s: %q remains, want %q", r.Pattern, r.Remains, drives)
		}
	}
	for pattern := range shut {
		if !seen[pattern] {
			t.Errorf("there is no %s", pattern)
		}
	}
}

// limitedProblem is what is said to whoever did not accept the policy.
type limitedProblem struct {
	Type, Title, Detail, Hint, Page, Standing string
	PolicyRevision                            string `json:"policy_revision"`
	Left                                      []consent.Way
}

// R23: a box of which the software brings another revision. Everybody hears of it, and
// whoever does not accept it is left with seeing, taking away and deleting what is
// theirs, on every route.
func TestANewRevisionOfThePolicy(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob, carl := b.AddPerson("bob"), b.AddPerson("carl") // carl was never asked
	ada.Grant("storage", "album_backup", "wechat_backup")
	bob.Grant("storage")
	put(t, ada, "secret.jpg", "a photo")
	files := appToken(t, ada, "app", "files")
	const none = "0000000000001"
	ids := theIDs{"user": ada.ID, "device": none, "token": none, "upload": none, "album": none}
	var item struct{ Items []struct{ ID string } }
	ask(ada, "GET", "/v1/items", "").is(t, "items", 200, "").into(t, &item)
	ids["secret.jpg"], ids["asset"] = item.Items[0].ID, item.Items[0].ID

	b.Update(daemontest.Revised(t, 2, "wechat_backup"))
	for _, p := range []*daemontest.Person{ada, bob, carl} {
		var news struct {
			Notices []struct{ ID, Kind, Name string }
		}
		p.Call("GET", "/v1/me/notices", nil, &news)
		if n := len(news.Notices); n == 0 || news.Notices[n-1].Kind != "policy" || news.Notices[n-1].Name != "3" {
			t.Errorf("%s hears %v", p.Name, news.Notices)
		}
	}
	b.Restart() // they were told
	var news struct{ Notices []struct{ ID string } }
	ada.Call("GET", "/v1/me/notices", nil, &news)
	if len(news.Notices) != 1 {
		t.Errorf("told again: %v", news)
	}

	var changes struct {
		Since, Current string
		Wider          []string
		Revisions      []struct {
			Revision, Modified string
			Changes            []string
		}
	}
	ask(ada, "GET", "/v1/policy/changes?lang=en", "").is(t, "changes", 200, "").into(t, &changes)
	if changes.Since != "1" || changes.Current != "3" || len(changes.Revisions) != 2 || changes.Revisions[0].Revision != "3" ||
		changes.Revisions[1].Modified[:10] != "2027-01-01" || !strings.Contains(changes.Revisions[1].Changes[0], "2 cups") || !slices.Equal(changes.Wider, []string{"wechat_backup"}) {
		t.Errorf("%+v", changes)
	}
	ask(ada, "GET", "/v1/policy/changes?since=0", "").is(t, "since no revision", 404, "not-found")
	ask(b.Nobody(), "GET", "/v1/policy/revisions/2?lang=zh", "").is(t, "an earlier text", 200, "")
	ask(b.Nobody(), "GET", "/v1/policy/revisions/4", "").is(t, "a later text", 404, "not-found")
	var all struct {
		Revisions []struct {
			Revision string
			Current  bool
		}
	}
	ask(b.Nobody(), "GET", "/v1/policy/revisions", "").is(t, "revisions", 200, "").into(t, &all)
	if len(all.Revisions) != 3 || !all.Revisions[0].Current || all.Revisions[2].Revision != "1" || all.Revisions[2].Current {
		t.Errorf("%+v", all)
	}

	standing := func(p *daemontest.Person) string {
		var s struct{ Standing string }
		p.Call("GET", "/v1/policy", nil, &s)
		return s.Standing
	}
	if s := standing(ada) + standing(carl); s != "behindunasked" {
		t.Errorf("standings: %s", s)
	}
	// Who was not asked yet sets up the account; nothing is taken, for another reason.
	ask(carl, "POST", "/v1/devices", `{"name":"phone","kind":"phone"}`).is(t, "unasked", 201, "")

	said := func(r reply, what, standing string) {
		t.Helper()
		var p limitedProblem
		r.is(t, what, 403, "consent-required").into(t, &p)
		if p.Standing != standing || p.PolicyRevision != "3" || p.Page == "" || p.Title == "" || !strings.Contains(p.Detail, "revision 3 of 2027-01-02") || !strings.Contains(p.Hint, "export") || len(p.Left) < 5 {
			t.Errorf("%s: %+v", what, p)
		}
		for _, way := range p.Left {
			pattern := way.API
			if m, path, _ := strings.Cut(way.API, " "); m == "GET" && path == "/v1/files/{path}" || m == "DELETE" && path == "/v1/files/{path}" {
				pattern = m + " /v1/files/{path...}"
			}
			if httpd.Remains(pattern, httpd.SignedIn) == "" {
				t.Errorf("%s is named as left, and is not", way.API)
			}
		}
	}
	sweep := func(p *daemontest.Person, standing string) {
		t.Helper()
		for _, k := range knocks(t) {
			if k.Access == httpd.Public || k.path == "/v1/events" || k.pattern() == "DELETE /v1/session" || k.pattern() == "DELETE /v1/sessions" || strings.HasSuffix(k.path, "/apppassword") || k.pattern() == "PUT /v1/policy" ||
				strings.HasPrefix(k.path, "/v1/consents/{") || k.method == "DELETE" && k.path != "/v1/files/{path...}" {
				continue // does not end, or ends something
			}
			r := ask(p, k.method, ids.path(k.path), "", "Tus-Resumable", "1.0.0", "Depth", "0")
			open := k.Remains == "*" || slices.Contains(strings.Fields(k.Remains), k.method)
			refused := r.status == 403 && (strings.Contains(string(r.body), "consent-required") || len(r.body) == 0)
			if refused == open {
				t.Errorf("%s, %s %s: %.200v", standing, k.method, k.path, r)
			}
		}
	}
	said(ask(ada, "PUT", "/v1/files/b.jpg?source=album", "b"), "an upload", "behind")
	said(ask(ada.With(files.Token), "PUT", "/v1/files/b.jpg?source=album", "b"), "an upload of an app", "behind")
	said(ask(ada, "POST", "/v1/users", `{}`), "management", "behind")
	if r := ask(ada, "GET", "/v1/files/secret.jpg", ""); r.status != 200 {
		t.Errorf("her own file: %v", r)
	}

	// Old texts, and a no that is not said.
	ask(ada, "PUT", "/v1/policy", `{"accepted":true,"revision":"1"}`).is(t, "the old one again", 409, "conflict")
	ask(ada, "PUT", "/v1/policy", `{"accepted":false,"revision":"2"}`).is(t, "no to one that is over", 409, "conflict")
	ask(ada, "PUT", "/v1/consents/album_backup", `{"granted":true,"policy_revision":"1"}`).is(t, "a yes under the old one", 409, "conflict")

	// Bob accepts: what he had goes on.
	ask(bob, "PUT", "/v1/policy", `{"accepted":true,"revision":"3"}`).is(t, "yes", 200, "")
	if r := ask(bob, "PUT", "/v1/files/b.txt", "b"); r.status != 201 {
		t.Errorf("after accepting: %v", r)
	}

	// Ada declines, and has a receipt for it.
	var receipt json.RawMessage
	ask(ada, "PUT", "/v1/policy", `{"accepted":false,"revision":"3"}`).is(t, "no", 200, "").into(t, &receipt)
	var again json.RawMessage
	ask(ada, "PUT", "/v1/policy", `{"accepted":false,"revision":"3"}`).is(t, "no again", 200, "").into(t, &again)
	if string(again) != string(receipt) {
		t.Error("the same no gave another receipt")
	}
	b.Restart()
	if s := standing(ada); s != "declined" {
		t.Errorf("after the restart: %s", s)
	}
	said(ask(ada, "PUT", "/v1/consents/album_backup", `{"granted":true,"policy_revision":"3"}`), "a purpose without the policy", "declined")
	said(ask(ada, "PUT", "/v1/files/b.jpg?source=album", "b"), "an upload", "declined")
	ask(ada, "DELETE", "/v1/consents/album_backup", "").is(t, "withdrawing is left", 200, "")
	ada = b.SignIn("ada") // signing in is left, and is the proof that an export asks for
	fetchExport(t, ada, `{}`)
	sweep(ada, "declined")
	ask(ada, "GET", "/v1/files/secret.jpg", "").is(t, "deleted in the sweep, as is left to her", 404, "not-found")

	// Accepting later brings back the core, and no purpose by itself.
	ada.Grant("storage")
	if r := ask(ada, "PUT", "/v1/files/c.txt", "c"); r.status != 201 {
		t.Errorf("after accepting: %v", r)
	}
	ask(ada, "PUT", "/v1/files/d.jpg?source=wechat", "d").is(t, "what was agreed to before the no", 403, "consent-required")
	ada.Grant("wechat_backup")
	if r := ask(ada, "PUT", "/v1/files/d.jpg?source=wechat", "d"); r.status != 201 {
		t.Errorf("after agreeing anew: %v", r)
	}
	var verdict struct {
		Consent struct{ Bad *json.RawMessage }
	}
	b.Local("GET", "/local/audit/verify", nil, &verdict)
	if verdict.Consent.Bad != nil {
		t.Errorf("the record is not whole: %s", *verdict.Consent.Bad)
	}
}

func (k knock) pattern() string { return k.method + " " + k.path }

// R25: what happens without asking is told to the person, with the clause.
func TestExceptionsAreShown(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	var acts struct {
		Exceptions []struct {
			ID, What, Clause, Basis string
			Each                    bool
		}
	}
	ask(b.Nobody(), "GET", "/v1/policy/exceptions?lang=zh", "").is(t, "what there may be", 200, "").into(t, &acts)
	if len(acts.Exceptions) < 4 {
		t.Errorf("%+v", acts)
	}
	type entry struct {
		Kind, Act, Clause, Via string
		Times                  int
		Actor                  *string
	}
	entries := func(p *daemontest.Person) []entry {
		var list struct{ Records []entry }
		p.Call("GET", "/v1/me/data/exceptions", nil, &list)
		return list.Records
	}
	if list := entries(ada); len(list) != 0 {
		t.Errorf("before anything: %v", list)
	}
	for range 3 {
		b.Local("GET", "/local/audit/tail?n=100", nil, nil)
	}
	for _, p := range []*daemontest.Person{ada, bob} {
		list := entries(p)
		if len(list) != 1 || list[0].Act != consent.ActRecordRead || list[0].Clause != "1.3.8" || list[0].Via != "socket" || list[0].Times != 3 || list[0].Actor != nil {
			t.Errorf("%s sees %+v", p.Name, list)
		}
	}
	b.Pass(25 * time.Hour)
	b.Local("GET", "/local/audit/tail?n=100", nil, nil)
	if list := entries(b.SignIn("bob")); len(list) != 2 {
		t.Errorf("a day later: %+v", list)
	}
}

package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/ident"
)

// R34: sign in, app tokens and what they open, sign out.
func TestSessionsAndTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signIn := func(user, password string) answer {
		return w.ask(nil, "POST", "/v1/session", fmt.Sprintf(`{"username":%q,"password":%q,"device":{"name":"Laptop","kind":"computer"}}`, user, password))
	}
	signIn("ada", "wrong wrong wrong").is(t, "a wrong password", 401, "unauthenticated")
	signIn("nobody", daemontest.Password).is(t, "nobody of that name", 401, "unauthenticated")
	a := signIn("ADA", daemontest.Password)
	a.is(t, "sign in", 200, "")
	var s struct {
		Token, Device string
		User          struct{ ID, Username, Role string }
		Expires       time.Time
	}
	a.into(t, &s)
	if s.User.ID != w.ada.ID || s.User.Role != "owner" || s.Device == "" || s.Expires.Before(time.Now()) {
		t.Errorf("session %+v", s)
	}
	cookie := a.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-yunbox=" + s.Token, "Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie lacks %s: %s", part, cookie)
		}
	}
	w.askWith("", "GET", "/v1/me", "", "Cookie", "__Host-yunbox="+s.Token).is(t, "by cookie", 200, "")
	w.askWith("", "DELETE", "/v1/session", "", "Cookie", "__Host-yunbox="+s.Token).is(t, "a cookie without an origin", 403, "forbidden")

	a = w.askWith(s.Token, "POST", "/v1/tokens", `{"name":"PhotoSync","scope":"files","device":"`+s.Device+`"}`)
	a.is(t, "make a token", 201, "")
	var app struct{ ID, Token, Name, Scope, Device string }
	a.into(t, &app)
	if app.Scope != "files" || app.Name != "PhotoSync" || app.Device != s.Device || app.Token == "" {
		t.Errorf("token %+v", app)
	}
	w.askWith(app.Token, "PUT", "/v1/files/a.jpg?source=album", "x").is(t, "the token sends a file", 201, "")
	w.askWith(app.Token, "GET", "/v1/tokens", "").is(t, "the token lists tokens", 403, "forbidden")
	var tokens struct{ Tokens []struct{ ID, Token string } }
	a = w.askWith(s.Token, "GET", "/v1/tokens", "")
	a.into(t, &tokens)
	if len(tokens.Tokens) != 1 || tokens.Tokens[0].ID != app.ID || strings.Contains(string(a.body), app.Token) {
		t.Errorf("tokens: %s", a.body)
	}
	w.ask(w.bob(), "DELETE", "/v1/tokens/"+app.ID, "").is(t, "another's token", 404, "not-found")
	w.askWith(s.Token, "DELETE", "/v1/tokens/"+app.ID, "").is(t, "revoke", 204, "")
	w.askWith(app.Token, "GET", "/v1/items", "").is(t, "a revoked token", 401, "unauthenticated")

	a = w.askWith(s.Token, "DELETE", "/v1/session", "")
	a.is(t, "sign out", 204, "")
	if c := a.header.Get("Set-Cookie"); !strings.Contains(c, "__Host-yunbox=;") {
		t.Errorf("the cookie stays: %s", c)
	}
	w.askWith(s.Token, "GET", "/v1/me", "").is(t, "a session that ended", 401, "unauthenticated")
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	change := func(token, old, new string) answer {
		return w.askWith(token, "PUT", "/v1/me/password", fmt.Sprintf(`{"old":%q,"new":%q}`, old, new))
	}
	change(w.ada.Token, "wrong wrong wrong", "quite another phrase").is(t, "a wrong old one", 403, "forbidden")
	change(w.ada.Token, daemontest.Password, "12345678").is(t, "a weak new one", 400, "invalid")
	a := change(w.ada.Token, daemontest.Password, "quite another phrase")
	a.is(t, "change", 200, "")
	var s struct{ Token string }
	a.into(t, &s)
	w.ask(w.ada, "GET", "/v1/me", "").is(t, "the session before", 401, "unauthenticated")
	w.askWith(s.Token, "GET", "/v1/me", "").is(t, "the new session", 200, "")
}

// R03: a box is bound once.
func TestBindingRefusals(t *testing.T) {
	t.Parallel()
	box := daemontest.Start(t)
	w := &world{Box: box, t: t, spec: readSpec(t, box)}
	const person = `"username":"ada","password":"` + daemontest.Password + `"`
	w.ask(nil, "POST", "/v1/bind", `{`+person+`}`).is(t, "without a proof", 400, "invalid")
	w.ask(nil, "POST", "/v1/bind", `{"serial":"x","code":"y","secret":"z",`+person+`}`).is(t, "with both proofs", 400, "invalid")
	w.ask(nil, "POST", "/v1/bind", `{"serial":"x",`+person+`}`).is(t, "half a proof", 400, "invalid")
	w.ask(nil, "POST", "/v1/bind", `{"secret":"AAAAAAAAAAAAAAAAAAAAAA",`+person+`}`).is(t, "a wrong secret", 401, "unauthenticated")
	const code = `{"serial":"YB26-FAJ6-D5JQ","code":"00000000",` + person + `}`
	w.ask(nil, "POST", "/v1/bind", code, "X-Forwarded-For", "192.0.2.7").is(t, "a code that an app elsewhere sends", 403, "forbidden")
	w.ask(nil, "POST", "/v1/bind", code).is(t, "a wrong code from the box itself", 401, "unauthenticated")
	w.ask(nil, "POST", "/v1/bind", code, "Sec-Fetch-Site", "same-origin").is(t, "a wrong code on the page", 401, "unauthenticated")
	for name, body := range map[string]string{
		"no share": `{"method":"code","username":"ada","share":""}`, "a point that is none": `{"method":"code","username":"ada","share":"BAAA"}`,
		"another way": `{"method":"guess","username":"ada","share":"AA"}`, "no base64": `{"method":"code","username":"ada","share":"%"}`, "too long": `{"method":"code","username":"ada","share":"` + strings.Repeat("A", 200) + `"}`,
	} {
		for range 6 { // never a try, or the sixth would be told to wait
			if r := w.ask(nil, "POST", "/v1/bind/start", body); r.status != 400 && r.status != 422 {
				t.Errorf("%s: %v", name, r)
			}
		}
	}
	w.ask(nil, "POST", "/v1/bind/finish", `{"run":"x","confirm":"AAAA","password":"`+daemontest.Password+`"}`).is(t, "half a confirmation", 400, "invalid")
	w.ask(nil, "POST", "/v1/bind/finish", `{"run":"x","confirm":"`+strings.Repeat("A", 43)+`","password":"`+daemontest.Password+`"}`).is(t, "a run that never began", 404, "not-found")
	var about struct {
		Bound bool
		State string
	}
	w.ask(nil, "GET", "/.well-known/yunbox", "").into(t, &about)
	if about.Bound || about.State != "u" {
		t.Errorf("an unbound box says %+v", about)
	}
	w.ada = box.Bind()
	w.ask(nil, "GET", "/.well-known/yunbox", "").into(t, &about)
	if !about.Bound || about.State != "b" {
		t.Errorf("a bound box says %+v", about)
	}
	w.ask(nil, "POST", "/v1/bind", `{"secret":"AAAAAAAAAAAAAAAAAAAAAA",`+person+`}`).is(t, "once more", 409, "conflict")
}

func TestMe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.ada, "a.jpg", "12345")
	w.put(w.ada, "b.jpg", "12345")
	var me struct {
		ID, Username, Role string
		Usage              struct {
			Items, Bytes  int64
			DistinctBytes int64 `json:"distinct_bytes"`
			Quota         *int64
		}
		Policy struct {
			Current  string
			Accepted *string
		}
	}
	w.ask(w.ada, "GET", "/v1/me", "").into(t, &me)
	if me.ID != w.ada.ID || me.Usage.Items != 2 || me.Usage.Bytes != 10 || me.Usage.DistinctBytes != 5 || me.Usage.Quota != nil ||
		me.Policy.Accepted == nil || *me.Policy.Accepted != me.Policy.Current {
		t.Errorf("me: %+v", me)
	}
	var use struct {
		Mine struct {
			SavedBytes int64 `json:"saved_bytes"`
		}
		Disk struct{ Total, Free int64 }
		Box  *struct{ Blobs int64 }
	}
	w.ask(w.ada, "GET", "/v1/storage", "").into(t, &use)
	if use.Mine.SavedBytes != 5 || use.Box == nil || use.Box.Blobs != 1 || use.Disk.Free <= 0 {
		t.Errorf("storage: %+v", use)
	}
	w.ask(w.bob(), "GET", "/v1/storage", "").into(t, &use)
	if use.Box != nil || use.Mine.SavedBytes != 0 {
		t.Errorf("a member sees %+v", use)
	}
}

// R15: devices belong to one person; the ledger says what became of what they offered.
func TestDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var d struct{ ID, Name, Kind string }
	a := w.ask(w.ada, "POST", "/v1/devices", `{"name":"Phone","kind":"phone"}`)
	a.is(t, "add", 201, "")
	a.into(t, &d)
	w.ask(w.ada, "POST", "/v1/devices", `{"name":"Phone","kind":"toaster"}`).is(t, "no such kind", 400, "invalid")
	w.ask(w.ada, "POST", "/v1/devices", `{"name":""}`).is(t, "no name", 400, "invalid")
	w.ask(w.ada, "PATCH", "/v1/devices/"+d.ID, `{"name":"Old phone"}`).into(t, &d)
	if d.Name != "Old phone" {
		t.Errorf("renamed to %+v", d)
	}
	w.ask(w.bob(), "PATCH", "/v1/devices/"+d.ID, `{"name":"Mine"}`).is(t, "another's device", 404, "not-found")
	w.ask(w.bob(), "GET", "/v1/devices/"+d.ID+"/ledger", "").is(t, "another's ledger", 404, "not-found")
	w.ask(w.bob(), "DELETE", "/v1/devices/"+d.ID, "").is(t, "another's device", 404, "not-found")
	for i := range 3 {
		w.ask(w.ada, "PUT", fmt.Sprintf("/v1/files/%d.jpg?source=album&device=%s", i, d.ID), "same").is(t, "send", []int{201, 200, 200}[i], "")
	}
	w.ask(w.ada, "PUT", "/v1/files/bad.jpg?source=album&device="+d.ID, "x", "Repr-Digest", reprDigest("y")).is(t, "damaged on the way", 422, "mismatch")
	type entry struct {
		Path, Outcome, Reason string
		SHA256, Item          *string
		Size                  *int64
	}
	var entries []entry
	cursor := ""
	for {
		var page struct {
			Entries []entry
			Next    *string
		}
		w.ask(w.ada, "GET", "/v1/devices/"+d.ID+"/ledger?limit=3&cursor="+cursor, "").into(t, &page)
		entries = append(entries, page.Entries...)
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	var outcomes []string
	for _, e := range entries {
		outcomes = append(outcomes, e.Path+" "+e.Outcome)
	}
	if want := []string{"bad.jpg failed", "2.jpg known", "1.jpg known", "0.jpg stored"}; !slices.Equal(outcomes, want) {
		t.Errorf("ledger %v, want %v", outcomes, want)
	}
	if entries[0].Item != nil || entries[0].Reason == "" || entries[3].Item == nil || *entries[3].SHA256 != sha("same") {
		t.Errorf("ledger %+v", entries)
	}
	w.ask(w.ada, "GET", "/v1/devices/"+d.ID+"/ledger?cursor=garbage", "").is(t, "a garbled cursor", 400, "invalid")
	w.ask(w.ada, "DELETE", "/v1/devices/"+d.ID, "").is(t, "remove", 204, "")
	var list struct{ Devices []struct{ ID string } }
	w.ask(w.ada, "GET", "/v1/devices", "").into(t, &list)
	if len(list.Devices) != 0 {
		t.Errorf("devices: %+v", list)
	}
}

// R34: who may manage people.
func TestPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	add := func(p *daemontest.Person, name, role string) answer {
		return w.ask(p, "POST", "/v1/users", fmt.Sprintf(`{"username":%q,"password":%q,"role":%q}`, name, daemontest.Password, role))
	}
	a := add(w.ada, "carol", "member")
	a.is(t, "add", 201, "")
	var carol struct {
		ID       string
		Disabled bool
	}
	a.into(t, &carol)
	add(w.ada, "CAROL", "member").is(t, "the same name", 409, "conflict")
	add(w.ada, "second", "owner").is(t, "a second owner", 400, "invalid")
	add(w.bob(), "dave", "member").is(t, "by a member", 403, "forbidden")
	w.ask(w.bob(), "GET", "/v1/users", "").is(t, "listed by a member", 403, "forbidden")
	var users struct {
		Users []struct{ ID, Username, Role string }
	}
	w.ask(w.ada, "GET", "/v1/users", "").into(t, &users)
	if len(users.Users) != 3 {
		t.Errorf("users: %+v", users)
	}
	session := w.SignIn("carol")
	w.ask(w.ada, "PATCH", "/v1/users/"+carol.ID, `{"disabled":true}`).into(t, &carol)
	if !carol.Disabled {
		t.Error("carol was not switched off")
	}
	w.ask(session, "GET", "/v1/me", "").is(t, "a person who is switched off", 401, "unauthenticated")
	bobs := "/v1/users/" + w.bob().ID
	w.ask(w.ada, "PATCH", bobs, `{"quota_bytes":10}`).is(t, "a limit", 200, "")
	w.ask(w.bob(), "PUT", "/v1/files/a.jpg?source=album", "more than ten bytes").is(t, "over the limit", 507, "quota")
	w.ask(w.bob(), "PATCH", bobs, `{"quota_bytes":null}`).is(t, "by a member", 403, "forbidden")
	w.ask(w.ada, "PATCH", bobs, `{"quota_bytes":-1}`).is(t, "a negative limit", 400, "invalid")
	w.ask(w.ada, "PATCH", bobs, `{"quota_bytes":1.5}`).is(t, "half a byte", 400, "invalid")
	w.ask(w.ada, "PATCH", bobs, `{"quota_bytes":null}`).is(t, "no limit", 200, "")
	w.ask(w.bob(), "PUT", "/v1/files/a.jpg?source=album", "more than ten bytes").is(t, "without a limit", 201, "")
	w.ask(w.ada, "PATCH", "/v1/users/"+w.ada.ID, `{"disabled":true}`).is(t, "the owner", 403, "forbidden")
	w.ask(w.ada, "PATCH", "/v1/users/"+ident.UserID(1).String(), `{"disabled":true}`).is(t, "nobody", 404, "not-found")
}

// R20: a receipt says by which way the decision came.
func TestReceiptsSayHow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for want, agent := range map[string]string{"yunboxctl": "yunboxctl/1.0", "app": "curl/8"} {
		for _, ask := range [][2]string{{"PUT", `{"granted":true,"policy_revision":"1"}`}, {"DELETE", ""}} {
			a := w.ask(w.ada, ask[0], "/v1/consents/qq_backup", ask[1], "User-Agent", agent)
			a.is(t, ask[0], 200, "")
			if !strings.Contains(string(a.body), `"method":"`+want+`"`) {
				t.Errorf("%s by %s: %s", ask[0], agent, a.body)
			}
		}
	}
}

// R20, R22: what is asked for, decided, withdrawn and kept as a receipt.
func TestConsents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.AddPerson("bob") // who has decided nothing
	var policy struct {
		Revision, Text, Lang string
		Accepted             *struct{ Revision string }
	}
	w.ask(bob, "GET", "/v1/policy?lang=zh", "").into(t, &policy)
	if policy.Lang != "zh" || policy.Accepted != nil || policy.Text == "" {
		t.Errorf("policy: %+v", policy)
	}
	a := w.ask(nil, "GET", "/v1/policy", "", "Accept-Language", "zh-Hans-CN, en;q=0.5")
	if a.is(t, "read by anybody", 200, ""); a.header.Get("Content-Language") != "zh" {
		t.Errorf("answered in %s", a.header.Get("Content-Language"))
	}
	w.ask(bob, "PUT", "/v1/policy", `{"revision":"1"}`).is(t, "neither yes nor no", 400, "invalid")
	w.ask(bob, "PUT", "/v1/policy", `{"accepted":true,"revision":"0"}`).is(t, "an old revision", 409, "conflict")
	w.ask(bob, "PUT", "/v1/policy", `{"accepted":true,"revision":"`+policy.Revision+`"}`).is(t, "accepted", 200, "")
	w.ask(bob, "GET", "/v1/policy", "").into(t, &policy)
	if policy.Accepted == nil || policy.Accepted.Revision != policy.Revision {
		t.Errorf("policy: %+v", policy)
	}

	var purposes struct {
		Purposes []struct {
			ID, Title string
			Sources   []string
			Available bool
		}
	}
	w.ask(nil, "GET", "/v1/purposes?lang=zh", "").into(t, &purposes)
	i := slices.IndexFunc(purposes.Purposes, func(p struct {
		ID, Title string
		Sources   []string
		Available bool
	}) bool {
		return p.ID == "wechat_backup"
	})
	if i < 0 || !slices.Equal(purposes.Purposes[i].Sources, []string{"wechat"}) || !purposes.Purposes[i].Available || !strings.Contains(purposes.Purposes[i].Title, "微信") {
		t.Errorf("purposes: %+v", purposes)
	}

	state := func(purpose string) string {
		var c struct {
			Consents []struct {
				Purpose, State string
				Granted        bool
				Device         *string
			}
		}
		w.ask(bob, "GET", "/v1/consents", "").into(t, &c)
		for _, c := range c.Consents {
			if c.Purpose == purpose && c.Device == nil {
				if c.Granted != (c.State == "granted") {
					t.Errorf("%+v", c)
				}
				return c.State
			}
		}
		return "missing"
	}
	const wechat = "/v1/consents/wechat_backup"
	if s := state("wechat_backup"); s != "never" {
		t.Errorf("before any decision: %s", s)
	}
	a = w.ask(bob, "PUT", "/v1/files/a.jpg?source=wechat", "x")
	a.is(t, "without consent", 403, "consent-required")
	var p struct {
		Purpose  string
		Revision string `json:"policy_revision"`
		URL      string `json:"grant_url"`
	}
	a.into(t, &p)
	if p.Purpose != "wechat_backup" || p.URL != wechat || p.Revision != policy.Revision {
		t.Errorf("the problem does not say where to consent: %s", a.body)
	}
	grant := `{"granted":true,"policy_revision":"` + policy.Revision + `"}`
	w.ask(bob, "PUT", wechat, `{"granted":false,"policy_revision":"1"}`).is(t, "granted false", 400, "invalid")
	w.ask(bob, "PUT", wechat, `{"granted":true,"policy_revision":"0"}`).is(t, "an old revision", 409, "conflict")
	w.ask(bob, "PUT", "/v1/consents/mind_reading", grant).is(t, "no such purpose", 404, "not-found")
	w.ask(bob, "PUT", "/v1/consents/map_album", grant).is(t, "a purpose that is not available", 501, "unsupported")
	w.ask(bob, "PUT", wechat, `{"granted":true,"policy_revision":"1","device":"`+ident.DeviceID(1).String()+`"}`).is(t, "no device", 404, "not-found")
	a = w.ask(bob, "PUT", wechat, grant)
	a.is(t, "granted", 200, "")
	var receipt struct{ JWS string }
	if a.into(t, &receipt); receipt.JWS == "" {
		t.Errorf("no signed receipt: %s", a.body)
	}
	w.ask(bob, "PUT", "/v1/files/a.jpg?source=wechat", "x").is(t, "with consent", 201, "")
	w.ask(w.ada, "PUT", "/v1/files/a.jpg?source=wechat", "x").is(t, "the consent of another", 403, "consent-required")
	w.ask(bob, "DELETE", wechat, "").is(t, "withdraw", 200, "")
	if s := state("wechat_backup"); s != "withdrawn" {
		t.Errorf("after withdrawal: %s", s)
	}
	w.ask(bob, "PUT", "/v1/files/b.jpg?source=wechat", "y").is(t, "after withdrawal", 403, "consent-required")
	w.ask(bob, "PUT", wechat, `{"granted":true,"policy_revision":"1","after":""}`).is(t, "the yes of before, sent again", 409, "conflict")
	w.ask(bob, "GET", "/v1/files/a.jpg", "").is(t, "what is stored stays", 200, "")
	for path, want := range map[string]int{"/v1/consents/receipts": 3, wechat + "/receipts": 2, "/v1/consents/album_backup/receipts": 0} {
		var list struct{ Receipts []json.RawMessage }
		w.ask(bob, "GET", path, "").into(t, &list)
		if len(list.Receipts) != want {
			t.Errorf("%s: %d receipts, want %d", path, len(list.Receipts), want)
		}
	}
	w.ask(bob, "GET", "/v1/consents/mind_reading/receipts", "").is(t, "receipts of no purpose", 404, "not-found")
}

// R20: a consent may be for one device only.
func TestConsentForOneDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var phone, other struct{ ID string }
	w.ask(w.ada, "POST", "/v1/devices", `{"name":"Phone","kind":"phone"}`).into(t, &phone)
	w.ask(w.ada, "POST", "/v1/devices", `{"name":"Other","kind":"phone"}`).into(t, &other)
	w.ask(w.ada, "PUT", "/v1/consents/qq_backup", `{"granted":true,"policy_revision":"1","device":"`+phone.ID+`"}`).is(t, "for one device", 200, "")
	put := func(device string) answer {
		return w.ask(w.ada, "PUT", "/v1/files/"+device+".jpg?source=qq&device="+device, device)
	}
	put(phone.ID).is(t, "the device", 201, "")
	put(other.ID).is(t, "another device", 403, "consent-required")
	w.ask(w.ada, "PUT", "/v1/files/x.jpg?source=qq", "x").is(t, "no device", 403, "consent-required")
	w.ask(w.ada, "DELETE", "/v1/consents/qq_backup?device="+phone.ID, "").is(t, "withdraw", 200, "")
	put(phone.ID).is(t, "after withdrawal", 403, "consent-required")
	w.ask(w.ada, "DELETE", "/v1/consents/qq_backup?device=xyz", "").is(t, "a garbled device", 400, "invalid")
}

// R27: listing, trash and restoring.
func TestItems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.put(w.ada, fmt.Sprintf("DCIM/%d.jpg", i), fmt.Sprint(i))
	}
	s := w.put(w.ada, "top.jpg", "top")
	var page struct {
		Folders []struct{ Path string }
		Items   []struct {
			ID, Path string
			Trashed  *string
		}
		Next *string
	}
	w.ask(w.ada, "GET", "/v1/items", "").into(t, &page)
	if len(page.Folders) != 1 || page.Folders[0].Path != "DCIM" || len(page.Items) != 1 || page.Items[0].Path != "top.jpg" {
		t.Errorf("the root: %+v", page)
	}
	var paths []string
	for cursor := ""; ; cursor = *page.Next {
		w.ask(w.ada, "GET", "/v1/items?folder=DCIM&limit=2&cursor="+cursor, "").into(t, &page)
		for _, i := range page.Items {
			paths = append(paths, i.Path)
		}
		if page.Next == nil {
			break
		}
	}
	if len(paths) != 5 || !slices.IsSorted(paths) {
		t.Errorf("DCIM page by page: %v", paths)
	}
	for what, target := range map[string]string{
		"limit": "/v1/items?limit=0", "much": "/v1/items?limit=1001", "text": "/v1/items?limit=ten",
		"cursor": "/v1/items?cursor=%21", "unknown": "/v1/items?folders=x", "dots": "/v1/items?folder=..", "recursive": "/v1/items?recursive=perhaps",
	} {
		w.ask(w.ada, "GET", target, "").is(t, what, 400, "invalid")
	}
	w.ask(w.ada, "GET", "/v1/items?folder=none", "").is(t, "no such folder", 404, "not-found")

	item := "/v1/items/" + s.ID
	w.ask(w.bob(), "GET", item, "").is(t, "another's item", 404, "not-found")
	w.ask(w.bob(), "GET", item+"/versions", "").is(t, "another's versions", 404, "not-found")
	w.ask(w.bob(), "DELETE", item, "").is(t, "another's item", 404, "not-found")
	w.ask(w.ada, "DELETE", item, "").is(t, "purge what is not in the trash", 409, "conflict")
	w.ask(w.ada, "DELETE", "/v1/files/top.jpg", "").is(t, "to the trash", 204, "")
	w.ask(w.ada, "GET", "/v1/items?trash=true", "").into(t, &page)
	if len(page.Items) != 1 || page.Items[0].ID != s.ID || page.Items[0].Trashed == nil {
		t.Errorf("the trash: %+v", page)
	}
	w.ask(w.bob(), "POST", item+"/restore", "").is(t, "another's trash", 404, "not-found")
	w.ask(w.ada, "POST", item+"/restore", "").is(t, "restore", 200, "")
	if got := w.ask(w.ada, "GET", "/v1/files/top.jpg", ""); string(got.body) != "top" {
		t.Errorf("restored: %s", got.body)
	}
	w.ask(w.ada, "DELETE", "/v1/files/top.jpg", "").is(t, "to the trash again", 204, "")
	w.ask(w.ada, "DELETE", item, "").is(t, "purge", 204, "")
	w.ask(w.ada, "GET", item, "").is(t, "gone", 404, "not-found")
	w.ask(w.ada, "GET", "/v1/items/not-an-id", "").is(t, "no id", 400, "invalid")
}

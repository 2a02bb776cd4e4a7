package daemon_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/httpd"
)

// routes is the table of a whole box: every gateway that answers HTTP.
func routes(t *testing.T) []httpd.Route {
	t.Helper()
	box, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{
		State: t.TempDir(), HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, ScrubDays: 30,
	}})
	if err != nil {
		t.Fatal(err)
	}
	list := daemon.Routes(box)
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	return list
}

// public is every route that answers to people who have not signed in, and why.
//
// DO NOT ADD A LINE TO FIX A TEST: whatever stands here is open to every guest.
const public = `
GET /{$}                         the page itself, the same for everybody
GET /assets/                     what the page is made of
GET /.well-known/yunbox          how an app finds the box
GET /v1/openapi.json             the document, the same for every box
GET /v1/policy                   read before somebody agrees to it
GET /v1/policy/revisions         likewise
GET /v1/policy/revisions/{revision}  likewise
GET /v1/policy/exceptions        what the box may do without asking
GET /v1/purposes                 likewise
POST /v1/bind                    proves itself with the label's secret
POST /v1/deletion-receipt        proves itself with a code of 130 bits; whose account is gone cannot sign in
POST /v1/requests                anybody may ask or complain; bounded
POST /v1/requests/read           proves itself with a code of 130 bits
POST /v1/session                 proves itself with a password
POST /v1/passwords/strength      judges what somebody thinks of, before there is an account
GET /v1/sign-in                  names services that one may sign in with
POST /v1/sign-in/{service}       begins a sign-in there, which proves nothing yet
GET /v1/sign-in/{service}/callback   proves itself with state, cookie and the service's word
POST /v1/sign-in/{service}/callback  likewise
POST /v1/session/elsewhere       proves itself with what came back there, and a code
GET /v1/announcements            what was published about incidents
GET /v1/update/offer             software as its maker signed it; two at a time
GET /healthz                     says that the box answers
GET /metrics                     to this machine and to admins, see its own test
GET /ca.crt                      a certificate
OPTIONS /v1/uploads              says which versions of tus there are
OPTIONS /v1/uploads/{$}          likewise
OPTIONS /v1/uploads/{id}         likewise
GET /status.php                  how Nextcloud's apps recognize a server
GET /index.php/204               how they recognize the network
POST /index.php/login/v2         begins a sign-in that a person must finish
POST /index.php/login/v2/poll    proves itself with a token of 256 bits
GET /.well-known/immich          how Immich's programs recognize a server
/api                             says that there is no such thing
/api/                            likewise
GET /api/server/ping             likewise
GET /api/server/version          likewise
GET /api/server/features         likewise
GET /api/server/config           likewise
GET /api/server/media-types      likewise
`

// A route of the table, with one of its methods.
type knock struct {
	httpd.Route
	method, path string
}

// knocks lists every route with its methods; one that takes them all is tried
// with those that WebDAV has, since the handler tells them apart itself.
func knocks(t *testing.T) (list []knock) {
	t.Helper()
	for _, r := range routes(t) {
		method, path, ok := strings.Cut(r.Pattern, " ")
		if ok {
			list = append(list, knock{r, method, path})
			continue
		}
		for _, m := range strings.Fields("GET HEAD PUT DELETE POST OPTIONS PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK") {
			list = append(list, knock{r, m, r.Pattern})
		}
	}
	if len(list) < 120 {
		t.Fatalf("the table has %d routes only", len(list))
	}
	return list
}

func TestPublicRoutes(t *testing.T) { // R34
	want := map[string]bool{}
	for line := range strings.Lines(public) {
		if pattern := strings.TrimSpace(strings.Split(line, "  ")[0]); pattern != "" {
			want[pattern] = true
		}
	}
	for _, r := range routes(t) {
		if r.Access == httpd.Public && !want[r.Pattern] {
			t.Errorf("%s is open to everybody: is there a reason?", r.Pattern)
		}
		if r.Access == httpd.Public {
			delete(want, r.Pattern)
		}
	}
	for pattern := range want {
		t.Errorf("%s is not open to everybody, or not there", pattern)
	}
}

// How a client shows what it has.
type credential struct {
	user, secret string
	how          string // bearer, basic, api-key, cookie; empty: nothing
}

func (c credential) put(r *http.Request) {
	r.Header.Del("Authorization")
	switch c.how {
	case "bearer":
		r.Header.Set("Authorization", "Bearer "+c.secret)
	case "basic":
		r.SetBasicAuth(c.user, c.secret)
	case "api-key":
		r.Header.Set("X-Api-Key", c.secret)
	case "cookie":
		r.AddCookie(&http.Cookie{Name: httpd.CookieName, Value: c.secret})
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
}

// everyWay is one secret in every place that the box looks at.
func everyWay(who, user, secret string, into map[string][]credential) {
	for _, how := range []string{"bearer", "basic", "api-key", "cookie"} {
		into[who] = append(into[who], credential{user, secret, how})
	}
}

type made struct{ ID, Token string }

func appToken(t *testing.T, p *daemontest.Person, name, scope string) (m made) {
	t.Helper()
	ask(p, "POST", "/v1/tokens", `{"name":"`+name+`","scope":"`+scope+`"}`).is(t, name, 201, "").into(t, &m)
	return m
}

// R34: every route of the box, of every protocol, with credentials that are not
// good any more or never were. The routes come from the table, so that a new one
// is tried from its first day.
func TestEveryRouteRefusesWhoIsOut(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	b.Bind()
	expired := b.AddPerson("carl")
	ask(expired, "GET", "/v1/me", "").is(t, "while it lasted", 200, "")
	b.Pass(31 * 24 * time.Hour) // a session ends when nobody used it for 30 days
	ada := b.SignIn("ada")
	eve := b.AddPerson("eve")
	evesApp := appToken(t, eve, "app", "files")
	gone := b.SignIn("eve")
	ask(gone, "DELETE", "/v1/session", "").is(t, "sign out", 204, "")
	ask(ada, "PATCH", "/v1/users/"+eve.ID, `{"disabled":true}`).is(t, "off", 200, "")
	revoked, camera, files := appToken(t, ada, "lost", "full"), appToken(t, ada, "camera", "camera"), appToken(t, ada, "app", "files")
	ask(ada, "DELETE", "/v1/tokens/"+revoked.ID, "").is(t, "revoke", 204, "")

	out := map[string][]credential{"nobody": {{}}}
	everyWay("garbage", "ada", "garbage", out)
	everyWay("a token that was revoked", "ada", revoked.Token, out)
	everyWay("a session that was ended", "eve", gone.Token, out)
	everyWay("a session that expired", "carl", expired.Token, out)
	everyWay("a person who was switched off", "eve", eve.Token, out)
	everyWay("the app of a person who was switched off", "eve", evesApp.Token, out)
	everyWay("a camera's password", "ada", camera.Token, out)
	out["the password itself"] = []credential{{"ada", daemontest.Password, "basic"}}
	out["another's token"] = []credential{{"carl", files.Token, "basic"}}

	knockAs := func(c credential, k knock) (int, []byte) {
		r := b.Nobody().Request(k.method, plain(k.path), nil)
		c.put(r)
		status, _, body := b.Nobody().Do(r)
		return status, body
	}
	for i, k := range knocks(t) {
		if k.Access == httpd.Public {
			continue
		}
		for who, ways := range out {
			c := ways[i%len(ways)] // who it is, is found out in one place for all routes
			// Who guesses is told to wait after a while: that is a refusal too, and one
			// that good credentials never get.
			if status, body := knockAs(c, k); status != 401 && (status != 429 || who == "nobody") {
				t.Errorf("%s, by %s, %s %s: %d %.200s", who, c.how, k.method, k.path, status, body)
			}
		}
		if k.Access != httpd.Files { // and what is good for less
			how := []string{"bearer", "basic", "api-key"}[i%3]
			if status, body := knockAs(credential{"ada", files.Token, how}, k); status != 403 {
				t.Errorf("a token for files, by %s, %s %s: %d %.200s", how, k.method, k.path, status, body)
			}
		}
	}
	// The same token is good for what it is good for, after all those failures.
	for _, how := range []string{"bearer", "basic", "api-key"} {
		if status, body := knockAs(credential{"ada", files.Token, how}, knock{method: "OPTIONS", path: "/dav/"}); status != 200 {
			t.Errorf("a token for files, %s: %d %s", how, status, body)
		}
	}
}

// plain is a path of the route that names nothing real.
func plain(pattern string) string {
	return strings.NewReplacer("{$}", "", "{path...}", "a.jpg", "{id}", "0000000000001", "{user}", "ada", "{purpose}", "storage",
		"{flow}", "none", "{guardian}", "ada", "{service}", "none", "{name}", "none", "{revision}", "1").Replace(pattern)
}

// What ada keeps to herself.
const (
	adasText = "dear-diary-4711"
	adasName = "Tagebuch4711"
)

// R34: nobody gets at what another has, by whatever route: neither a member nor
// an admin, by its identifiers, its names or its address.
func TestEveryRouteKeepsPeopleApart(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	b.Local("POST", "/local/users", map[string]any{"username": "carla", "password": daemontest.Password, "role": "admin"}, nil)
	others := map[string]*daemontest.Person{"bob": b.AddPerson("bob"), "carla": b.SignIn("carla")}
	for _, p := range []*daemontest.Person{ada, others["bob"], others["carla"]} {
		p.Grant("storage", "album_backup")
	}
	put(t, ada, "secret.jpg", adasText)
	put(t, ada, adasName+".jpg", adasText)
	put(t, ada, "Albums/"+adasName+"/a.jpg", adasText)
	put(t, ada, "trashed.jpg", adasText+"!")
	ids := adasIDs(t, ada)
	ask(ada, "DELETE", "/v1/files/trashed.jpg", "").is(t, "trash", 204, "")
	upload := ask(ada, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "100",
		"Upload-Metadata", "path "+b64("upload.jpg")+",source "+b64("album")).is(t, "upload", 201, "").header.Get("Location")
	ids["upload"] = upload[strings.LastIndex(upload, "/")+1:]
	ask(ada, "MKCOL", "/remote.php/dav/uploads/ada/chunks", "").is(t, "chunks", 201, "")

	request := func(p *daemontest.Person, k knock) reply {
		path, body, headers := ids.path(k.path), "", []string{"Overwrite", "T", "Depth", "0"}
		switch {
		case k.method == "PROPFIND":
			path, headers[3] = strings.TrimSuffix(path, "secret.jpg"), "1"
		case k.method == "COPY" || k.method == "MOVE":
			to := "/dav/stolen.jpg"
			if strings.HasPrefix(path, "/remote.php/dav/") {
				to = "/remote.php/dav/files/" + p.Name + "/stolen.jpg"
			} else if strings.HasPrefix(path, "/remote.php/webdav") {
				to = "/remote.php/webdav/stolen.jpg"
			}
			headers = append(headers, "Destination", b.URL+to)
		case strings.HasPrefix(path, "/v1/uploads"):
			headers = []string{"Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream"}
		case strings.HasPrefix(path, "/api/search"):
			body = "{}"
		case strings.HasPrefix(path, "/api/") && k.method != "GET":
			body = `{"ids":["` + ids["asset"] + `"],"description":"stolen"}`
		}
		return ask(p, k.method, path, body, headers...)
	}
	before := adasWorld(t, ada, ids["upload"])
	shown := map[string]bool{} // routes that show what ada has, to ada
	for _, k := range knocks(t) {
		if k.Access == httpd.Public || k.path == "/v1/events" || strings.HasPrefix(k.path, "/v1/session") || strings.HasSuffix(k.path, "/apppassword") {
			continue // does not end, or ends the session: see their own tests
		}
		byID := ids.path(k.path) != plain(k.path) && !strings.HasPrefix(k.path, "/dav") && !strings.HasPrefix(k.path, "/remote.php/webdav") &&
			!strings.HasPrefix(k.path, "/v1/files/") && !strings.HasPrefix(k.path, "/v1/consents")
		for name, p := range others {
			if k.Access == httpd.AdminOnly && p.Name == "carla" {
				continue // what admins may do is not about files
			}
			r := request(p, k)
			if bytes.Contains(r.body, []byte(adasText)) || bytes.Contains(r.body, []byte(adasName)) {
				t.Errorf("%s, %s %s: it shows %v", name, k.method, k.path, r)
			}
			if r.status == 401 || r.status == 429 || r.status >= 500 && r.status != 501 || byID && r.status < 400 {
				t.Errorf("%s, %s %s: %.300v", name, k.method, ids.path(k.path), r)
			}
			if k.Access == httpd.AdminOnly && r.status != 403 {
				t.Errorf("%s, %s %s: %v", name, k.method, k.path, r)
			}
		}
		if slices.Contains([]string{"GET", "PROPFIND"}, k.method) || strings.HasPrefix(k.path, "/api/search") {
			if r := request(ada, k); bytes.Contains(r.body, []byte(adasText)) || bytes.Contains(r.body, []byte(adasName)) {
				shown[k.method+" "+k.path] = true
			}
		}
	}
	for _, route := range []string{
		"GET /v1/files/{path...}", "GET /v1/items", "GET /dav/", "PROPFIND /dav/", "GET /remote.php/dav/files/", "PROPFIND /remote.php/dav/files/",
		"GET /remote.php/webdav/", "GET /api/albums", "GET /api/assets/{id}/original", "POST /api/search/metadata",
	} {
		if !shown[route] {
			t.Errorf("%s does not show ada what she has, so nothing is said about others", route)
		}
	}
	if after := adasWorld(t, ada, ids["upload"]); after != before {
		t.Errorf("it had consequences:\n%s\nbecame\n%s", before, after)
	}
	for name, p := range others {
		r := ask(p, "GET", "/v1/items?recursive=true", "").is(t, name, 200, "")
		if bytes.Contains(r.body, []byte(sumOf(adasText))) {
			t.Errorf("%s has %v", name, r)
		}
	}
}

// theIDs are identifiers of what ada has, by what they name.
type theIDs map[string]string

func adasIDs(t *testing.T, ada *daemontest.Person) theIDs {
	t.Helper()
	ids := theIDs{"user": ada.ID}
	var items struct{ Items []struct{ ID, Path string } }
	ask(ada, "GET", "/v1/items?recursive=true", "").is(t, "items", 200, "").into(t, &items)
	for _, i := range items.Items {
		ids[i.Path] = i.ID
	}
	var device, app struct{ ID string }
	ask(ada, "POST", "/v1/devices", `{"name":"ada's phone","kind":"phone"}`).is(t, "device", 201, "").into(t, &device)
	ids["device"] = device.ID
	app.ID = appToken(t, ada, "ada's app", "full").ID
	ids["token"] = app.ID
	var assets struct {
		Assets struct {
			Items []struct{ ID, OriginalPath, OriginalFileName string }
		}
	}
	if err := json.Unmarshal(ask(ada, "POST", "/api/search/metadata", "{}").body, &assets); err != nil {
		t.Fatal(err)
	}
	for _, a := range assets.Assets.Items {
		if a.OriginalFileName == "secret.jpg" {
			ids["asset"] = a.ID
		}
	}
	var albums []struct{ ID string }
	if err := json.Unmarshal(ask(ada, "GET", "/api/albums", "").body, &albums); err != nil || len(albums) == 0 {
		t.Fatalf("%v, %d albums", err, len(albums))
	}
	ids["album"] = albums[0].ID
	if ids["asset"] == "" || ids["secret.jpg"] == "" || ids["trashed.jpg"] == "" {
		t.Fatalf("%v", ids)
	}
	return ids
}

// path is a path of the route that names what ada has.
func (ids theIDs) path(pattern string) string {
	id := ids["secret.jpg"]
	for prefix, what := range map[string]string{
		"/v1/devices/": "device", "/v1/tokens/": "token", "/v1/users/": "user", "/v1/uploads/": "upload", "/api/assets/": "asset", "/api/albums/": "album",
	} {
		if strings.HasPrefix(pattern, prefix) {
			id = ids[what]
		}
	}
	switch pattern {
	case "/dav/", "/remote.php/webdav/":
		pattern += "secret.jpg"
	case "/remote.php/dav/files/":
		pattern += "ada/secret.jpg"
	case "/remote.php/dav/uploads/":
		pattern += "ada/chunks/1"
	}
	return plain(strings.NewReplacer("{id}", id, "{path...}", "secret.jpg").Replace(pattern))
}

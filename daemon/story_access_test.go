package daemon_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// An operation of the box's own OpenAPI document.
type operation struct {
	method, path string
	ID           string `json:"operationId"`
	Access       string `json:"x-access"`
}

func (o operation) String() string { return o.method + " " + o.path }

func operations(t *testing.T, p *daemontest.Person) (list []operation) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	ask(p, "GET", "/v1/openapi.json", "").is(t, "the document", 200, "").into(t, &doc)
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			if method == "parameters" {
				continue
			}
			op := operation{method: strings.ToUpper(method), path: path}
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			list = append(list, op)
		}
	}
	slices.SortFunc(list, func(a, b operation) int { return strings.Compare(a.String(), b.String()) })
	if len(list) < 40 {
		t.Fatalf("the document has %d operations only", len(list))
	}
	return list
}

// bodies are requests that would do something, by operation, so that a refusal
// is one of the person and not of the request.
var bodies = map[string]string{
	"describe-device": `{"model":"mine now"}`, "rename-device": `{"name":"mine now"}`, "add-device": `{"name":"another","kind":"phone"}`,
	"create-token": `{"name":"another","scope":"full"}`, "change-password": `{"old":"` + daemontest.Password + `","new":"quite another phrase 1"}`,
	"accept-policy": `{"accepted":true,"revision":"1"}`, "grant-consent": `{"granted":true,"policy_revision":"1"}`,
	"known-blobs": `{"sha256":[]}`, "create-user": `{"username":"eve","password":"` + daemontest.Password + `"}`,
	"change-user": `{"disabled":true}`, "begin-export": `{}`, "rename-me": `{"username":"eve"}`, "rename-token": `{"name":"mine now"}`, "change-item": `{"path":"mine.jpg"}`,
	"bind-box":              `{"secret":"AAAAAAAAAAAAAAAAAAAAAA","username":"eve","password":"` + daemontest.Password + `"}`,
	"sign-in":               `{"username":"eve","password":"` + daemontest.Password + `"}`,
	"confirm-second-factor": `{"otp":"123456"}`, "judge-password": `{"password":"a password"}`,
	"prove-identity":  `{"password":"` + daemontest.Password + `"}`,
	"answer-handover": `{"accept":true}`, "offer-box": `{"to":"bob"}`,
	"ask-guardian": `{"purpose":"album_backup"}`, "answer-child": `{"answer":"yes","policy_revision":"1"}`, "become-guardian": `{"accepted":true}`,
	"share-child": `{"username":"bob"}`, "name-guardian": `{"username":"bob"}`, "grant-child-consent": `{"granted":true,"policy_revision":"1"}`,
}

// R34: every operation of the document against everybody who may not use it, on
// things that really exist. The answer is 401, 403 or 404 as the access says,
// never a fault of the box, and nothing has changed afterwards.
func TestNobodyDoesWhatTheyMayNot(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	ada.Grant("storage", "album_backup")
	bob.Grant("storage", "album_backup")

	// What ada has and others reach for.
	put(t, ada, "secret.jpg", "ada's secret")
	put(t, ada, "trashed.jpg", "ada's rubbish")
	var items struct{ Items []struct{ ID, Path string } }
	ask(ada, "GET", "/v1/items", "").is(t, "items", 200, "").into(t, &items)
	ids := map[string]string{}
	for _, i := range items.Items {
		ids[i.Path] = i.ID
	}
	ask(ada, "DELETE", "/v1/files/trashed.jpg", "").is(t, "trash", 204, "")
	var device, app, files, revoked struct{ ID, Token string }
	ask(ada, "POST", "/v1/devices", `{"name":"ada's phone","kind":"phone"}`).is(t, "device", 201, "").into(t, &device)
	ask(ada, "POST", "/v1/tokens", `{"name":"ada's app","scope":"full"}`).is(t, "token", 201, "").into(t, &app)
	ask(ada, "POST", "/v1/tokens", `{"name":"camera","scope":"files"}`).is(t, "token", 201, "").into(t, &files)
	ask(ada, "POST", "/v1/tokens", `{"name":"lost","scope":"full"}`).is(t, "token", 201, "").into(t, &revoked)
	ask(ada, "DELETE", "/v1/tokens/"+revoked.ID, "").is(t, "revoke", 204, "")
	upload := ask(ada, "POST", "/v1/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "100",
		"Upload-Metadata", "path "+b64("upload.jpg")+",source "+b64("album")).is(t, "upload", 201, "").header.Get("Location")
	upload = upload[strings.LastIndex(upload, "/")+1:]

	export := prepareExport(t, ada, `{}`)
	kid := b.AddChild("kid", time.Now().AddDate(5, 0, 0).Format("2006-01"), "ada")
	ada.BecomeGuardian(kid)
	var request struct{ ID string }
	ask(kid, "POST", "/v1/guardianship/requests", `{"purpose":"album_backup"}`).is(t, "request", 201, "").into(t, &request)

	target := func(op operation) string {
		id := ids["secret.jpg"]
		switch {
		case strings.HasPrefix(op.path, "/v1/me/exports/"):
			id = export.ID
		case strings.HasPrefix(op.path, "/v1/children/"):
			id = kid.ID
		case strings.HasPrefix(op.path, "/v1/guardianship/"):
			id = request.ID
		case strings.HasPrefix(op.path, "/v1/devices/"):
			id = device.ID
		case strings.HasPrefix(op.path, "/v1/tokens/"):
			id = app.ID
		case strings.HasPrefix(op.path, "/v1/users/"):
			id = ada.ID
		case strings.HasPrefix(op.path, "/v1/uploads/"):
			id = upload
		case op.ID == "restore-item" || op.ID == "purge-item" || op.method == "DELETE" && op.path == "/v1/items/{id}":
			id = ids["trashed.jpg"]
		}
		return strings.NewReplacer("{id}", id, "{path}", "secret.jpg", "{purpose}", "album_backup", "{category}", "files", "{user}", "ada").Replace(op.path)
	}
	knock := func(p *daemontest.Person, op operation) reply {
		var headers []string
		if strings.HasPrefix(op.path, "/v1/uploads") {
			headers = []string{"Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream", "X-HTTP-Method-Override", "PATCH"}
		}
		return ask(p, op.method, target(op), bodies[op.ID], headers...)
	}
	before := adasWorld(t, ada, upload)

	tried, useful := map[string]int{}, maps.Clone(bodies)
	for _, op := range operations(t, ada) {
		delete(useful, op.ID)
		if op.Access == "" {
			t.Errorf("%v does not say who may use it", op)
		}
		for who, p := range map[string]*daemontest.Person{
			"nobody": ada.With(""), "garbage": ada.With("garbage"), "a revoked token": ada.With(revoked.Token),
		} {
			if op.Access == "public" {
				if op.ID == "bind-box" || op.ID == "sign-in" {
					continue // the stories of those are elsewhere; wrong ones are counted
				}
				if r := knock(p, op); r.status == 401 || r.status == 403 || r.status >= 500 {
					t.Errorf("%s, %v, which is for everybody: %v", who, op, r)
				}
				continue
			}
			tried[who]++
			r := knock(p, op)
			if r.status != 401 && (who == "nobody" || r.status != 429) { // wrong credentials are also counted
				t.Errorf("%s, %v (%s): %v", who, op, op.Access, r)
			}
		}
		switch op.Access {
		case "signed-in", "admin":
			tried["files"]++
			if r := knock(ada.With(files.Token), op); r.status != 403 {
				t.Errorf("a token for files, %v (%s): %v", op, op.Access, r)
			}
		}
		switch {
		case op.Access == "admin":
			tried["bob"]++
			if r := knock(bob, op); r.status != 403 || op.method != "HEAD" && r.kind() != "forbidden" {
				t.Errorf("a member, %v: %v", op, r)
			}
		case op.Access != "public" && strings.Contains(op.path, "{id}"),
			op.Access != "public" && strings.Contains(op.path, "{path}") && op.method != "PUT":
			tried["bob"]++
			if r := knock(bob, op); r.status != 404 || op.method != "HEAD" && r.kind() != "not-found" {
				t.Errorf("bob reaches for what is ada's, %v: %v", op, r)
			}
		}
	}
	if len(useful) > 0 {
		t.Errorf("there are no such operations: %v", useful)
	}
	for _, who := range []string{"nobody", "garbage", "a revoked token", "files", "bob"} {
		if tried[who] < 10 {
			t.Errorf("%s was tried on %d operations only", who, tried[who])
		}
	}
	if after := adasWorld(t, ada, upload); after != before {
		t.Errorf("it had consequences:\n%s\nbecame\n%s", before, after)
	}
	if r := ask(bob, "GET", "/v1/items?recursive=true", ""); strings.Contains(string(r.body), "secret") {
		t.Errorf("bob sees %v", r)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// adasWorld is everything of ada's that others could have changed.
func adasWorld(t *testing.T, ada *daemontest.Person, upload string) string {
	t.Helper()
	var world strings.Builder
	for _, target := range []string{
		"/v1/items?recursive=true", "/v1/items?trash=true", "/v1/files/secret.jpg", "/v1/consents", "/v1/users", "/v1/me/exports", "/v1/guardianship",
	} {
		fmt.Fprintln(&world, target, ask(ada, "GET", target, ""))
	}
	var tokens struct{ Tokens []struct{ ID, Name string } }
	ask(ada, "GET", "/v1/tokens", "").is(t, "tokens", 200, "").into(t, &tokens)
	var devices struct{ Devices []struct{ ID, Name string } }
	ask(ada, "GET", "/v1/devices", "").is(t, "devices", 200, "").into(t, &devices)
	u := ask(ada, "HEAD", "/v1/uploads/"+upload, "", "Tus-Resumable", "1.0.0").is(t, "upload", 200, "")
	fmt.Fprintln(&world, tokens, devices, u.header.Get("Upload-Offset"), u.header.Get("Upload-Length"))
	return world.String()
}

// R03: the code of the label is spent by the first binding, whoever repeats it.
func TestABindingCannotBeRepeated(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	var label struct {
		Serial, Code string
		PairURI      string `json:"pair_uri"`
		Spent        bool
	}
	b.Local("GET", "/local/label", nil, &label)
	_, secret, _ := strings.Cut(label.PairURI, "&s=")
	secret, _, _ = strings.Cut(secret, "&")
	if secret == "" || label.Code == "" || label.Spent {
		t.Fatalf("a new box has no label: %+v", label)
	}
	bodyOf := func(name, proof string) string {
		return fmt.Sprintf(`{"username":%q,"password":%q,%s}`, name, daemontest.Password, proof)
	}
	bySecret, byCode := fmt.Sprintf(`"secret":%q`, secret), fmt.Sprintf(`"serial":%q,"code":%q`, label.Serial, label.Code)
	// Two at the same moment: one of them.
	replies := make(chan reply, 2)
	nobody := b.Nobody()
	for _, name := range []string{"ada", "eve"} {
		go func() { replies <- ask(nobody, "POST", "/v1/bind", bodyOf(name, bySecret)) }()
	}
	bound := 0
	for range 2 {
		if r := <-replies; r.status == 201 {
			bound++
		} else if r.status < 400 || r.status >= 500 {
			t.Error(r)
		}
	}
	if bound != 1 {
		t.Fatalf("%d people bound one box", bound)
	}
	for what, proof := range map[string]string{"the secret": bySecret, "serial and code": byCode} {
		if r := ask(nobody, "POST", "/v1/bind", bodyOf("mallory", proof)); r.status < 400 || r.status >= 500 || r.kind() == "" {
			t.Errorf("%s again: %v", what, r)
		}
	}
	b.Restart()
	if r := ask(nobody, "POST", "/v1/bind", bodyOf("mallory", bySecret)); r.status < 400 || r.status >= 500 {
		t.Errorf("after a restart: %v", r)
	}
	var users struct {
		Users []struct{ Username, Role string }
	}
	b.Local("GET", "/local/users", nil, &users)
	if len(users.Users) != 1 || users.Users[0].Role != "owner" {
		t.Errorf("%+v", users)
	}
	label.Code, label.PairURI = "", ""
	b.Local("GET", "/local/label", nil, &label)
	if label.Code != "" || label.PairURI != "" || !label.Spent {
		t.Errorf("the label still shows its secrets: %+v", label)
	}
}

// R34: a person who is switched off is out at once, on every device, and what
// they were sending is not kept; switched on again they have what they had.
func TestAPersonIsSwitchedOff(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada, bob := b.Bind(), b.AddPerson("bob")
	bob.Grant("album_backup")
	put(t, bob, "a.jpg", "photo")
	var app struct{ ID, Token string }
	ask(bob, "POST", "/v1/tokens", `{"name":"camera","scope":"files"}`).is(t, "token", 201, "").into(t, &app)
	events, _ := listen(t, bob, "")
	ask(ada, "PATCH", "/v1/users/"+bob.ID, `{"disabled":true}`).is(t, "off", 200, "")
	for what, p := range map[string]*daemontest.Person{"his session": bob, "his app": bob.With(app.Token)} {
		ask(p, "GET", "/v1/me", "").is(t, what, 401, "unauthenticated")
		ask(p, "GET", "/v1/files/a.jpg", "").is(t, what, 401, "unauthenticated")
		ask(p, "PUT", "/v1/files/b.jpg?source=album", "x").is(t, what, 401, "unauthenticated")
	}
	if r := ask(b.Nobody(), "POST", "/v1/session", `{"username":"bob","password":"`+daemontest.Password+`"}`); r.status/100 != 4 {
		t.Errorf("he signs in again: %v", r)
	}
	ask(ada, "PATCH", "/v1/users/"+bob.ID, `{"disabled":false}`).is(t, "on", 200, "")
	again := b.SignIn("bob")
	if r := ask(again, "GET", "/v1/files/a.jpg", ""); r.status != 200 || string(r.body) != "photo" {
		t.Errorf("what he had: %v", r)
	}
	put(t, again, "c.jpg", "after")
	select {
	case e, open := <-events: // at the latest when something happens
		if open {
			t.Errorf("the stream of a session that was ended tells of %+v", e)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the stream of a session that was ended is still open")
	}
	// The owner cannot lock everybody out, themselves included.
	if r := ask(ada, "PATCH", "/v1/users/"+ada.ID, `{"disabled":true}`); r.status/100 != 4 {
		t.Errorf("the owner switched the owner off: %v", r)
	}
}

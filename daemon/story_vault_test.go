package daemon_test

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
	"yunbox.local/daemon/daemontest"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// secretsOfAda are values that a running box must show masked, log not at all, and keep
// nowhere in the clear.
var secretsOfAda = map[string]string{
	"email": "ada.lovelace@analytical.example", "phone": "+8613812345678", "nickname": "Countess-of-L", "city": "Londinium-4711",
}

// everyByte is what lies below the state directory: the database and its log, the
// journal, keys, copies.
func everyByte(t *testing.T, dir string) (all []byte) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it came and went meanwhile
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all = append(append(all, b...), 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// R04, R15, R16, R22, R32, R33: what people tell about themselves needs their consent, is
// shown masked until they ask for it, lies encrypted, goes when they withdraw, and opens
// to nobody once their keys are destroyed. One box lives through all of it.
func TestWhatPeopleTellAboutThemselves(t *testing.T) {
	t.Parallel()
	log := &journal{}
	b := daemontest.StartLogged(t, log, func(*config.Config) {})
	ada := b.Bind()
	answers := &bytes.Buffer{} // all that is shown without being asked for
	get := func(path string) reply {
		t.Helper()
		r := ask(ada, "GET", path, "").is(t, path, 200, "")
		answers.Write(r.body)
		return r
	}

	// Without a consent nothing is taken, whatever the body is.
	ask(ada, "PUT", "/v1/me/profile/email", `{"value":"`+secretsOfAda["email"]+`"}`).is(t, "no consent", 403, "consent-required")
	ask(ada, "PUT", "/v1/me/profile/avatar", "x").is(t, "no consent", 403, "consent-required")
	ask(ada, "POST", "/v1/me/usage", `{"page":"files"}`).is(t, "no consent", 403, "consent-required")
	var device struct{ ID string }
	ask(ada, "POST", "/v1/devices", `{"name":"phone","kind":"phone"}`).is(t, "device", 201, "").into(t, &device)
	about := fmt.Sprintf(`{"username":"ada","password":%q,"device":{"id":%q,"name":"phone","model":"Model-4711","system":"Android 16","app":"yunbox 1"}}`, daemontest.Password, device.ID)
	ask(b.Nobody(), "PUT", "/v1/devices/"+device.ID+"/about", `{"model":"Model-4711"}`).is(t, "nobody", 401, "unauthenticated")
	ask(ada, "PUT", "/v1/devices/"+device.ID+"/about", `{"model":"Model-4711"}`).is(t, "no consent", 403, "consent-required")
	ask(b.Nobody(), "POST", "/v1/session", about).is(t, "sign in with a description", 200, "")
	if r := get("/v1/devices"); strings.Contains(r.String(), "Model-4711") {
		t.Errorf("a device is described without consent: %v", r)
	}

	ada.Grant("storage", "profile_details", "device_info", "usage_logs")
	for detail, value := range secretsOfAda {
		in, err := json.Marshal(map[string]string{"value": value})
		if err != nil {
			t.Fatal(err)
		}
		ask(ada, "PUT", "/v1/me/profile/"+detail, string(in)).is(t, detail, 204, "")
	}
	ask(ada, "PUT", "/v1/me/profile/gender", `{"value":"female"}`).is(t, "gender", 204, "")
	ask(ada, "PUT", "/v1/me/profile/gender", `{"value":"`+secretsOfAda["email"]+`"}`).is(t, "no gender", 400, "invalid")
	ask(ada, "PUT", "/v1/me/profile/shoe", `{"value":"42"}`).is(t, "no detail", 404, "not-found")
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	ask(ada, "PUT", "/v1/me/profile/avatar", picture.String()).is(t, "picture", 204, "")
	ask(b.Nobody(), "POST", "/v1/session", about).is(t, "sign in with a description", 200, "")
	ask(b.Nobody(), "POST", "/v1/session", `{"username":"ada","password":"a wrong one"}`).is(t, "wrong", 401, "unauthenticated")
	ask(ada, "POST", "/v1/me/usage", `{"page":"files"}`, "User-Agent", "Browser-4711", "Accept-Language", "eo").is(t, "use", 204, "")

	// Everything that the page and the tools show unasked is masked.
	if r := get("/v1/devices"); !strings.Contains(r.String(), "Model-4711") {
		t.Errorf("the device is not described: %v", r)
	}
	for _, path := range []string{"/v1/me", "/v1/me/profile", "/v1/me/sign-ins", "/v1/me/usage", "/v1/me/data", "/v1/me/data/profile", "/v1/me/data/sign_ins",
		"/v1/me/data/usage", "/v1/me/data/record", "/v1/users", "/v1/sessions"} {
		get(path)
	}
	for _, path := range []string{"/local/status", "/local/users", "/local/sign-ins", "/local/users/ada/usage", "/local/audit/tail"} {
		var raw json.RawMessage
		b.Local("GET", path, nil, &raw)
		answers.Write(raw)
	}
	const home = "127.0.0.1"
	for what, value := range secretsOfAda {
		if strings.Contains(answers.String(), value) {
			t.Errorf("%s is shown unasked", what)
		}
	}
	if strings.Contains(answers.String(), `"`+home+`"`) {
		t.Error("an address is shown unasked")
	}
	for _, want := range []string{"a***@analytical.example", "+86138****5678", `"address":"127.0.0.*"`, `"outcome":"refused"`, `"page":"files"`, "Browser-4711"} {
		if !strings.Contains(answers.String(), want) {
			t.Errorf("%s is not shown", want)
		}
	}

	// What is asked for is shown, and recorded.
	ask(ada, "POST", "/v1/me/profile/reveal", `{}`).is(t, "reveal", 200, "").has(t, secretsOfAda["email"], secretsOfAda["phone"], secretsOfAda["nickname"], secretsOfAda["city"], "female")
	ask(ada, "POST", "/v1/me/sign-ins/reveal", "").is(t, "reveal", 200, "").has(t, `"address":"`+home+`"`)
	get("/v1/me/data/record").has(t, "profile.reveal", "email,phone,nickname,gender,city", "sign_ins.reveal")
	if r := ask(ada, "GET", "/v1/me/profile/avatar", "").is(t, "picture", 200, ""); r.header.Get("Content-Type") != "image/jpeg" || len(r.body) == 0 {
		t.Errorf("%v", r.header)
	}
	mum := b.AddPerson("mum")
	ask(mum, "GET", "/v1/me/profile/avatar", "").is(t, "another's picture", 404, "not-found")
	mum.Grant("storage", "device_info", "profile_details")
	ask(mum, "PUT", "/v1/devices/"+device.ID+"/about", `{"model":"x"}`).is(t, "another's device", 404, "not-found")
	ask(mum, "PUT", "/v1/me/profile/city", `{"value":"Mumstadt"}`).is(t, "mum", 204, "")

	// Keys are changed on the running box.
	lines := b.LocalLines("POST", "/local/vault/rotate", map[string]any{})
	if last := string(lines[len(lines)-1]); !strings.Contains(last, `"event":"done"`) || !strings.Contains(last, `"lost":0`) || strings.Contains(last, `"values":0`) {
		t.Errorf("%s", last)
	}
	var found struct{ Users []string }
	b.Local("POST", "/local/users/find", map[string]string{"detail": "phone", "value": "+86 138 1234 5678"}, &found)
	if len(found.Users) != 1 || found.Users[0] != "ada" {
		t.Errorf("%v", found)
	}

	// The export has it all, as it is.
	e, archive := fetchExport(t, ada, `{}`)
	for what, value := range secretsOfAda {
		if !bytes.Contains(archive, []byte(value)) {
			t.Errorf("the export lacks %s", what)
		}
	}
	ask(ada, "DELETE", "/v1/me/exports/"+e.ID, "").is(t, "remove the export", 204, "")

	// Withdrawal erases within a second or so.
	ada.Withdraw("device_info")
	wait(t, "the device is described", func() bool { return !strings.Contains(ask(ada, "GET", "/v1/devices", "").String(), "Model-4711") })

	b.Restart()
	ask(ada, "POST", "/v1/me/profile/reveal", `{"details":["email"]}`).is(t, "after a restart", 200, "").has(t, secretsOfAda["email"])

	// Ada's keys are destroyed, as a cancellation does it. Every copy of her values on the
	// disk is noise; mum's are as they were.
	b.Stop()
	destroyKeys(t, b.State, ada.ID)
	b.Restart()
	ask(ada, "POST", "/v1/me/profile/reveal", `{}`).is(t, "destroyed", 200, "").lacks(t, "lovelace")
	get("/v1/me/profile").has(t, `"masked":null`)
	ask(mum, "POST", "/v1/me/profile/reveal", `{}`).is(t, "mum", 200, "").has(t, "Mumstadt")
	b.Stop()

	state := everyByte(t, b.State)
	for what, value := range secretsOfAda {
		if bytes.Contains(state, []byte(value)) {
			t.Errorf("%s lies on the disk in the clear", what)
		}
		if strings.Contains(log.String(), value) {
			t.Errorf("%s is in the log", what)
		}
	}
	for _, value := range []string{"Browser-4711", "Model-4711", "Mumstadt"} {
		if bytes.Contains(state, []byte(value)) {
			t.Errorf("%s lies on the disk in the clear", value)
		}
	}
}

// wait asks until a thing is so: the box does it soon, a busy computer later.
func wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s, still", what)
		}
	}
}

func (r reply) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(string(r.body), text) {
			t.Errorf("%q is not in %s", text, r.body)
		}
	}
}

func (r reply) lacks(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(string(r.body), text) {
		t.Errorf("%q is in %s", text, r.body)
	}
}

func destroyKeys(t *testing.T, state, person string) {
	t.Helper()
	u, err := ident.Parse[ident.UserID](person)
	if err != nil {
		t.Fatal(err)
	}
	box, err := daemon.Open(t.Context(), daemon.Options{Config: config.Config{
		State: state, HTTPS: "127.0.0.1:0", HTTP: config.Off, FTP: config.Off, MemoryMiB: 64, ScrubDays: 30,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Database(box).Write(t.Context(), func(tx *db.Tx) error { return daemon.Vault(box).Destroy(tx, u) }); err != nil {
		t.Error(err)
	}
	if has, err := daemon.Vault(box).HasKeys(u); has || err != nil {
		t.Errorf("keys are left: %v", err)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
}

// R30 R32: a detail that is deleted by itself, or goes with a withdrawn consent, is in no
// file any more, sealed or not, when the box says that it is erased.
func TestADetailThatIsDeletedIsNowhere(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	ada.Grant("profile_details")
	for what, erase := range map[string]func(){
		"city":   func() { ask(ada, "DELETE", "/v1/me/profile/city", "").is(t, "deleted", 204, "") },
		"gender": func() { ada.Withdraw("profile_details") },
	} {
		ada.Grant("profile_details")
		ask(ada, "PUT", "/v1/me/profile/"+what, `{"value":"female"}`).is(t, "told", 204, "")
		b.Stop()
		d, err := sql.Open("sqlite3", "file:"+filepath.Join(b.State, "box.db")+"?mode=ro")
		if err != nil {
			t.Fatal(err)
		}
		var sealed string
		err = d.QueryRow(`SELECT hex(sealed) FROM (SELECT field, sealed FROM profile UNION ALL SELECT field, sealed FROM profile_sensitive) WHERE field = ?`, what).Scan(&sealed)
		if err = errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		raw, err := hex.DecodeString(sealed)
		if err != nil {
			t.Fatal(err)
		}
		b.Restart()
		if len(holding(t, b.State, string(raw))) == 0 {
			t.Fatalf("%s: what is sealed is nowhere before", what)
		}
		erase()
		if what == "gender" { // the withdrawn one goes soon after
			wait(t, what+" is there", func() bool { return len(holding(t, b.State, string(raw))) == 0 })
		}
		forgotten(t, ada)
		wait(t, what+" is in a file", func() bool { return len(holding(t, b.State, string(raw))) == 0 })
	}
}

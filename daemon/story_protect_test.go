package daemon_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon"
	"yunbox.local/daemon/daemontest"
)

// authenticator is an app on a phone: RFC 6238, written down without a look at the
// box's.
type authenticator struct {
	secret []byte
	ahead  time.Duration // of the box's clock, which the test moves
}

func (a authenticator) code() string {
	h := hmac.New(sha1.New, a.secret)
	binary.Write(h, binary.BigEndian, time.Now().Add(a.ahead).Unix()/30)
	sum := h.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&(1<<31-1)%1_000_000)
}

// protect gives p a second factor and returns the recovery codes. The code of this
// moment is spent. ahead is how far the test has moved the box's clock.
func protect(t *testing.T, p *daemontest.Person, ahead time.Duration) (authenticator, []string) {
	t.Helper()
	var e struct {
		Secret, URI string
		QR          []string
	}
	ask(p, "POST", "/v1/me/second-factor", "").is(t, "begin", 200, "").into(t, &e)
	secret, err := base32.StdEncoding.DecodeString(e.Secret)
	if err != nil || len(secret) != 20 || !strings.Contains(e.URI, "secret="+e.Secret) || len(e.QR) < 21 || len(e.QR[0]) != len(e.QR) {
		t.Fatalf("%v: %+v", err, e)
	}
	a := authenticator{secret, ahead}
	var codes struct {
		Codes []string `json:"recovery_codes"`
	}
	ask(p, "PUT", "/v1/me/second-factor", `{"otp":"`+a.code()+`"}`).is(t, "confirm", 200, "").into(t, &codes)
	return a, codes.Codes
}

func signIn(b *daemontest.Box, name, otp string) reply {
	return ask(b.Nobody(), "POST", "/v1/session", fmt.Sprintf(`{"username":%q,"password":%q,"otp":%q}`, name, daemontest.Password, otp))
}

// What stood between a guesser and the box before box.db was lost stands there
// again: the second factor, what is left of the recovery codes, and that a code was
// used, however short before the end that was.
func TestNoCodeComesBackByARebuild(t *testing.T) { // R34
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	app, codes := protect(t, ada, 0)
	_, bobs := protect(t, bob, 0)
	ask(bob, "DELETE", "/v1/me/second-factor", "").is(t, "off", 204, "")
	b.Pass(30 * time.Second)
	app.ahead = 30 * time.Second
	ended := signIn(b, "ada", codes[0]).is(t, "a recovery code", 200, "")
	var gone made
	ended.into(t, &gone)
	ask(ada, "DELETE", "/v1/sessions", "").is(t, "sign out elsewhere", 200, "")
	// The last things that happen.
	used := app.code()
	signIn(b, "ada", used).is(t, "a code", 200, "")
	signIn(b, "ada", codes[1]).is(t, "another recovery code", 200, "")

	b.Kill()
	for _, name := range []string{"box.db", "box.db-wal", "box.db-shm"} {
		os.Remove(filepath.Join(b.State, name))
	}
	if report, err := b.Rebuild(daemon.RebuildOptions{}); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	b.Restart()
	for what, code := range map[string]string{
		"no code": "", "a code that was used": used, "a recovery code that was used": codes[0], "one that was used last": codes[1], "another's": bobs[0],
	} {
		signIn(b, "ada", code).is(t, what, 401, "code-required")
	}
	ask(ada.With(gone.Token), "GET", "/v1/me", "").is(t, "a session that was ended", 401, "unauthenticated")
	ask(ada, "GET", "/v1/me", "").is(t, "her session", 200, "")
	signIn(b, "bob", "").is(t, "bob, who switched his off", 200, "")
	signIn(b, "ada", codes[2]).is(t, "a recovery code that is left", 200, "")
	b.Pass(30 * time.Second)
	app.ahead = time.Minute
	signIn(b, "ada", app.code()).is(t, "the next code", 200, "")
}

// Neither the database, nor its journal, nor any other file of the box holds the
// secret of an authenticator or a recovery code.
func TestNoFileHoldsASecondFactor(t *testing.T) { // R32, R33
	t.Parallel()
	b := daemontest.Start(t)
	app, codes := protect(t, b.Bind(), 0)
	b.Restart()
	b.Stop()
	secrets := []string{string(app.secret), base32.StdEncoding.EncodeToString(app.secret), codes[0], strings.ReplaceAll(codes[0], "-", "")}
	files := 0
	err := filepath.WalkDir(b.State, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		for i, s := range secrets {
			if strings.Contains(string(data), s) {
				t.Errorf("%s holds secret %d", strings.TrimPrefix(name, b.State), i)
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("%d files, %v", files, err)
	}
}

// A session that was left open cannot make itself permanent: whatever gives out
// another credential, or changes who may come in, asks who is there.
func TestALeftOpenSessionIsAskedWhoItIs(t *testing.T) { // R34
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	full := appToken(t, ada, "a program", "full")
	b.Pass(6 * time.Minute)
	always := []struct{ method, path, body string }{
		{"POST", "/v1/users", `{"username":"eve","password":"` + daemontest.Password + `"}`},
		{"PATCH", "/v1/users/" + bob.ID, `{"disabled":true}`},
		{"POST", "/v1/tokens", `{"name":"a back door","scope":"full"}`},
		{"POST", "/v1/me/second-factor", ""},
		{"DELETE", "/v1/me/second-factor", ""},
	}
	for _, c := range always {
		r := ask(ada, c.method, c.path, c.body).is(t, c.method+" "+c.path, 403, "step-up-required")
		var p struct {
			URL    string `json:"proof_url"`
			MaxAge int    `json:"max_age"`
			Code   bool
		}
		if r.into(t, &p); p.URL != "/v1/session/proof" || p.MaxAge != 300 || p.Code {
			t.Errorf("%+v", p)
		}
		ask(ada.With(full.Token), c.method, c.path, c.body).is(t, "a program, "+c.path, 403, "forbidden")
	}
	// What asks for a password itself, or gives out little, goes on without.
	appToken(t, ada, "PhotoSync", "files")
	ask(ada, "POST", "/v1/session/proof", `{"password":"a wrong one"}`).is(t, "a wrong password", 403, "forbidden")
	ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "proof", 200, "")
	ask(ada, always[0].method, always[0].path, always[0].body).is(t, "afterwards", 201, "")
	appToken(t, ada, "another program", "full")
	ask(bob, "POST", "/v1/me/second-factor", "").is(t, "the proof is hers alone", 403, "step-up-required")

	// With a second factor app tokens for files are asked for, too, and so is the way by
	// which apps of Nextcloud get one: they open the box without a code.
	app, codes := protect(t, ada, 6*time.Minute)
	b.Pass(6 * time.Minute)
	app.ahead = 12 * time.Minute
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/tokens", `{"name":"PhotoSync","scope":"files"}`},
		{"POST", "/index.php/login/v2/flow/none", `{"device":"0000000000001"}`},
		{"PUT", "/v1/me/password", `{"old":"` + daemontest.Password + `","new":"quite another phrase 1"}`},
	} {
		ask(ada, c.method, c.path, c.body).is(t, c.path, 403, "step-up-required")
	}
	ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "without a code", 401, "code-required")
	proof := fmt.Sprintf(`{"password":%q,"otp":%q}`, daemontest.Password, app.code())
	ask(ada, "POST", "/v1/session/proof", proof).is(t, "with one", 200, "")
	ask(ada, "POST", "/v1/session/proof", proof).is(t, "with the same", 401, "code-required")
	appToken(t, ada, "PhotoSync again", "files")

	// Who has lost it is helped by an admin, hears of it, and is signed out.
	protect(t, b.SignIn("bob"), 12*time.Minute)
	ask(ada, "PATCH", "/v1/users/"+bob.ID, `{"second_factor":true}`).is(t, "for another", 400, "invalid")
	ask(ada, "PATCH", "/v1/users/"+bob.ID, `{"second_factor":false}`).is(t, "reset", 200, "")
	again := b.SignIn("bob")
	if r := ask(again, "GET", "/v1/me/notices", "").is(t, "news", 200, ""); !strings.Contains(string(r.body), `"factor_reset"`) {
		t.Errorf("he is not told: %v", r)
	}
	signIn(b, "ada", codes[5]).is(t, "a recovery code", 200, "")
}

// What a session is doing ends with it, wherever it was ended from, and the others
// hear the news.
func TestSignedOutFromElsewhere(t *testing.T) { // R34, R35
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	other := b.SignIn("ada")
	stream := func(p *daemontest.Person) *bufio.Scanner {
		r := p.Request("GET", "/v1/events", nil)
		resp, err := b.Client.Do(r)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() && lines.Text() != ": listening" {
		}
		return lines
	}
	others, own := stream(other), stream(ada)
	var list struct {
		Sessions []struct {
			ID      string
			Current bool
		}
	}
	ask(ada, "GET", "/v1/sessions", "").is(t, "sessions", 200, "").into(t, &list)
	if len(list.Sessions) != 2 {
		t.Fatalf("%+v", list)
	}
	for _, s := range list.Sessions {
		if !s.Current {
			ask(ada, "DELETE", "/v1/sessions/"+s.ID, "").is(t, "end", 204, "")
		}
	}
	begun := time.Now()
	for others.Scan() {
		if strings.HasPrefix(others.Text(), "event:") {
			t.Errorf("it is told of %s", others.Text())
		}
	}
	if d := time.Since(begun); d > 20*time.Second { // the next comment is due after 25
		t.Errorf("it went on for %v", d)
	}
	ask(other, "GET", "/v1/me", "").is(t, "ended", 401, "unauthenticated")

	b.SignIn("ada")
	for own.Scan() {
		if own.Text() != "event: notice" {
			continue
		}
		var n struct{ ID, Kind string }
		if own.Scan(); json.Unmarshal([]byte(strings.TrimPrefix(own.Text(), "data: ")), &n) != nil || n.Kind != "device" {
			t.Errorf("%s", own.Text())
		}
		break
	}
	var news struct {
		Notices []struct{ ID, Kind string }
	}
	ask(ada, "GET", "/v1/me/notices", "").is(t, "news", 200, "").into(t, &news)
	if len(news.Notices) != 2 {
		t.Fatalf("%+v", news)
	}
	ask(ada, "DELETE", "/v1/me/notices?through="+news.Notices[0].ID, "").is(t, "seen", 204, "")
	ask(ada, "GET", "/v1/me/notices", "").is(t, "news", 200, "").into(t, &news)
	if len(news.Notices) != 1 {
		t.Errorf("%+v", news)
	}
}

func TestPasswordsAreJudgedWhileTheyAreTyped(t *testing.T) { // R36
	t.Parallel()
	b := daemontest.Start(t)
	judge := func(password, username string) (j struct {
		OK     bool
		Score  int
		Reason string
	}) {
		body, err := json.Marshal(map[string]string{"password": password, "username": username})
		if err != nil {
			t.Fatal(err)
		}
		ask(b.Nobody(), "POST", "/v1/passwords/strength", string(body)).is(t, password, 200, "").into(t, &j)
		return j
	}
	if j := judge("woaini1314", ""); j.OK || j.Score != 0 || j.Reason != "common" {
		t.Errorf("%+v", j)
	}
	if j := judge("hannelore1", "hannelore"); j.OK || j.Reason != "personal" {
		t.Errorf("%+v", j)
	}
	if j := judge("quiet harbour seven lamps", "ada"); !j.OK || j.Score != 4 || j.Reason != "" {
		t.Errorf("%+v", j)
	}
	limited := false
	for range 100 {
		limited = limited || ask(b.Nobody(), "POST", "/v1/passwords/strength", `{"password":"x"}`).status == 429
	}
	if !limited {
		t.Error("strangers may ask without end")
	}
}

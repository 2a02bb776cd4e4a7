package api_test

import (
	"fmt"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// What goes over the wire while an account is protected is what the document says;
// what it means is tested in package account and in the stories of the whole box.
func TestProtectionOverHTTP(t *testing.T) { // R34, R36
	t.Parallel()
	w := newWorld(t)
	var f struct {
		On    bool
		Codes int `json:"recovery_codes"`
	}
	w.ask(w.ada, "GET", "/v1/me/second-factor", "").into(t, &f)
	if f.On || f.Codes != 0 {
		t.Errorf("%+v", f)
	}
	var e struct {
		Secret, URI string
		QR          []string
	}
	a := w.ask(w.ada, "POST", "/v1/me/second-factor", "")
	a.is(t, "begin", 200, "")
	if a.into(t, &e); len(e.Secret) != 32 || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", e, a.header)
	}
	w.ask(w.ada, "PUT", "/v1/me/second-factor", `{"otp":"12345"}`).is(t, "too short", 400, "invalid")
	w.ask(w.ada, "PUT", "/v1/me/second-factor", `{}`).is(t, "nothing", 400, "invalid")
	w.ask(w.ada, "POST", "/v1/me/second-factor/recovery-codes", "").is(t, "codes of nothing", 409, "conflict")
	w.ask(w.ada, "DELETE", "/v1/me/second-factor", "").is(t, "switching nothing off", 409, "conflict")
	w.ask(w.ada, "DELETE", "/v1/me/notices", "").is(t, "which?", 400, "invalid")

	w.Pass(6 * time.Minute)
	w.ask(w.ada, "POST", "/v1/me/second-factor", "").is(t, "later", 403, "step-up-required")
	body := fmt.Sprintf(`{"password":%q}`, daemontest.Password)
	w.ask(w.ada, "POST", "/v1/session/proof", body).is(t, "proof", 200, "")
	w.ask(w.ada, "POST", "/v1/me/second-factor", "").is(t, "now", 200, "")
	w.ask(nil, "POST", "/v1/session/proof", body).is(t, "nobody's proof", 401, "unauthenticated")

	in := w.ask(nil, "POST", "/v1/session", fmt.Sprintf(`{"username":"ada","password":%q,"device":{"name":"Laptop","kind":"computer"}}`, daemontest.Password))
	in.is(t, "sign in", 200, "")
	var s struct{ Token string }
	in.into(t, &s)
	var list struct {
		Sessions []struct {
			ID, Name, Kind string
			Current        bool
		}
	}
	w.askWith(s.Token, "GET", "/v1/sessions", "").into(t, &list)
	if len(list.Sessions) != 2 || list.Sessions[0].Name != "Laptop" || list.Sessions[0].Kind != "computer" || !list.Sessions[0].Current || list.Sessions[1].Current {
		t.Errorf("%+v", list)
	}
	w.ask(w.bob(), "DELETE", "/v1/sessions/"+list.Sessions[0].ID, "").is(t, "another's session", 404, "not-found")
	w.ask(w.ada, "DELETE", "/v1/sessions/nonsense", "").is(t, "no identifier", 400, "invalid")
	var ended struct{ Ended int }
	w.ask(w.ada, "DELETE", "/v1/sessions", "").into(t, &ended)
	if ended.Ended != 1 {
		t.Errorf("%+v", ended)
	}
	w.askWith(s.Token, "GET", "/v1/me", "").is(t, "the other session", 401, "unauthenticated")

	w.ask(nil, "POST", "/v1/passwords/strength", `{"password":"short"}`).is(t, "judging", 200, "")
	w.ask(nil, "POST", "/v1/passwords/strength", `{"password":7}`).is(t, "judging a number", 400, "invalid")
}

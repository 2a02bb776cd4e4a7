package daemon_test

import (
	"testing"

	"yunbox.local/daemon/daemontest"
)

// A yes that comes too late, twice, out of order or for somebody else changes nothing,
// whoever says it: about oneself, about the policy, about a child.
func TestAYesThatComesTooLate(t *testing.T) { // R20 R22 R23 R24
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob := b.AddPerson("bob")
	newest := func(p *daemontest.Person, path, purpose string) (newest, state string) {
		t.Helper()
		var list struct {
			Consents []struct {
				Purpose, Newest, State string
				Device                 *string
			}
		}
		ask(p, "GET", path, "").is(t, path, 200, "").into(t, &list)
		for _, c := range list.Consents {
			if c.Purpose == purpose && c.Device == nil {
				return c.Newest, c.State
			}
		}
		t.Fatalf("no state of %s", purpose)
		return "", ""
	}
	const own, album, revision = "/v1/consents", "/v1/consents/album_backup", `,"policy_revision":"1","after":"`
	late := func(what string, p *daemontest.Person, path, body, states, purpose, want string) {
		t.Helper()
		ask(p, "PUT", path, body).is(t, what, 409, "conflict")
		if _, state := newest(p, states, purpose); state != want {
			t.Errorf("%s: it is %s, not %s", what, state, want)
		}
	}
	bob.Grant("storage")
	first := `{"granted":true` + revision + `"}`
	ask(bob, "PUT", album, first).is(t, "yes", 200, "")
	seen, _ := newest(bob, own, "album_backup")
	ask(bob, "DELETE", album, "").is(t, "no", 200, "")
	late("the first yes, sent again", bob, album, first, own, "album_backup", "withdrawn")
	late("one on seeing the first", bob, album, `{"granted":true`+revision+seen+`"}`, own, "album_backup", "withdrawn")
	others, _ := newest(ada, own, "storage")
	late("one on seeing what another person decided", bob, album, `{"granted":true`+revision+others+`"}`, own, "album_backup", "withdrawn")
	late("one under a policy that never was", bob, album, `{"granted":true,"policy_revision":"0"}`, own, "album_backup", "withdrawn")
	seen, _ = newest(bob, own, "album_backup")
	core, _ := newest(bob, own, "storage")
	ask(bob, "PUT", "/v1/policy", `{"accepted":false,"revision":"1","after":"nonsense"}`).is(t, "a no is always heard", 200, "")
	late("accepting what was declined since", bob, "/v1/policy", `{"accepted":true,"revision":"1","after":"`+core+`"}`, own, "storage", "suspended")
	core, _ = newest(bob, own, "storage")
	ask(bob, "PUT", "/v1/policy", `{"accepted":true,"revision":"1","after":"`+core+`"}`).is(t, "accepting it anew", 200, "")
	late("one from before the policy was declined", bob, album, `{"granted":true`+revision+seen+`"}`, own, "album_backup", "withdrawn")

	kid := b.AddChild("kid", "2031-05", "ada")
	ada.BecomeGuardian(kid)
	ada.GrantFor(kid, "storage")
	of := "/v1/children/" + kid.ID + "/consents"
	yes := `{"granted":true` + revision + `"}`
	ask(bob, "PUT", of+"/album_backup", yes).is(t, "somebody who does not stand for it", 404, "not-found")
	ask(ada, "PUT", of+"/album_backup", yes).is(t, "its guardian", 200, "")
	ask(kid, "DELETE", album, "").is(t, "its own no", 200, "")
	late("its guardian's yes, sent again", ada, of+"/album_backup", yes, of, "album_backup", "withdrawn")
	seen, _ = newest(ada, of, "album_backup")
	ask(ada, "PUT", of+"/album_backup", `{"granted":true`+revision+seen+`"}`).is(t, "on seeing that", 200, "")
}

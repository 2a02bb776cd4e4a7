package daemon_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// offered is GET /v1/ownership.
type offered struct {
	Offer *struct {
		From, To string
		Mine     bool
		Due      time.Time
	}
}

// R28 R34: the owner of a box hands it over to another adult who has an account on it, and
// can cancel their own then. Until the other has accepted nothing is changed, and nobody
// gets a box whom nobody could ask, who leaves, or for whom another one decides.
func TestTheBoxGetsAnotherOwner(t *testing.T) {
	t.Parallel()
	b := daemontest.Start(t)
	ada := b.Bind()
	bob, eve := b.AddPerson("bob"), b.AddPerson("eve")
	b.Local("POST", "/local/users", map[string]any{"username": "carla", "password": daemontest.Password, "role": "admin"}, nil)
	carla := b.SignIn("carla")
	for _, p := range []*daemontest.Person{ada, bob, carla} {
		p.Grant("storage", "album_backup")
	}
	kid := b.AddChild("kid", time.Now().AddDate(5, 0, 0).Format("2006-01"), "bob")
	bob.BecomeGuardian(kid)

	roles := func(want string) {
		t.Helper()
		got := ""
		for _, p := range []*daemontest.Person{ada, bob, carla} {
			var me struct{ Role string }
			ask(p, "GET", "/v1/me", "").is(t, p.Name, 200, "").into(t, &me)
			got += p.Name + " " + me.Role + " "
		}
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	offer := func(p *daemontest.Person) (o offered) {
		t.Helper()
		ask(p, "GET", "/v1/ownership", "").is(t, "the offer", 200, "").into(t, &o)
		return o
	}
	news := func(p *daemontest.Person, kind, about string) {
		t.Helper()
		var n struct {
			Notices []struct{ Kind, Name string }
		}
		ask(p, "GET", "/v1/me/notices", "").is(t, "news", 200, "").into(t, &n)
		if last := n.Notices; len(last) == 0 || last[len(last)-1].Kind != kind || last[len(last)-1].Name != about {
			t.Errorf("%s hears %v, want %s about %s", p.Name, last, kind, about)
		}
	}
	recorded := func(p *daemontest.Person, action string) {
		t.Helper()
		if r := ask(p, "GET", "/v1/me/data/record", ""); !strings.Contains(string(r.body), `"`+action+`"`) {
			t.Errorf("the record of %s does not say %s: %.2000v", p.Name, action, r)
		}
	}
	prove := func(p *daemontest.Person) {
		t.Helper()
		ask(p, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "proof", 200, "")
	}
	const before = "ada owner bob member carla admin"

	// What says no also says how.
	r := ask(ada, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "the owner leaves", 409, "conflict")
	if !strings.Contains(string(r.body), "Hand the box over") || !strings.Contains(string(r.body), "owner offer") {
		t.Errorf("it does not say how: %v", r)
	}

	// Who may offer, and to whom.
	ask(bob, "POST", "/v1/ownership", `{"to":"carla"}`).is(t, "a member offers", 403, "forbidden")
	ask(carla, "POST", "/v1/ownership", `{"to":"carla"}`).is(t, "an admin offers", 403, "forbidden")
	ask(ada.With(appToken(t, ada, "app", "full").Token), "POST", "/v1/ownership", `{"to":"bob"}`).is(t, "an app offers", 403, "forbidden")
	ask(ada, "POST", "/v1/ownership", `{"to":"nobody here"}`).is(t, "to nobody", 404, "not-found")
	ask(ada, "POST", "/v1/ownership", `{"to":"ada"}`).is(t, "to oneself", 409, "conflict")
	ask(ada, "POST", "/v1/ownership", `{"to":"kid"}`).is(t, "to a child", 409, "conflict")
	ask(ada, "PATCH", "/v1/users/"+eve.ID, `{"disabled":true}`).is(t, "off", 200, "")
	ask(ada, "POST", "/v1/ownership", `{"to":"eve"}`).is(t, "to who is switched off", 409, "conflict")
	ask(ada, "PATCH", "/v1/users/"+eve.ID, `{"disabled":false}`).is(t, "on", 200, "")
	eve = b.SignIn("eve")
	ask(eve, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "eve leaves", 201, "")
	ask(ada, "POST", "/v1/ownership", `{"to":"eve"}`).is(t, "to who leaves", 409, "conflict")
	ask(eve, "DELETE", "/v1/me/cancellation", "").is(t, "eve stays", 204, "")
	ask(bob, "PUT", "/v1/ownership", "").is(t, "what nobody offered", 404, "not-found")
	ask(bob, "DELETE", "/v1/ownership", "").is(t, "what nobody offered", 404, "not-found")
	if o := offer(ada); o.Offer != nil {
		t.Errorf("there is an offer: %+v", o.Offer)
	}

	// Declined, taken back, made to another one, and forgotten.
	give := func(to string) {
		t.Helper()
		ask(ada, "POST", "/v1/ownership", `{"to":"`+to+`"}`).is(t, "offer", 201, "")
	}
	give("Bob")
	news(bob, "owner_offer", "ada")
	if o := offer(bob); o.Offer == nil || o.Offer.Mine || o.Offer.From != "ada" || o.Offer.To != "bob" {
		t.Errorf("%+v", o.Offer)
	}
	if o := offer(carla); o.Offer != nil {
		t.Errorf("carla sees %+v", o.Offer)
	}
	ask(carla, "PUT", "/v1/ownership", "").is(t, "another one's offer", 404, "not-found")
	ask(carla, "DELETE", "/v1/ownership", "").is(t, "another one's offer", 404, "not-found")
	ask(bob, "DELETE", "/v1/ownership", "").is(t, "no, thanks", 204, "")
	news(ada, "owner_no", "bob")
	recorded(ada, "owner.decline")
	give("bob")
	ask(ada, "DELETE", "/v1/ownership", "").is(t, "taken back", 204, "")
	news(bob, "owner_no", "ada")
	ask(bob, "PUT", "/v1/ownership", "").is(t, "what was taken back", 404, "not-found")
	give("carla")
	give("bob")
	news(carla, "owner_no", "ada")
	ask(carla, "PUT", "/v1/ownership", "").is(t, "what is another one's now", 404, "not-found")
	b.Pass(6 * time.Minute)
	ask(bob, "PUT", "/v1/ownership", "").is(t, "without a proof", 403, "step-up-required")
	ask(ada, "POST", "/v1/ownership", `{"to":"bob"}`).is(t, "without a proof", 403, "step-up-required")
	b.Pass(8 * day)
	prove(bob)
	ask(bob, "PUT", "/v1/ownership", "").is(t, "too late", 404, "not-found")
	roles(before)

	// Whoever was offered the box is switched off, or leaves, before they accept.
	prove(ada)
	give("bob")
	ask(bob, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "bob leaves", 201, "")
	ask(bob, "PUT", "/v1/ownership", "").is(t, "who leaves accepts", 403, "forbidden")
	ask(bob, "DELETE", "/v1/me/cancellation", "").is(t, "bob stays", 204, "")
	roles(before)

	// Accepted, between two kills: what was said to be so is so after each of them.
	b.Crash(nil)
	ask(bob, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "proof", 200, "")
	if o := offer(ada); o.Offer == nil || !o.Offer.Mine || o.Offer.To != "bob" {
		t.Errorf("the kill took the offer: %+v", o.Offer)
	}
	ask(bob, "PUT", "/v1/ownership", "").is(t, "accepting", 204, "")
	const after = "ada member bob owner carla admin"
	roles(after)
	for _, p := range []*daemontest.Person{ada, bob} {
		news(p, "owner_new", "bob")
		recorded(p, "owner.offer")
		recorded(p, "owner.accept")
	}
	ask(ada, "GET", "/v1/users", "").is(t, "a member manages nobody", 403, "forbidden")
	prove(ada)
	ask(ada, "PUT", "/v1/ownership", "").is(t, "taking it back", 404, "not-found")
	ask(bob, "GET", "/v1/users", "").is(t, "the owner does", 200, "")
	prove(carla)
	ask(carla, "POST", "/v1/users/"+bob.ID+"/removal", `{}`).is(t, "removing the new owner", 403, "forbidden")
	b.Crash(nil)
	roles(after)
	put(t, ada, "mine.jpg", "still mine")
	put(t, bob, "mine.jpg", "mine as before")

	// And now who owned the box can leave it.
	prove(ada)
	prove(bob) // the box was started anew
	ask(bob, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "the new owner leaves", 409, "conflict")
	var c cancelled
	ask(ada, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "the old one leaves", 201, "").into(t, &c)
	ask(bob, "POST", "/v1/ownership", `{"to":"ada"}`).is(t, "back to who leaves", 409, "conflict")
	b.Pass(8 * day)
	if f := finished(t, b, c.Code); f.State != "done" {
		t.Errorf("%+v", f)
	}
	bob = b.SignIn("bob")
	var users struct {
		Users []struct{ Username, Role string }
	}
	ask(bob, "GET", "/v1/users", "").is(t, "users", 200, "").into(t, &users)
	if got := fmt.Sprint(users.Users); strings.Contains(got, "ada") || !strings.Contains(got, "{bob owner}") {
		t.Errorf("%s", got)
	}
}

package daemon_test

import (
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/daemontest"
)

// A clock that jumps two years ahead, or back to 1970, carries nothing out that was to wait,
// lets nothing wait for years, and keeps nobody out afterwards: a cancellation, a notice of an incident
// that is published where it does not reach people, the term of a request, news, and the codes
// of an authenticator, whose clock is right.
func TestAClockThatJumpsChangesNoTerm(t *testing.T) { // R28 R29 R30 R34 R37
	t.Parallel()
	for name, jump := range map[string]time.Duration{"two years ahead": 730 * day, "1970": -time.Since(time.Unix(60, 0))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := daemontest.Start(t)
			ada := b.Bind()
			zoe, eve := b.AddPerson("zoe"), b.AddPerson("eve")
			app, codes := protect(t, zoe, 0)
			next := func() string { // each step of an authenticator is good once
				b.Pass(30 * time.Second)
				app.ahead += 30 * time.Second
				return app.code()
			}
			eve.Grant("storage", "album_backup")
			put(t, eve, "kept.txt", "kept")
			ask(eve, "POST", "/v1/me/cancellation", `{"files":"erase"}`).is(t, "cancellation", 201, "")
			type request struct {
				ID, Due string
				Overdue bool
			}
			asked := func(when string) request {
				t.Helper()
				var q request
				ask(zoe, "POST", "/v1/requests", `{"kind":"access","text":"What do you know?"}`).is(t, when, 201, "").into(t, &q)
				return q
			}
			inTerm := func(when string) {
				t.Helper()
				var list struct{ Requests []request }
				ask(zoe, "GET", "/v1/me/requests", "").is(t, when, 200, "").into(t, &list)
				for _, q := range list.Requests {
					due, err := time.ParseInLocation(time.DateOnly, q.Due, time.Local)
					if left := time.Until(due); err != nil || q.Overdue || left < 17*day || left > 24*day {
						t.Errorf("%s: a request is due by %s, overdue: %v", when, q.Due, q.Overdue)
					}
				}
			}
			published := func() bool {
				var list struct{ Incidents []struct{ ID string } }
				ask(b.Nobody(), "GET", "/v1/announcements", "").is(t, "what is published", 200, "").into(t, &list)
				return len(list.Incidents) > 0
			}
			incident := func() {
				t.Helper()
				var i struct{ ID string }
				ask(ada, "POST", "/v1/incidents", `{"happened":"2026-03-04T05:06:00Z","contact":"Ada","scope":{"people":["`+zoe.ID+`"]},
					"text":{"en":{"title":"a","what":"b","effect":"c","measures":"d","advice":"e","remedies":"f"}}}`).is(t, "a draft", 201, "").into(t, &i)
				ask(ada, "POST", "/v1/incidents/"+i.ID+"/send", `{"publish":false}`).is(t, "sent", 200, "")
			}
			asked("before")
			incident()

			b.Leap(jump)
			b.Restart() // whatever is due is looked at
			if jump < 0 {
				rightTime(b)
			}
			asked("meanwhile")
			if jump < 0 { // the box knows better
				signIn(b, "zoe", next()).is(t, "a code, by a clock that is right", 200, "")
			} else {
				signIn(b, "zoe", next()).is(t, "a code of another year", 401, "code-required")
				signIn(b, "zoe", codes[0]).is(t, "a recovery code", 200, "")
			}
			ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "it is her", 200, "")
			incident()
			inTerm("meanwhile")
			if r := ask(zoe, "GET", "/v1/me/notices", "").is(t, "news", 200, ""); strings.Count(string(r.body), `"incident"`) != 2 {
				t.Errorf("what happened before is gone: %s", r.body)
			}
			ask(eve, "GET", "/v1/files/kept.txt", "").is(t, "what is cancelled, and not over", 200, "")
			if published() {
				t.Error("what was to wait for three days is published")
			}

			b.Leap(-jump)
			b.Restart()
			inTerm("after")
			signIn(b, "zoe", next()).is(t, "a code, when the time is right again", 200, "")
			ask(eve, "DELETE", "/v1/me/cancellation", "").is(t, "keeping the account", 204, "")
			b.Pass(4 * day)
			b.Restart()
			tries := 0
			for ; !published() && tries < 200; tries++ {
				time.Sleep(50 * time.Millisecond)
			}
			if tries == 200 {
				t.Error("what was sent meanwhile waits for the time that the clock said")
			}
		})
	}
}

// A box that was off for a weekend, on no network that knows the time: its clock is right, the
// time that it has seen pass is behind, and an authenticator goes by the former.
func TestAuthenticatorsAfterAWeekendOff(t *testing.T) { // R34
	t.Parallel()
	b := daemontest.Start(t)
	ada, zoe := b.Bind(), b.AddPerson("zoe")
	app, _ := protect(t, zoe, 0)
	b.Stop()
	b.Leap(2 * day)
	b.Restart()
	app.ahead = 2 * day
	used := app.code()
	signIn(b, "zoe", used).is(t, "a code", 200, "")
	signIn(b, "zoe", used).is(t, "the same again", 401, "code-required")
	ask(ada, "POST", "/v1/session/proof", `{"password":"`+daemontest.Password+`"}`).is(t, "it is her", 200, "")
	protect(t, ada, 2*day)
}

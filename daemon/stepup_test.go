package daemon_test

import (
	"net/http"
	"strings"
	"testing"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
)

// mild is every operation of somebody who signed in, or of an admin, that changes
// something and asks for no recent proof of identity, and why. What app tokens for
// files may do is not here: such a token has no password behind it.
//
// DO NOT ADD A LINE TO FIX A TEST: would you want it done by whoever finds your
// browser open?
const mild = `
DELETE /v1/session                       ends what is open
DELETE /v1/sessions                      likewise
DELETE /v1/sessions/{id}                 likewise
DELETE /v1/tokens/{id}                   likewise
DELETE /v1/invitations                   likewise
DELETE /v1/devices/{id}                  likewise; what it has uploaded stays
POST /v1/session/proof                   is the proof
POST /v1/devices                         a name in a list
PATCH /v1/devices/{id}                   likewise
PATCH /v1/me                             for how long deletions are remembered
DELETE /v1/me/notices                    news that was seen
DELETE /v1/me/exports/{id}               a list, which can be made again
PATCH /v1/tokens/{id}                    a name in a list
PUT /v1/me/profile/{detail}              what one tells about oneself; nothing is opened or sent by it
DELETE /v1/me/profile/{detail}           likewise
PUT /v1/me/profile/avatar                likewise
DELETE /v1/me/profile/avatar             likewise
POST /v1/me/profile/reveal               shows one's own, and is recorded
POST /v1/me/sign-ins/reveal              likewise
POST /v1/me/usage/reveal                 likewise
POST /v1/me/usage                        a page that was opened
DELETE /v1/me/usage                      what is noted of that
PUT /v1/devices/{id}/about               what a device is
DELETE /v1/devices/{id}/about            likewise
PUT /v1/policy                           must be as easy as withdrawing
PUT /v1/consents/{purpose}               likewise
DELETE /v1/consents/{purpose}            likewise
PUT /v1/children/{id}/consents/{purpose}  likewise, for a child
DELETE /v1/children/{id}/consents/{purpose}  likewise
PUT /v1/guardianship/requests/{id}       likewise
POST /v1/guardianship/requests           a child asks
DELETE /v1/guardianship/requests/{id}    takes it back
DELETE /v1/children/{id}                 as easy as withdrawing: it gives no power, and nothing is deleted
DELETE /v1/me/cancellation               keeps what there is
DELETE /v1/users/{id}/removal            likewise
DELETE /v1/ownership                     keeps what there is
PUT /v1/handovers/{id}                   can be decided anew until the files come
PUT /v1/requests/{id}/answer             words
POST /v1/me/incidents/{id}/seen          news that was seen
POST /v1/me/links                        ends what began with a proof, in the same session
DELETE /v1/me/links/{id}                 ends what is open
DELETE /v1/update/bundle                 throws away what was not installed
POST /v1/update-check                    sends three words that were shown, with consent
POST /v1/update-check/number             a random number
POST /v1/statistics                      sends sums that were shown, with consent
POST /v1/incidents                       a draft
PUT /v1/incidents/{id}                   likewise
DELETE /v1/incidents/{id}                likewise
DELETE /v1/incidents/{id}/publication    after which less is shown
POST /v1/duplicates/scan                 reads
POST /v1/duplicates/picture              likewise
POST /v1/duplicates/plan                 likewise
POST /v1/duplicates/plans                likewise
POST /v1/duplicates/apply                can be undone
POST /v1/duplicates/undo                 likewise
`

// strict is what asks for a proof, and when: so that a line that is lost is noticed.
var strict = map[string]account.When{
	"PUT /v1/me/password": account.WithFactor, "POST /v1/tokens": account.WithFactor, "POST /index.php/login/v2/flow/{flow}": account.WithFactor,
	"POST /v1/me/second-factor": account.Always, "PUT /v1/me/second-factor": account.Always, "DELETE /v1/me/second-factor": account.Always,
	"POST /v1/me/second-factor/recovery-codes": account.Always, "POST /v1/users": account.Always, "POST /v1/factory-reset": account.Always, "POST /v1/invitations": account.Always, "PUT /v1/me/username": account.Always, "POST /v1/me/exports": account.Always, "PATCH /v1/users/{id}": account.Always,
	"PUT /v1/children/{id}": account.Always, "POST /v1/children/{id}/guardians": account.Always, "DELETE /v1/children/{id}/data/{purpose}": account.Always,
	"POST /v1/users/{id}/guardians": account.Always, "DELETE /v1/users/{id}/guardians/{user}": account.Always,
	"DELETE /v1/me/data/{category}": account.Always, "DELETE /v1/me/data": account.Always,
	"POST /v1/me/cancellation": account.Always, "POST /v1/me/cancellation/code": account.Always, "POST /v1/users/{id}/removal": account.Always, "PUT /v1/retention/{category}": account.Always,
	"POST /v1/ownership": account.Always, "PUT /v1/ownership": account.Always,
	"PUT /v1/update/bundle": account.Always, "POST /v1/update/install": account.Always, "POST /v1/update/rollback": account.Always,
	"POST /v1/incidents/{id}/send": account.Always, "POST /v1/me/links/{service}": account.Always,
}

func TestEveryRouteSaysWhetherItAsksForAProof(t *testing.T) { // R34
	easy := map[string]bool{}
	for line := range strings.Lines(mild) {
		if pattern, _, _ := strings.Cut(strings.TrimSpace(line), "  "); pattern != "" {
			easy[pattern] = true
		}
	}
	seen := map[string]bool{}
	for _, r := range routes(t) {
		seen[r.Pattern] = true
		method, _, _ := strings.Cut(r.Pattern, " ")
		if r.StepUp != strict[r.Pattern] {
			t.Errorf("%s asks for a proof: %d, want %d", r.Pattern, r.StepUp, strict[r.Pattern])
		}
		switch {
		case r.Access == httpd.Public && r.StepUp != 0:
			t.Errorf("%s is public and asks for a proof of identity", r.Pattern)
		case r.Access != httpd.SignedIn && r.Access != httpd.AdminOnly, method == http.MethodGet:
		case (r.StepUp != 0) == easy[r.Pattern]:
			t.Errorf("%s: is it sensitive? httpd/stepup.go says %d, this test %v", r.Pattern, r.StepUp, easy[r.Pattern])
		}
	}
	for pattern := range easy {
		if !seen[pattern] {
			t.Errorf("there is no %s", pattern)
		}
	}
	for pattern := range strict {
		if !seen[pattern] || httpd.StepUp(pattern) == 0 {
			t.Errorf("there is no %s, or it asks for nothing", pattern)
		}
	}
}

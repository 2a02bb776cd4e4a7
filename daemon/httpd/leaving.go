package httpd

import (
	"net/http"
	"slices"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// whileLeaving is what somebody may still do, beside reading, whose account is being
// cancelled: keep it, take all of it away, see to who is signed in, say no.
func whileLeaving() []string {
	return []string{
		"DELETE /v1/me/cancellation", "POST /v1/me/cancellation", "DELETE /v1/ownership",
		"POST /v1/me/exports", "DELETE /v1/me/exports/{id}", "DELETE /v1/me/notices", "POST /v1/requests", "POST /v1/requests/read", "POST /v1/deletion-receipt", "POST /v1/me/cancellation/code",
		"POST /v1/session/proof", "DELETE /v1/session", "DELETE /v1/sessions", "DELETE /v1/sessions/{id}", "DELETE /v1/tokens/{id}",
		"DELETE /v1/consents/{purpose}",
	}
}

// leaving refuses what an account that is being cancelled may not do any more.
func leaving(p ident.Principal, method, pattern string) error {
	if !p.Leaving || safe(method) && !slices.Contains(making(), pattern) || method == "PROPFIND" || method == "REPORT" || method == http.MethodTrace || slices.Contains(whileLeaving(), pattern) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Forbidden, Op: "httpd.leaving", Title: "This account is being cancelled",
		Detail: "Until then it can be read and exported, and nothing is taken in or changed.",
		Hint:   "To keep the account, undo the cancellation on the box's page under Account.",
	}
}

package httpd

import (
	"slices"
	"strings"
)

// What a person may do who declined the current privacy policy, or has not accepted it
// after an earlier one: see what is theirs, export and delete it, end what is open,
// decide, close the account. All else is refused before the body is read, on every
// gateway, because every route passes through Server.admit. What reads and what deletes
// remains; any other route is refused unless it is named here, and so is all that manages
// the box. A test compares this with all routes of the box.
//
// What comes in by other ways than HTTP (cameras, watched folders) needs a
// consent.Grant, which asks the same question.

// driveReads are the methods of WebDAV that read, delete, and give a lock back.
const driveReads = "GET HEAD OPTIONS PROPFIND DELETE UNLOCK"

// anyMethod is what remains of a pattern that has a method of its own.
const anyMethod = "*"

// remains lists routes that remain though they neither read nor delete by their method,
// and of those that take all methods, the ones that do.
func remains() map[string]string {
	return map[string]string{
		// deciding
		"PUT /v1/policy":                 anyMethod,
		"PUT /v1/consents/{purpose}":     anyMethod, // the ledger itself refuses all but accepting
		"POST /v1/guardianship/requests": anyMethod, // a child asks
		// closing the account, and keeping others out of what is left
		"POST /v1/me/cancellation": anyMethod, "POST /v1/me/cancellation/code": anyMethod, "POST /v1/session/proof": anyMethod, "PUT /v1/me/password": anyMethod,
		"POST /v1/me/incidents/{id}/seen": anyMethod, // what they must be told
		// taking away what is theirs, and knowing first whether it is all here and whole
		"POST /v1/me/exports": anyMethod, "POST /v1/blobs/known": anyMethod, "POST /v1/blobs/verify": anyMethod, "POST /api/search/metadata": anyMethod,
		"POST /v1/duplicates/undo": anyMethod, "POST /v1/duplicates/plans": anyMethod, // giving back what was folded
		// seeing unmasked what is theirs
		"POST /v1/me/profile/reveal": anyMethod, "POST /v1/me/sign-ins/reveal": anyMethod, "POST /v1/me/usage/reveal": anyMethod,
		// the drives
		"/dav": driveReads, "/dav/": driveReads, "/remote.php/webdav": driveReads, "/remote.php/webdav/": driveReads,
		"/remote.php/dav": driveReads, "/remote.php/dav/{$}": driveReads, "/remote.php/dav/files/": driveReads, "/remote.php/dav/uploads/": driveReads,
	}
}

// making lists routes that do not remain though they look as if they only read: each
// makes a password, or leads to one.
func making() []string {
	return []string{"GET /ocs/v1.php/core/getapppassword", "GET /ocs/v2.php/core/getapppassword", "GET /index.php/login/v2/flow/{flow}"}
}

// Remains says what of the route of that pattern remains to people who did not accept
// the current privacy policy: the methods, separated by spaces, "*" for the one of the
// pattern, "" for none.
func Remains(pattern string, a Access) string {
	method, _, _ := strings.Cut(pattern, " ")
	reads := slices.Contains([]string{"GET", "HEAD", "DELETE"}, method)
	switch methods, named := remains()[pattern]; {
	case a == AdminOnly:
		return ""
	case named:
		return methods
	case a == Public, reads && !slices.Contains(making(), pattern):
		return anyMethod
	}
	return ""
}

// remainsBy says whether a request with that method remains to them.
func (r Route) remainsBy(method string) bool {
	return r.Remains == anyMethod || slices.Contains(strings.Fields(r.Remains), method)
}

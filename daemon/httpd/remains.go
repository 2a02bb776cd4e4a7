package httpd

import (
	"slices"
	"strings"
)

// What a person may do who declined the current privacy policy, or has not accepted it
// after an earlier one: read the policy and what is theirs, export and delete it, end
// what is open, decide, close the account. All else is refused before the body is
// read, on every gateway, because every route passes through Server.admit. A route that
// is not here is refused: a new one must be added on purpose. A test compares this
// table with all routes of the box.
//
// What comes in by other ways than HTTP (cameras, watched folders) needs a
// consent.Grant, which asks the same question.

// driveReads are the methods of WebDAV that read, delete, and give a lock back.
const driveReads = "GET HEAD OPTIONS PROPFIND DELETE UNLOCK"

// remains lists the routes by their pattern: for one that takes all methods, those
// that remain.
func remains() map[string]string {
	return map[string]string{
		// deciding
		"PUT /v1/policy": "", "GET /v1/policy/changes": "", "GET /v1/consents": "", "GET /v1/consents/receipts": "", "GET /v1/consents/{purpose}/receipts": "",
		"PUT /v1/consents/{purpose}":    "", // the ledger itself refuses all but accepting
		"DELETE /v1/consents/{purpose}": "",
		// signing out, here and elsewhere, and keeping others out of what is left
		"DELETE /v1/session": "", "GET /v1/sessions": "", "DELETE /v1/sessions": "", "DELETE /v1/sessions/{id}": "", "POST /v1/session/proof": "",
		"GET /v1/tokens": "", "DELETE /v1/tokens/{id}": "", "GET /v1/devices": "", "DELETE /v1/devices/{id}": "", "PUT /v1/me/password": "",
		"DELETE /ocs/v1.php/core/apppassword": "", "DELETE /ocs/v2.php/core/apppassword": "",
		// what is theirs
		"GET /v1/me": "", "GET /v1/me/second-factor": "", "GET /v1/me/notices": "", "DELETE /v1/me/notices": "", "GET /v1/devices/{id}/ledger": "", "GET /v1/record": "",
		"GET /v1/me/data": "", "GET /v1/me/data/{category}": "", "GET /v1/events": "", "GET /v1/storage": "", "GET /v1/damaged": "",
		"POST /v1/blobs/known": "", "POST /v1/blobs/verify": "", // whether all is here and whole, before one takes it away
		"GET /v1/items": "", "GET /v1/items/{id}": "", "GET /v1/items/{id}/versions": "", "DELETE /v1/items/{id}": "",
		"GET /v1/files/{path...}": "", "DELETE /v1/files/{path...}": "",
		"GET /v1/uploads/{id}": "", "HEAD /v1/uploads/{id}": "", "DELETE /v1/uploads/{id}": "",
		"POST /v1/duplicates/undo": "", "POST /v1/duplicates/plans": "", "GET /v1/duplicates/folders": "", // giving back what was folded
		// taking it away
		"POST /v1/me/exports": "", "GET /v1/me/exports": "", "GET /v1/me/exports/{id}": "", "DELETE /v1/me/exports/{id}": "", "GET /v1/me/exports/{id}/archive": "",
		// the same by other protocols
		"/dav": driveReads, "/dav/": driveReads, "/remote.php/webdav": driveReads, "/remote.php/webdav/": driveReads,
		"/remote.php/dav": driveReads, "/remote.php/dav/{$}": driveReads, "/remote.php/dav/files/": driveReads, "/remote.php/dav/uploads/": driveReads,
		"GET /ocs/v1.php/cloud/capabilities": "", "GET /ocs/v1.php/cloud/user": "", "GET /ocs/v1.php/cloud/users/{user}": "",
		"GET /ocs/v2.php/cloud/capabilities": "", "GET /ocs/v2.php/cloud/user": "", "GET /ocs/v2.php/cloud/users/{user}": "",
		"GET /api/server/about": "", "GET /api/users/me": "", "GET /api/api-keys/me": "", "GET /api/assets/statistics": "", "GET /api/assets/{id}": "",
		"GET /api/assets/{id}/original": "", "POST /api/search/metadata": "", "GET /api/albums": "", "GET /api/albums/{id}": "", "GET /api/jobs": "",
	}
}

// anyMethod is what Route.Remains says of a pattern that has a method, or none to tell
// apart.
const anyMethod = "*"

// Remains says what of the route of that pattern remains to people who did not accept
// the current privacy policy: the methods, separated by spaces, "*" for all that the
// route has, "" for none.
func Remains(pattern string) string {
	methods, ok := remains()[pattern]
	if ok && methods == "" {
		return anyMethod
	}
	return methods
}

// remainsBy says whether a request with that method remains to them. A public route
// does in any case: it asks nobody who they are.
func (r Route) remainsBy(method string) bool {
	return r.Access == Public || r.Remains == anyMethod || slices.Contains(strings.Fields(r.Remains), method)
}

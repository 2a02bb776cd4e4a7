package httpd

import "yunbox.local/daemon/account"

// stepUps are the routes that ask for a recent proof of identity: a session that
// somebody left open, or a cookie that was stolen, is not enough for them. It is
// asked for before the body is read, by account.Accounts.RequireFresh. A test
// compares this table with all routes of the box that change something.
//
// One case more depends on the body: an app token of scope full (POST /v1/tokens)
// asks everybody. Nothing over HTTP empties a whole trash, adds a second copy or shows
// its recovery key; root does that on the unix socket.
func stepUps() map[string]account.When {
	return map[string]account.When{
		"PUT /v1/me/password":                      account.WithFactor, // asks for the old password itself
		"POST /v1/me/second-factor":                account.Always,
		"PUT /v1/me/second-factor":                 account.Always,
		"DELETE /v1/me/second-factor":              account.Always,
		"POST /v1/me/second-factor/recovery-codes": account.Always,
		"PUT /v1/me/username":                      account.Always,     // one signs in with it
		"POST /v1/me/exports":                      account.Always,     // all there is, in one file
		"POST /v1/tokens":                          account.WithFactor, // opens the box without a code
		"POST /index.php/login/v2/flow/{flow}":     account.WithFactor, // likewise
		"POST /v1/users":                           account.Always,
		"POST /v1/invitations":                     account.Always, // as adding somebody is
		"POST /v1/factory-reset":                   account.Always, // everything of everybody, for good
		"DELETE /v1/me/data/{category}":            account.Always, // for good
		"DELETE /v1/me/data":                       account.Always, // likewise
		"POST /v1/me/cancellation":                 account.Always, // likewise
		"POST /v1/me/cancellation/code":            account.Always, // the one before is good for nothing then
		"POST /v1/users/{id}/removal":              account.Always,
		"PUT /v1/retention/{category}":             account.Always, // what is older goes
		"POST /v1/me/links/{service}":              account.Always, // one signs in with it from then on
		"POST /v1/incidents/{id}/send":             account.Always, // cannot be taken back
		"POST /v1/ownership":                       account.Always, // who decides for everybody
		"PUT /v1/ownership":                        account.Always, // likewise
		"PUT /v1/update/bundle":                    account.Always, // what the box will run
		"POST /v1/update/install":                  account.Always, // likewise
		"POST /v1/update/rollback":                 account.Always, // likewise
		"PATCH /v1/users/{id}":                     account.Always,
		"PUT /v1/children/{id}":                    account.Always, // from then on one decides for a child
		"POST /v1/children/{id}/guardians":         account.Always, // and lets another one
		"DELETE /v1/children/{id}/data/{purpose}":  account.Always,
		"POST /v1/users/{id}/guardians":            account.Always,
		"DELETE /v1/users/{id}/guardians/{user}":   account.Always,
	}
}

// StepUp says who must have proved lately who they are to use the route of that
// pattern; 0: nobody.
func StepUp(pattern string) account.When { return stepUps()[pattern] }

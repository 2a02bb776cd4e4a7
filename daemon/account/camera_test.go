package account_test

import (
	"testing"
	"time"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// R34: a camera's password opens the camera gateway to its owner's camera, until it
// is revoked or its owner is switched off, and nothing else.
func TestCameraPasswords(t *testing.T) {
	t.Parallel()
	b := open(t)
	owner := b.owner().Principal
	made, password, err := b.CreateToken(t.Context(), owner, "Sony A7", ident.ScopeCamera, 0)
	check(t, err)
	c, err := b.AuthenticateCamera(t.Context(), "ANNA", password, "192.0.2.7")
	check(t, err)
	if c.Principal.User != owner.User || c.Principal.Scope != ident.ScopeCamera || c.Principal.Admin() || c.Name != "Sony A7" {
		t.Errorf("%+v", c)
	}
	check(t, b.CameraStillIn(t.Context(), c.Principal))
	if b.alive(password) {
		t.Error("it opens the interface")
	}
	if _, _, err := b.CreateToken(t.Context(), c.Principal, "another", ident.ScopeCamera, 0); problem.KindOf(err) != problem.Forbidden {
		t.Errorf("a camera makes passwords: %v", err)
	}
	list, err := b.Tokens(t.Context(), owner.User)
	check(t, err)
	if len(list) != 1 || list[0].ID != made.ID || list[0].Scope != ident.ScopeCamera || list[0].LastUsed.IsZero() {
		t.Errorf("%+v", list)
	}
	b.pass(3 * 365 * day)
	if _, err := b.AuthenticateCamera(t.Context(), "anna", password, "192.0.2.7"); err != nil {
		t.Errorf("the camera has to be set up anew: %v", err)
	}
	owner = b.mustLogin("anna").Principal
	check(t, b.RevokeToken(t.Context(), owner, made.ID))
	if err := b.CameraStillIn(t.Context(), c.Principal); problem.KindOf(err) != problem.Unauthenticated {
		t.Errorf("revoked, and still in: %v", err)
	}
	if _, err := b.AuthenticateCamera(t.Context(), "anna", password, "192.0.2.7"); problem.KindOf(err) != problem.Unauthenticated {
		t.Errorf("revoked, and lets in: %v", err)
	}
}

// Guessing is slow from one address, and changes nothing for others.
func TestCameraGuessing(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	_, password, err := b.CreateToken(t.Context(), b.owner().Principal, "cam", ident.ScopeCamera, 0)
	check(t, err)
	tries := 0
	for range 100 {
		if _, err := b.AuthenticateCamera(t.Context(), "anna", "0000-0000-0000-0000", "192.0.2.66"); problem.KindOf(err) == problem.Unauthenticated {
			tries++
		}
	}
	if tries < 2 || tries > 10 {
		t.Errorf("%d of 100 guesses were looked at", tries)
	}
	if _, err := b.AuthenticateCamera(t.Context(), "anna", password, "192.0.2.7"); err != nil {
		t.Errorf("a camera at another address is kept out: %v", err)
	}
	b.mustLogin("anna") // the page has an account of its own
	b.pass(time.Hour)
	if _, err := b.AuthenticateCamera(t.Context(), "anna", password, "192.0.2.66"); err != nil {
		t.Errorf("for ever: %v", err)
	}
}

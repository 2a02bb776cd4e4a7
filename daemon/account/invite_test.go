package account_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func joining(i account.Invitation, name string) account.JoinRequest {
	return account.JoinRequest{Secret: i.Secret, Username: name, Password: good, Remote: home, Device: account.DeviceInfo{Name: "a phone", Kind: "phone"}}
}

func TestInvitationsAreGoodOnce(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	owner := b.owner().Principal
	i, err := b.Invite(t.Context(), owner, ident.Member)
	check(t, err)
	if !strings.HasPrefix(i.URI, "yunbox://join?v=1&id="+deviceID+"&k=") || !strings.HasSuffix(i.URI, "&s="+i.Secret) {
		t.Error(i.URI)
	}
	for what, spoil := range map[string]func(*account.JoinRequest){
		"a weak password": func(j *account.JoinRequest) { j.Password = "password" }, "no name": func(j *account.JoinRequest) { j.Username = "" },
		"another kind of device": func(j *account.JoinRequest) { j.Device.Kind = "toaster" },
	} {
		j := joining(i, "bob")
		spoil(&j)
		if _, err := b.Join(t.Context(), j); problem.KindOf(err) != problem.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = b.Join(t.Context(), joining(i, "anna"))
	wantKind(t, err, problem.Conflict) // the name is taken; the invitation is not used up
	var wg sync.WaitGroup
	joined := make(chan account.Session, 5)
	for n := range 5 {
		wg.Go(func() {
			j := joining(i, "bob"+string(rune('a'+n)))
			j.Remote = j.Username
			if s, err := b.Join(t.Context(), j); err == nil {
				joined <- s
			} else if problem.KindOf(err) != problem.Unauthenticated {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(joined) != 1 {
		t.Fatalf("%d people by one invitation", len(joined))
	}
	if p, err := b.Authenticate(t.Context(), (<-joined).Token); err != nil || p.Role != ident.Member || p.Device == 0 {
		t.Errorf("%+v %v", p, err)
	}
	if !strings.Contains(strings.Join(b.actions(), " "), "user.invite") {
		t.Errorf("the record has %v", b.actions())
	}
}

func TestInvitationsEnd(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	owner := b.owner().Principal
	invite := func(p ident.Principal, role ident.Role) account.Invitation {
		t.Helper()
		i, err := b.Invite(t.Context(), p, role)
		check(t, err)
		return i
	}
	refused := func(i account.Invitation, what string) {
		t.Helper()
		j := joining(i, "mallory")
		j.Remote = what
		if _, err := b.Join(t.Context(), j); problem.KindOf(err) != problem.Unauthenticated {
			t.Errorf("%s: %v", what, err)
		}
	}
	open := func(want bool) { // R02: the network is told
		t.Helper()
		until, changed := b.Inviting()
		if until.IsZero() == want {
			t.Errorf("somebody may join until %v", until)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
	}
	late := invite(owner, ident.Member)
	open(true)
	b.pass(account.InvitationLife)
	if until, _ := b.Inviting(); !until.IsZero() {
		t.Errorf("somebody may join until %v", until)
	}
	refused(late, "late")
	early := invite(owner, ident.Member)
	b.pass(-time.Hour)
	refused(early, "made before the clock went back")
	back := invite(owner, ident.Member)
	open(true)
	b.Uninvite(owner.User)
	open(false)
	refused(back, "taken back")
	wrong := invite(owner, ident.Member)
	wrong.Secret = flip(wrong.Secret, 3)
	refused(wrong, "another secret")
	wrong.Secret = "short"
	refused(wrong, "no secret")

	s, err := b.Join(t.Context(), joining(invite(owner, ident.Admin), "carl"))
	check(t, err)
	_, err = b.Invite(t.Context(), s.Principal, ident.Admin)
	wantKind(t, err, problem.Forbidden) // an admin makes no admins
	ofCarl := invite(s.Principal, ident.Member)
	check(t, b.SetDisabled(t.Context(), account.As(owner, "http"), s.Principal.User, true))
	refused(ofCarl, "of somebody who was switched off")
	for _, role := range []ident.Role{ident.Owner, ident.Child, "king"} {
		_, err := b.Invite(t.Context(), owner, role)
		wantKind(t, err, problem.Invalid)
	}
	_, err = b.Invite(t.Context(), ident.Principal{User: 7, Role: ident.Member, Scope: ident.ScopeFull}, ident.Member)
	wantKind(t, err, problem.Forbidden)
	for range 16 {
		if _, err = b.Invite(t.Context(), owner, ident.Member); err != nil {
			break
		}
	}
	wantKind(t, err, problem.RateLimited)
}

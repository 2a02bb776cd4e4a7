package account_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

const day = 24 * time.Hour

func TestSessionsEnd(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	b.pass(30*day - time.Second)
	if !b.alive(s.Token) {
		t.Fatal("it ended too early")
	}
	b.pass(30*day - time.Second) // the last use was written down
	if !b.alive(s.Token) || !b.crash().alive(s.Token) {
		t.Fatal("using it does not keep it")
	}
	b.pass(30 * day)
	if b.alive(s.Token) || b.crash().alive(s.Token) {
		t.Error("a month without use did not end it")
	}

	s = b.mustLogin("anna")
	for range 7 {
		b.pass(25 * day)
		if !b.alive(s.Token) {
			t.Fatal("it ended too early")
		}
	}
	b.pass(5 * day)
	if b.alive(s.Token) || b.crash().alive(s.Token) {
		t.Error("180 days did not end it")
	}
}

func TestAppTokensDoNotExpire(t *testing.T) {
	t.Parallel()
	b := open(t)
	_, token, err := b.CreateToken(t.Context(), b.owner().Principal, "camera", ident.ScopeFiles, 0)
	check(t, err)
	b.pass(3 * 365 * day)
	if !b.alive(token) {
		t.Error("the camera has to be set up anew")
	}
}

func TestClockThatRanAheadGivesNoEternalSession(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	b.owner()
	b.pass(10 * 365 * day)
	s := b.mustLogin("anna")
	b.pass(-10 * 365 * day) // the clock is put right
	if !b.alive(s.Token) {
		t.Fatal("a corrected clock must not sign everybody out")
	}
	for range 8 {
		b.pass(25 * day)
		b.alive(s.Token)
	}
	if b.alive(s.Token) || b.crash().alive(s.Token) {
		t.Error("it lives for ten years")
	}
}

func TestUseIsWrittenAtMostOnceAnHour(t *testing.T) { // no write per request, none when idle
	t.Parallel()
	b := open(t)
	s := b.owner()
	_, token, err := b.CreateToken(t.Context(), s.Principal, "rclone", ident.ScopeFiles, 0)
	check(t, err)
	b.alive(token) // the first use is news
	before := b.db.Stats().Writes
	for range 600 {
		b.pass(5 * time.Second)
		b.alive(s.Token)
		b.alive(token)
	}
	if n := b.db.Stats().Writes - before; n != 0 {
		t.Errorf("%d writes in fifty minutes", n)
	}
	var wg sync.WaitGroup
	b.pass(11 * time.Minute)
	for range 16 {
		wg.Go(func() { b.alive(s.Token); b.alive(token) })
	}
	wg.Wait()
	if n := b.db.Stats().Writes - before; n != 2 {
		t.Errorf("%d writes after an hour, want one for each of two", n)
	}
	tokens, err := b.Tokens(t.Context(), s.Principal.User)
	check(t, err)
	if want := time.UnixMilli(b.clock.Load()).UTC(); len(tokens) != 1 || !tokens[0].LastUsed.Equal(want) {
		t.Errorf("%+v, want last use %v", tokens, want)
	}
}

func TestGarbageIsNoToken(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := b.owner()
	for _, token := range []string{"", "ys_", "yb_", "ys_x", "yb_' OR 1=1 --", strings.Repeat("y", 1<<16), s.Token[1:], s.Token + "x",
		"yb_" + s.Token[3:], strings.ToUpper(s.Token), "\x00", good} {
		if b.alive(token) {
			t.Errorf("%.40q opens the box", token)
		}
	}
}

// revocations is everything that must end a credential before it returns.
var revocations = map[string]func(*box, account.Session, account.Token, account.Device) error{
	"logout": func(b *box, s account.Session, _ account.Token, _ account.Device) error {
		return b.Logout(b.t.Context(), s.Principal)
	},
	"device removed": func(b *box, s account.Session, _ account.Token, d account.Device) error {
		return b.RemoveDevice(b.t.Context(), s.Principal, d.ID)
	},
	"token revoked": func(b *box, s account.Session, tok account.Token, _ account.Device) error {
		return b.RevokeToken(b.t.Context(), s.Principal, tok.ID)
	},
	"switched off": func(b *box, s account.Session, _ account.Token, _ account.Device) error {
		return b.SetDisabled(b.t.Context(), account.Root("socket"), s.Principal.User, true)
	},
	"password reset": func(b *box, s account.Session, _ account.Token, _ account.Device) error {
		return b.SetPassword(b.t.Context(), account.Root("socket"), s.Principal.User, better)
	},
}

func TestRevokedIsRefusedAtOnce(t *testing.T) { // R34
	t.Parallel()
	ends := map[string][2]bool{ // session, token
		"logout": {true, false}, "device removed": {true, true}, "token revoked": {false, true},
		"switched off": {true, true}, "password reset": {true, false},
	}
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			b.owner()
			b.member("Ben")
			s := b.mustLogin("ben")
			d, err := b.AddDevice(t.Context(), s.Principal, account.DeviceInfo{Name: "phone", Kind: "phone"})
			check(t, err)
			s, err = b.Login(t.Context(), account.LoginRequest{Username: "ben", Password: good, Remote: home, Device: account.DeviceInfo{ID: d.ID}})
			check(t, err)
			tok, token, err := b.CreateToken(t.Context(), s.Principal, "camera", ident.ScopeFiles, d.ID)
			check(t, err)

			// Others ask all the time, so that a stale answer has every chance to be
			// put back into the memory.
			var revoked atomic.Bool
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for i, credential := range []string{s.Token, token, s.Token, token} {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						late := revoked.Load()
						if b.alive(credential) && late && ends[name][i%2] {
							t.Errorf("%s: credential %d was good after that", name, i%2)
							return
						}
					}
				})
			}
			check(t, revoke(b, s, tok, d))
			revoked.Store(true)
			got := [2]bool{!b.alive(s.Token), !b.alive(token)}
			time.Sleep(5 * time.Millisecond)
			close(stop)
			wg.Wait()
			if got != ends[name] {
				t.Errorf("ended: session %v, token %v; want %v", got[0], got[1], ends[name])
			}
			if after := b.crash(); after.alive(s.Token) == got[0] || after.alive(token) == got[1] {
				t.Error("a restart changes what is revoked")
			}
		})
	}
}

func TestTokensCannotGrow(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx := t.Context()
	_, files, err := b.CreateToken(ctx, s.Principal, "camera", ident.ScopeFiles, 0)
	check(t, err)
	_, whole, err := b.CreateToken(ctx, s.Principal, "script", ident.ScopeFull, 0)
	check(t, err)
	pf, err := b.Authenticate(ctx, files)
	check(t, err)
	pw, err := b.Authenticate(ctx, whole)
	check(t, err)
	if pf.Scope != ident.ScopeFiles || pf.Admin() || pw.Scope != ident.ScopeFull || !pw.Admin() {
		t.Errorf("%+v, %+v", pf, pw)
	}
	for name, p := range map[string]ident.Principal{"files": pf, "full": pw} {
		_, _, err := b.CreateToken(ctx, p, "more", ident.ScopeFull, 0)
		if problem.KindOf(err) != problem.Forbidden {
			t.Errorf("a %s token made a token: %v", name, err)
		}
		wantKind(t, b.Logout(ctx, p), problem.Forbidden)
	}
	_, err = b.AddDevice(ctx, pf, account.DeviceInfo{Name: "x"})
	wantKind(t, err, problem.Forbidden)
	wantKind(t, b.RemoveDevice(ctx, pf, 1), problem.Forbidden)
	wantKind(t, b.RevokeToken(ctx, pf, 1), problem.Forbidden)
	_, _, err = b.CreateToken(ctx, s.Principal, "x", "everything", 0)
	wantKind(t, err, problem.Invalid)
	_, _, err = b.CreateToken(ctx, s.Principal, "  ", ident.ScopeFiles, 0)
	wantKind(t, err, problem.Invalid)
	_, _, err = b.CreateToken(ctx, ident.Principal{}, "x", ident.ScopeFiles, 0)
	wantKind(t, err, problem.Unauthenticated)
}

func TestBasic(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	b.member("Ben")
	_, token, err := b.CreateToken(t.Context(), s.Principal, "rclone", ident.ScopeFiles, 0)
	check(t, err)
	for _, c := range []struct {
		user, password string
		ok             bool
	}{
		{"Anna", token, true}, {"anna", token, true}, {"ＡNNA", token, true},
		{"ben", token, false}, {"", token, false}, {"anna ", token, false}, {strings.Repeat("x", 1<<16), token, false},
		{"anna", good, false}, {"anna", s.Token, false}, {"anna", token + "x", false}, {"anna", "", false}, {"anna", "yb_", false},
	} {
		p, err := b.AuthenticateBasic(t.Context(), c.user, c.password)
		if c.ok != (err == nil) || c.ok && p.User != s.Principal.User || !c.ok && problem.KindOf(err) != problem.Unauthenticated {
			t.Errorf("%.20q: %+v, %v", c.user, p, err)
		}
	}
}

func TestPeopleSeeOnlyTheirOwn(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	anna := b.owner().Principal
	b.member("Ben")
	ben := b.mustLogin("ben").Principal
	ctx := t.Context()
	d, err := b.AddDevice(ctx, anna, account.DeviceInfo{Name: "Anna's phone"})
	check(t, err)
	tok, secret, err := b.CreateToken(ctx, anna, "camera", ident.ScopeFiles, d.ID)
	check(t, err)
	_, err = b.Device(ctx, ben.User, d.ID)
	wantKind(t, err, problem.NotFound)
	_, err = b.RenameDevice(ctx, ben, d.ID, "mine")
	wantKind(t, err, problem.NotFound)
	wantKind(t, b.RemoveDevice(ctx, ben, d.ID), problem.NotFound)
	wantKind(t, b.RevokeToken(ctx, ben, tok.ID), problem.NotFound)
	_, _, err = b.CreateToken(ctx, ben, "x", ident.ScopeFiles, d.ID)
	wantKind(t, err, problem.NotFound)
	_, err = b.Login(ctx, account.LoginRequest{Username: "ben", Password: good, Remote: home, Device: account.DeviceInfo{ID: d.ID}})
	wantKind(t, err, problem.NotFound)
	for _, list := range []func() (int, error){
		func() (int, error) { l, err := b.Devices(ctx, ben.User); return len(l), err },
		func() (int, error) { l, err := b.Tokens(ctx, ben.User); return len(l), err },
	} {
		if n, err := list(); n != 0 || err != nil {
			t.Errorf("Ben sees %d, %v", n, err)
		}
	}
	if got, err := b.Device(ctx, anna.User, d.ID); err != nil || got != d {
		t.Errorf("%+v, %v; want %+v", got, err, d)
	}
	if !b.alive(secret) {
		t.Error("Ben got rid of Anna's token")
	}
}

func TestDevicesAreBounded(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := b.owner()
	check(t, b.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 199)
			INSERT INTO device (id, user, name, kind, created, last_seen) SELECT i, ?, 'phone ' || i, 'phone', 1, 1 FROM n`, int64(s.Principal.User))
		return err
	}))
	_, err := b.AddDevice(t.Context(), s.Principal, account.DeviceInfo{Name: "the last one"})
	check(t, err)
	_, err = b.AddDevice(t.Context(), s.Principal, account.DeviceInfo{Name: "one more"})
	wantKind(t, err, problem.Conflict)
	for _, bad := range []account.DeviceInfo{{}, {Name: "a\u202eb"}, {Name: "a\nb"}, {Name: strings.Repeat("x", 65)}, {Name: "x", Kind: "toaster"}, {Name: "\xff"}} {
		_, err := b.AddDevice(t.Context(), s.Principal, bad)
		wantKind(t, err, problem.Invalid)
	}
	devices, err := b.Devices(t.Context(), s.Principal.User)
	check(t, err)
	if len(devices) != 200 {
		t.Errorf("%d devices", len(devices))
	}
}

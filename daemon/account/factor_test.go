package account_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// phone is an authenticator app, with a clock of its own.
type phone struct {
	b      *box
	secret string
	wrong  time.Duration // by which its clock is wrong
}

func (p *phone) code() string { return account.CodeForTest(p.secret, p.b.now().Add(p.wrong)) }

func (b *box) now() time.Time { return time.UnixMilli(b.clock.Load()).UTC() }

// enrol gives the person of s a second factor and returns the recovery codes. Its
// first code was used; the next one is good in 30 seconds.
func (b *box) enrol(s account.Session) (*phone, []string) {
	b.t.Helper()
	e, err := b.BeginFactor(b.t.Context(), s.Principal)
	check(b.t.(*testing.T), err)
	p := &phone{b: b, secret: e.Secret}
	codes, err := b.ConfirmFactor(b.t.Context(), s.Principal, p.code())
	check(b.t.(*testing.T), err)
	return p, codes
}

// second is a sign-in whose password was right.
func (b *box) second(name, code, remote string) error {
	return b.SecondForTest(b.t.Context(), name, code, remote)
}

func (b *box) loginCode(name, code, remote string) (account.Session, error) {
	return b.Login(b.t.Context(), account.LoginRequest{Username: name, Password: good, Code: code, Remote: remote})
}

const step = 30 * time.Second

func TestASecondFactorIsAskedFor(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	other := b.mustLogin("anna")
	p, codes := b.enrol(s)
	if len(codes) != account.RecoveryCodes || slices.Contains(codes[1:], codes[0]) {
		t.Fatalf("%d codes", len(codes))
	}
	if b.alive(other.Token) || !b.alive(s.Token) {
		t.Error("a session that was opened without a code goes on, or the own one does not")
	}
	f, err := b.Factor(t.Context(), s.Principal.User)
	if check(t, err); !f.On || !f.Since.Equal(b.now()) || f.Codes != 10 {
		t.Errorf("%+v", f)
	}
	_, err = b.login("anna", good, home)
	wantKind(t, err, problem.CodeRequired)
	_, err = b.loginCode("anna", p.code(), home) // it has confirmed already
	wantKind(t, err, problem.CodeRequired)
	b.pass(step)
	_, err = b.Login(t.Context(), account.LoginRequest{Username: "anna", Password: "wrong password", Code: p.code(), Remote: home})
	wantKind(t, err, problem.Unauthenticated) // and says nothing of the code, which is still good:
	in, err := b.loginCode("anna", p.code(), home)
	check(t, err)
	if !b.alive(in.Token) {
		t.Error("the code did not sign in")
	}
	// Nobody else is asked for one, and what is typed there does not matter.
	b.member("Ben")
	_, err = b.loginCode("ben", "123456", home)
	check(t, err)

	check(t, b.RemoveFactor(t.Context(), s.Principal))
	wantKind(t, b.RemoveFactor(t.Context(), s.Principal), problem.Conflict)
	b.mustLogin("anna")
	if _, err := b.loginCode("anna", codes[0], home); err != nil {
		t.Error(err) // it is not looked at
	}
	_, err = b.RenewRecoveryCodes(t.Context(), s.Principal)
	wantKind(t, err, problem.Conflict)
}

// RFC 6238 §5.2: a code is accepted once, whichever window it came through, and that
// outlives the daemon.
func TestACodeIsGoodOnce(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	p, _ := b.enrol(b.owner())
	b.pass(3 * step)
	p.wrong = step // a clock that is ahead
	ahead := p.code()
	err := b.second("anna", ahead, home)
	check(t, err)
	p.wrong = 0
	err = b.second("anna", p.code(), home) // of a step before it
	wantKind(t, err, problem.CodeRequired)
	b.pass(step)
	after := b.crash()
	err = after.second("anna", ahead, home)
	wantKind(t, err, problem.CodeRequired)
	b.pass(step)
	p.wrong = -step // and one that is behind
	err = after.second("anna", p.code(), home)
	wantKind(t, err, problem.CodeRequired) // which is that of the first one's step
	p.wrong = 0
	err = after.second("anna", p.code(), home)
	check(t, err)
	p.wrong = -2 * step
	b.pass(5 * step)
	err = after.second("anna", p.code(), home)
	wantKind(t, err, problem.CodeRequired)
}

func TestOneCodeManySignIns(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	p, codes := b.enrol(b.owner())
	b.pass(step)
	for i, what := range []string{"of the authenticator", "for recovery"} {
		code := []string{p.code(), codes[3]}[i]
		var in atomic.Int32
		var wg sync.WaitGroup
		for from := range 8 {
			wg.Go(func() {
				if err := b.second("anna", code, "192.168.1."+string(rune('1'+from))); err == nil {
					in.Add(1)
				} else if k := problem.KindOf(err); k != problem.CodeRequired && k != problem.RateLimited {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := in.Load(); n != 1 {
			t.Errorf("one code %s signed in %d times", what, n)
		}
		b.pass(10 * time.Minute)
	}
}

func TestRecoveryCodes(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	_, codes := b.enrol(s)
	typed := strings.ToUpper(strings.ReplaceAll(codes[0], "-", " "))
	err := b.second("anna", typed, home)
	check(t, err)
	err = b.second("anna", codes[0], home)
	wantKind(t, err, problem.CodeRequired)
	err = b.crash().second("anna", codes[0], home)
	wantKind(t, err, problem.CodeRequired)
	if f, err := b.Factor(t.Context(), s.Principal.User); err != nil || f.Codes != 9 {
		t.Errorf("%+v, %v", f, err)
	}
	if got := b.noticeKinds(s); !slices.Contains(got, account.NoticeRecovery) {
		t.Errorf("nobody is told: %v", got)
	}
	fresh, err := b.RenewRecoveryCodes(t.Context(), s.Principal)
	check(t, err)
	err = b.second("anna", codes[1], home)
	wantKind(t, err, problem.CodeRequired)
	err = b.second("anna", fresh[0], home)
	check(t, err)
	// Those of one person are nobody else's.
	b.member("Ben")
	bs := b.mustLogin("ben")
	b.enrol(bs)
	err = b.second("ben", fresh[1], home)
	wantKind(t, err, problem.CodeRequired)
	// A password that root has set does not get around the second factor.
	check(t, b.SetPassword(t.Context(), account.Root("socket"), bs.Principal.User, better))
	wantKind(t, b.second("ben", "", home), problem.CodeRequired)
}

func (b *box) noticeKinds(s account.Session) (kinds []string) {
	b.t.Helper()
	list, err := b.Notices(b.t.Context(), s.Principal.User, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, n := range list {
		kinds = append(kinds, n.Kind)
	}
	return kinds
}

// Somebody who knows the password may guess codes for years; the owner comes in all
// the same, from where they came in before and with a recovery code from anywhere.
func TestGuessingCodes(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	p, codes := b.enrol(s)
	b.pass(step)
	err := b.second("anna", p.code(), home)
	check(t, err)
	tried := 0
	wrong := func(i int) {
		code := "000000"
		if code == p.code() {
			code = "111111"
		}
		err := b.second("anna", code, "10.0."+string(rune('0'+i/200%10))+"."+string(rune('0'+i%10)))
		switch problem.KindOf(err) {
		case problem.CodeRequired:
			tried++
		case problem.RateLimited:
			if problem.As(err).RetryAfter <= 0 {
				t.Error("it does not say when to come back")
			}
		default:
			t.Fatal(err)
		}
	}
	for i := range 40 {
		wrong(i)
		b.pass(time.Minute)
	}
	if tried > 10+40/15+1 {
		t.Errorf("%d codes were tried in 40 minutes", tried)
	}
	if got := b.noticeKinds(s); !slices.Contains(got, account.NoticeGuessing) {
		t.Errorf("nobody is told that the password is known: %v", got)
	} else if n := len(got); n > 6 {
		t.Errorf("%d notices", n)
	}
	if err := b.second("anna", p.code(), home); err != nil {
		t.Errorf("the owner at home: %v", err)
	}
	err = b.second("anna", codes[0], "172.16.9.9")
	if err != nil {
		t.Errorf("the owner elsewhere, with a recovery code: %v", err)
	}
	if n := countOf(b.actions(), "session.refuse"); n == 0 {
		t.Error("the record knows nothing of it")
	}
}

func countOf(list []string, s string) (n int) {
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

func TestSettingUpASecondFactor(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx := t.Context()
	_, err := b.ConfirmFactor(ctx, s.Principal, "123456")
	wantKind(t, err, problem.Conflict)
	e, err := b.BeginFactor(ctx, s.Principal)
	check(t, err)
	b.mustLogin("anna") // it counts for nothing yet
	first := &phone{b: b, secret: e.Secret}

	// A clock that is wrong is found out by the first code.
	first.wrong = 25 * time.Minute
	_, err = b.ConfirmFactor(ctx, s.Principal, first.code())
	if wantKind(t, err, problem.Invalid); !strings.Contains(problem.Sentence(err), "differ by 25 minutes") {
		t.Error(err)
	}
	first.wrong = 0
	e, err = b.BeginFactor(ctx, s.Principal) // another one: the first is void
	check(t, err)
	second := &phone{b: b, secret: e.Secret}
	_, err = b.ConfirmFactor(ctx, s.Principal, first.code())
	wantKind(t, err, problem.Invalid)
	b.pass(15 * time.Minute)
	_, err = b.ConfirmFactor(ctx, s.Principal, second.code())
	wantKind(t, err, problem.Conflict) // too late

	p, old := b.enrol(s)
	// Over to a new phone: the old one counts until the new one is confirmed.
	e, err = b.BeginFactor(ctx, s.Principal)
	check(t, err)
	b.pass(step)
	err = b.second("anna", p.code(), home)
	check(t, err)
	fresh := &phone{b: b, secret: e.Secret}
	_, err = b.ConfirmFactor(ctx, s.Principal, fresh.code())
	check(t, err)
	b.pass(step)
	for _, code := range []string{p.code(), old[0]} {
		err = b.second("anna", code, home)
		wantKind(t, err, problem.CodeRequired)
	}
	err = b.second("anna", fresh.code(), home)
	check(t, err)

	// No app token can do any of it.
	_, token, err := b.CreateToken(ctx, s.Principal, "rclone", ident.ScopeFull, 0)
	check(t, err)
	byToken, err := b.Authenticate(ctx, token)
	check(t, err)
	_, err = b.BeginFactor(ctx, byToken)
	wantKind(t, err, problem.Forbidden)
	_, err = b.RenewRecoveryCodes(ctx, byToken)
	wantKind(t, err, problem.Forbidden)
	wantKind(t, b.RemoveFactor(ctx, byToken), problem.Forbidden)
	wantKind(t, b.RemoveFactor(ctx, ident.Principal{}), problem.Unauthenticated)
}

func TestResettingASecondFactor(t *testing.T) { // R34, R35
	t.Parallel()
	b := open(t)
	owner := b.owner()
	ctx := t.Context()
	byOwner := account.As(owner.Principal, "http")
	_, err := b.CreateUser(ctx, byOwner, account.NewUser{Username: "Adm", Password: good, Role: ident.Admin})
	check(t, err)
	b.member("Ben")
	adm, ben := b.mustLogin("adm"), b.mustLogin("ben")
	byAdmin := account.As(adm.Principal, "http")
	for _, s := range []account.Session{owner, adm, ben} {
		b.enrol(s)
	}
	for i, c := range []struct {
		by   account.Actor
		id   ident.UserID
		want problem.Kind
	}{
		{account.As(ben.Principal, "http"), ben.Principal.User, problem.Forbidden},
		{account.Actor{}, ben.Principal.User, problem.Forbidden},
		{byAdmin, owner.Principal.User, problem.Forbidden},
		{byAdmin, adm.Principal.User, problem.Forbidden},
		{byOwner, owner.Principal.User, problem.Forbidden},
		{byOwner, 12345, problem.NotFound},
		{byAdmin, ben.Principal.User, ""},
		{byAdmin, ben.Principal.User, problem.Conflict},
		{byOwner, adm.Principal.User, ""},
		{account.Root("socket"), owner.Principal.User, ""},
	} {
		if err := b.ResetFactor(ctx, c.by, c.id); problem.KindOf(err) != c.want {
			t.Errorf("case %d: %v, want %q", i, err, c.want)
		}
	}
	for _, s := range []account.Session{owner, adm, ben} {
		if b.alive(s.Token) {
			t.Error("the session went on")
		}
		if got := b.noticeKinds(s); !slices.Contains(got, account.NoticeFactorReset) {
			t.Errorf("they are not told: %v", got)
		}
	}
	b.mustLogin("ben")
	if n := countOf(b.actions(), "factor.reset"); n != 3 {
		t.Errorf("%d resets are recorded", n)
	}
}

// Nothing on the disk holds a secret or a recovery code, and without the key the
// box says so and takes recovery codes.
func TestSecretsOfSecondFactorsAtRest(t *testing.T) { // R32, R33
	t.Parallel()
	b := open(t)
	p, codes := b.enrol(b.owner())
	raw := strings.ToLower(p.secret)
	for _, name := range []string{"box.db", "box.db-wal", "keys/label.json", "keys/vault.json"} {
		data, err := os.ReadFile(filepath.Join(b.dir, name))
		check(t, err)
		for what, s := range map[string]string{"secret": p.secret, "secret in small letters": raw, "recovery code": codes[0], "the same without hyphens": strings.ReplaceAll(codes[0], "-", "")} {
			if strings.Contains(string(data), s) {
				t.Errorf("%s holds the %s", name, what)
			}
		}
	}
	b.pass(step)
	check(t, os.Remove(filepath.Join(b.dir, "keys", "vault.json")))
	check(t, os.Remove(filepath.Join(b.dir, "keys", "vault.json.copy")))
	elsewhere := openIn(t, b.dir, b.clock)
	err := elsewhere.second("anna", p.code(), home)
	wantKind(t, err, problem.Unavailable)
	err = elsewhere.second("anna", codes[0], home)
	check(t, err)
}

func TestAClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	b := open(t)
	b.pass(365 * day) // it ran ahead
	s := b.owner()
	p, codes := b.enrol(s)
	b.pass(-365 * day)
	err := b.second("anna", p.code(), home)
	if wantKind(t, err, problem.CodeRequired); !strings.Contains(problem.Sentence(err), "clock") {
		t.Error(err)
	}
	in, err := b.loginCode("anna", codes[0], home)
	check(t, err)
	p, _ = b.enrol(in) // set up anew
	b.pass(step)
	err = b.second("anna", p.code(), home)
	check(t, err)
}

func TestProvingIdentityAgain(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx := t.Context()
	fresh := func(p ident.Principal, when account.When) problem.Kind {
		return problem.KindOf(b.RequireFresh(ctx, p, when))
	}
	if k := fresh(s.Principal, account.Always); k != "" {
		t.Errorf("right after signing in: %s", k)
	}
	_, token, err := b.CreateToken(ctx, s.Principal, "rclone", ident.ScopeFull, 0)
	check(t, err)
	byToken, err := b.Authenticate(ctx, token)
	check(t, err)
	other := b.mustLogin("anna")
	b.pass(account.FreshFor - time.Second)
	if k := fresh(s.Principal, account.Always); k != "" {
		t.Errorf("too early: %s", k)
	}
	b.pass(time.Second)
	if k := fresh(s.Principal, account.Always); k != problem.StepUpRequired {
		t.Errorf("after five minutes: %q", k)
	}
	if k := fresh(s.Principal, account.WithFactor); k != "" {
		t.Errorf("without a second factor: %q", k)
	}
	if k := fresh(byToken, account.Always); k != problem.Forbidden {
		t.Errorf("an app token: %q", k)
	}
	_, err = b.Prove(ctx, s.Principal, "wrong password", "", home)
	wantKind(t, err, problem.Forbidden)
	_, err = b.Prove(ctx, byToken, good, "", home)
	wantKind(t, err, problem.Forbidden)
	_, err = b.Prove(ctx, ident.Principal{}, good, "", home)
	wantKind(t, err, problem.Unauthenticated)
	until, err := b.Prove(ctx, s.Principal, good, "", home)
	if check(t, err); !until.Equal(b.now().Add(account.FreshFor)) {
		t.Errorf("until %v", until)
	}
	if k := fresh(s.Principal, account.Always); k != "" {
		t.Errorf("after the proof: %s", k)
	}
	if k := fresh(other.Principal, account.Always); k != problem.StepUpRequired {
		t.Errorf("the proof of one session counts for another: %q", k)
	}
	if k := problem.KindOf(b.crash().RequireFresh(ctx, s.Principal, account.Always)); k != problem.StepUpRequired {
		t.Errorf("after a restart: %q", k)
	}
	b.pass(-time.Hour) // a clock that goes back makes nothing fresh
	if k := fresh(s.Principal, account.Always); k != problem.StepUpRequired {
		t.Errorf("an hour before the proof: %q", k)
	}
	b.pass(2 * time.Hour)

	// With a second factor the proof takes a code, each once.
	p, _ := b.enrol(s)
	if k := fresh(s.Principal, account.WithFactor); k != problem.StepUpRequired {
		t.Errorf("with a second factor: %q", k)
	}
	b.pass(step)
	_, err = b.Prove(ctx, s.Principal, good, "", home)
	wantKind(t, err, problem.CodeRequired)
	_, err = b.Prove(ctx, s.Principal, good, p.code(), home)
	check(t, err)
	_, err = b.loginCode("anna", p.code(), home)
	wantKind(t, err, problem.CodeRequired)
	check(t, b.Logout(ctx, s.Principal))
	_, err = b.Prove(ctx, s.Principal, good, "", home)
	wantKind(t, err, problem.Forbidden)
}

// The token of a session is made when it begins, so nobody can have put it there.
func TestEachSignInIsAnotherSession(t *testing.T) { // session fixation
	t.Parallel()
	b := open(t)
	s := b.owner()
	one, two := b.mustLogin("anna"), b.mustLogin("anna")
	if one.Token == two.Token || one.Principal.Session == two.Principal.Session || one.Token == s.Token {
		t.Error("a session was handed out twice")
	}
	changed, err := b.ChangePassword(t.Context(), one.Principal, good, better, home)
	check(t, err)
	if changed.Token == one.Token || b.alive(one.Token) || b.alive(two.Token) {
		t.Error("a session survived the change of the password")
	}
}

func TestSessionsAreListedAndEnded(t *testing.T) { // R15, R34
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx := t.Context()
	in, err := b.Login(ctx, account.LoginRequest{Username: "anna", Password: good, Remote: home, Device: account.DeviceInfo{Name: "Anna's phone", Kind: "phone"}})
	check(t, err)
	third := b.mustLogin("anna")
	b.member("Ben")
	bens := b.mustLogin("ben")
	_, token, err := b.CreateToken(ctx, s.Principal, "rclone", ident.ScopeFull, 0)
	check(t, err)
	byToken, err := b.Authenticate(ctx, token)
	check(t, err)

	list, err := b.Sessions(ctx, s.Principal)
	check(t, err)
	if len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	for _, x := range list {
		named := x.Name == "Anna's phone" && x.Kind == "phone" && x.Device == in.Principal.Device
		if x.Current != (int64(x.ID) == s.Principal.Session) || named != (int64(x.ID) == in.Principal.Session) || !x.Created.Equal(b.now()) {
			t.Errorf("%+v", x)
		}
	}
	wantKind(t, b.EndSession(ctx, s.Principal, account.SessionID(bens.Principal.Session)), problem.NotFound)
	wantKind(t, b.EndSession(ctx, byToken, account.SessionID(in.Principal.Session)), problem.Forbidden)
	_, err = b.EndOtherSessions(ctx, byToken)
	wantKind(t, err, problem.Forbidden)
	changed := b.Changed()
	check(t, b.EndSession(ctx, s.Principal, account.SessionID(in.Principal.Session)))
	select {
	case <-changed:
	default:
		t.Error("nobody is woken")
	}
	if b.alive(in.Token) || !b.alive(third.Token) {
		t.Error("the wrong one ended")
	}
	n, err := b.EndOtherSessions(ctx, s.Principal)
	if check(t, err); n != 1 || b.alive(third.Token) || !b.alive(s.Token) || !b.alive(token) || !b.alive(bens.Token) {
		t.Errorf("%d ended", n)
	}
	b.pass(31 * day)
	if list, err := b.Sessions(ctx, s.Principal); err != nil || len(list) != 0 {
		t.Errorf("one that ran out is shown: %+v, %v", list, err)
	}
}

func TestNotices(t *testing.T) { // R35
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx := t.Context()
	if got := b.noticeKinds(s); got != nil {
		t.Errorf("binding: %v", got)
	}
	first := account.DeviceInfo{Name: "Laptop", Kind: "computer"}
	in, err := b.Login(ctx, account.LoginRequest{Username: "anna", Password: good, Remote: home, Device: first})
	check(t, err)
	list, err := b.Notices(ctx, s.Principal.User, 0)
	check(t, err)
	if len(list) != 1 || list[0].Kind != account.NoticeDevice || list[0].Name != "Laptop" || list[0].Device != in.Principal.Device || !list[0].Time.Equal(b.now()) {
		t.Fatalf("%+v", list)
	}
	_, err = b.Login(ctx, account.LoginRequest{Username: "anna", Password: good, Remote: home, Device: account.DeviceInfo{ID: in.Principal.Device}})
	check(t, err)
	if got := b.noticeKinds(s); len(got) != 1 {
		t.Errorf("a device that is known: %v", got)
	}
	ben := b.member("Ben")
	bens := b.mustLogin("ben")
	check(t, b.SetPassword(ctx, account.Root("socket"), ben.ID, better))
	if got := b.noticeKinds(bens); !slices.Equal(got, []string{account.NoticeDevice, account.NoticeReset}) {
		t.Errorf("%v", got)
	}
	check(t, b.SeenNotices(ctx, s.Principal.User, list[0].ID))
	if got := b.noticeKinds(s); got != nil {
		t.Errorf("seen: %v", got)
	}
	if got := b.noticeKinds(bens); len(got) != 2 {
		t.Errorf("what Anna saw, Ben has not: %v", got)
	}
	b.pass(91 * day)
	_, err = b.login("ben", better, home)
	check(t, err)
	if got := b.noticeKinds(bens); !slices.Equal(got, []string{account.NoticeDevice}) {
		t.Errorf("after 91 days: %v", got)
	}
}

package account_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func TestSignIn(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	b.owner()
	for _, name := range []string{"Anna", "anna", "ANNA", "Ａnna"} {
		s, err := b.login(name, good, home)
		check(t, err)
		if s.Principal.Name != "Anna" || s.Principal.Device != 0 {
			t.Errorf("%q signs in as %+v", name, s.Principal)
		}
	}
	// Whoever does not exist and whoever mistypes are told the same.
	var said []string
	for _, c := range [][2]string{{"anna", "wrong password"}, {"nobody", "wrong password"}, {"nobody", ""}, {"../x\x00", good}, {"anna", strings.Repeat("x", 1<<20)}} {
		_, err := b.login(c[0], c[1], "10.0.0."+fmt.Sprint(len(said)+1))
		wantKind(t, err, problem.Unauthenticated)
		said = append(said, problem.Sentence(err))
	}
	if slices.Sort(said); len(slices.Compact(said)) != 1 {
		t.Errorf("the answers tell who exists: %q", said)
	}
}

func TestGuessingIsSlowedButNobodyIsLockedOut(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	b.owner()
	limited := 0
	for i := range 30 {
		_, err := b.login("anna", fmt.Sprintf("guess number %d", i), "192.168.1.66")
		if problem.KindOf(err) == problem.RateLimited {
			limited++
			if problem.As(err).RetryAfter <= 0 {
				t.Error("it is not said how long to wait")
			}
		} else {
			wantKind(t, err, problem.Unauthenticated)
		}
	}
	if limited != 25 {
		t.Errorf("of 30 guesses from one address %d were refused unread, want 25", limited)
	}
	if _, err := b.login("anna", good, "192.168.1.66"); problem.KindOf(err) != problem.RateLimited {
		t.Errorf("the guesser got in: %v", err)
	}
	if _, err := b.login("anna", good, home); err != nil {
		t.Errorf("the owner is locked out: %v", err)
	}
	b.pass(time.Minute)
	if _, err := b.login("anna", good, "192.168.1.66"); err != nil {
		t.Errorf("the limit never ends: %v", err)
	}
}

func TestFiftySignInsAtOnce(t *testing.T) { // R34
	b := open(t)
	b.owner()
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		var most uint64
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	var wg sync.WaitGroup
	var mu sync.Mutex
	kinds := map[problem.Kind]int{}
	for i := range 50 {
		wg.Go(func() {
			_, err := b.login("anna", good, fmt.Sprintf("192.168.2.%d", i))
			mu.Lock()
			defer mu.Unlock()
			kinds[problem.KindOf(err)]++
		})
	}
	wg.Wait()
	close(stop)
	most := <-peak
	if kinds[""]+kinds[problem.RateLimited] != 50 || kinds[""] < 20 {
		t.Errorf("the answers were %v", kinds)
	}
	// Two at 19 MiB each, their garbage, and the rest of the test.
	if most > 100<<20 {
		t.Errorf("%d MiB of heap for fifty sign-ins", most>>20)
	}
	t.Logf("peak of the heap %d MiB; answers %v", most>>20, kinds)
}

func TestOldHashesAreRenewed(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := b.owner()
	// As a password that an earlier version stored with cheaper parameters.
	weak := account.HashForTest(good, 8*1024, 1)
	setHash := func(h string) {
		check(t, b.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE user SET password = ? WHERE id = ?`, h, int64(s.Principal.User))
			return err
		}))
	}
	setHash(weak)
	b.mustLogin("anna")
	var now string
	check(t, b.db.Read(t.Context(), func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT password FROM user WHERE id = ?`, int64(s.Principal.User)).Scan(&now)
	}))
	if !strings.HasPrefix(now, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("the password is kept as %q", now)
	}
	b.mustLogin("anna")
	// A damaged row must neither open the box nor eat its memory.
	for _, h := range []string{"", "x", strings.Replace(now, "m=19456", "m=4000000", 1), strings.Replace(now, "argon2id", "argon2i", 1)} {
		setHash(h)
		if _, err := b.login("anna", good, home); err == nil {
			t.Errorf("signed in against %q", h)
		}
	}
}

func TestWhoMayAddWhom(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	owner := account.As(b.owner().Principal, "http")
	root := account.Root("socket")
	add := func(by account.Actor, name string, role ident.Role) error {
		_, err := b.CreateUser(t.Context(), by, account.NewUser{Username: name, Password: good, Role: role})
		return err
	}
	check(t, add(owner, "admin1", ident.Admin))
	check(t, add(root, "admin2", ident.Admin))
	check(t, add(root, "member1", ""))
	admin := account.As(b.mustLogin("admin1").Principal, "http")
	member := account.As(b.mustLogin("member1").Principal, "http")
	check(t, add(admin, "member2", ident.Member))
	limited := account.As(ident.Principal{User: 1, Role: ident.Owner, Scope: ident.ScopeFiles}, "http")
	for i, c := range []struct {
		by   account.Actor
		name string
		role ident.Role
		want problem.Kind
	}{
		{account.Actor{}, "x", "", problem.Forbidden},
		{member, "x", ident.Member, problem.Forbidden},
		{limited, "x", ident.Member, problem.Forbidden},
		{admin, "x", ident.Admin, problem.Forbidden},
		{root, "x", ident.Owner, problem.Forbidden},
		{owner, "x", ident.Owner, problem.Forbidden},
		{owner, "x", ident.Child, problem.Invalid},
		{root, "x", ident.Child, problem.Invalid},
		{owner, "x", "king", problem.Invalid},
		{owner, "MEMBER1", ident.Member, problem.Conflict},
		{owner, "ｍember1", ident.Member, problem.Conflict},
		{owner, "a/b", ident.Member, problem.Invalid},
	} {
		if err := add(c.by, c.name, c.role); problem.KindOf(err) != c.want {
			t.Errorf("case %d (%s as %s): %v, want %s", i, c.name, c.role, err, c.want)
		}
	}
	if err := add(owner, "kid", ident.Child); !strings.Contains(problem.Sentence(err), "guardian") {
		t.Errorf("no reason for refusing a child: %q", problem.Sentence(err))
	}
	users, err := b.Users(t.Context())
	check(t, err)
	var names []string
	for _, u := range users {
		names = append(names, u.Username)
	}
	slices.Sort(names)
	if want := []string{"Anna", "admin1", "admin2", "member1", "member2"}; !slices.Equal(names, want) {
		t.Errorf("people are %v", names)
	}
}

func TestSwitchingOff(t *testing.T) { // R34
	t.Parallel()
	b := open(t)
	owner := b.owner()
	byOwner := account.As(owner.Principal, "http")
	ben := b.member("Ben")
	adm, err := b.CreateUser(t.Context(), byOwner, account.NewUser{Username: "Adm", Password: good, Role: ident.Admin})
	check(t, err)
	admin := account.As(b.mustLogin("adm").Principal, "http")
	s := b.mustLogin("ben")
	_, token, err := b.CreateToken(t.Context(), s.Principal, "camera", ident.ScopeFiles, 0)
	check(t, err)
	if !b.alive(s.Token) || !b.alive(token) {
		t.Fatal("Ben cannot come in")
	}
	wantKind(t, b.SetDisabled(t.Context(), admin, owner.Principal.User, true), problem.Forbidden)
	wantKind(t, b.SetDisabled(t.Context(), account.Root("socket"), owner.Principal.User, true), problem.Forbidden)
	wantKind(t, b.SetDisabled(t.Context(), admin, adm.ID, true), problem.Forbidden)
	wantKind(t, b.SetDisabled(t.Context(), account.As(s.Principal, "http"), adm.ID, true), problem.Forbidden)
	wantKind(t, b.SetDisabled(t.Context(), byOwner, 12345, true), problem.NotFound)

	check(t, b.SetDisabled(t.Context(), admin, ben.ID, true))
	if b.alive(s.Token) || b.alive(token) {
		t.Error("Ben is switched off and still in")
	}
	_, err = b.login("ben", good, home)
	wantKind(t, err, problem.Forbidden)
	_, err = b.login("ben", "wrong password", home)
	wantKind(t, err, problem.Unauthenticated) // only he is told that it is switched off
	if u, err := b.User(t.Context(), ben.ID); err != nil || u.Disabled.IsZero() {
		t.Errorf("%+v, %v", u, err)
	}
	check(t, b.SetDisabled(t.Context(), admin, ben.ID, false))
	if b.alive(s.Token) {
		t.Error("the old session came back")
	}
	if !b.alive(token) {
		t.Error("the app token is gone")
	}
	b.mustLogin("ben")
}

func TestQuota(t *testing.T) {
	t.Parallel()
	b := open(t)
	byOwner := account.As(b.owner().Principal, "http")
	ben := b.member("Ben")
	if ben.Quota != -1 {
		t.Errorf("a new person has the quota %d", ben.Quota)
	}
	for _, want := range []int64{5e9, 0, -1} {
		check(t, b.SetQuota(t.Context(), byOwner, ben.ID, want))
		if u, err := b.UserNamed(t.Context(), "BEN"); err != nil || u.Quota != want {
			t.Errorf("%+v, %v; want quota %d", u, err, want)
		}
	}
	wantKind(t, b.SetQuota(t.Context(), byOwner, 12345, 1), problem.NotFound)
	wantKind(t, b.SetQuota(t.Context(), account.As(b.mustLogin("ben").Principal, "http"), ben.ID, -1), problem.Forbidden)
}

func TestOnlyRootResetsPasswords(t *testing.T) { // R34, R36
	t.Parallel()
	b := open(t)
	owner := b.owner()
	ben := b.member("Ben")
	s := b.mustLogin("ben")
	wantKind(t, b.SetPassword(t.Context(), account.As(owner.Principal, "http"), ben.ID, better), problem.Forbidden)
	wantKind(t, b.SetPassword(t.Context(), account.Root("socket"), 12345, better), problem.NotFound)
	wantKind(t, b.SetPassword(t.Context(), account.Root("socket"), ben.ID, "ben12345"), problem.Invalid)
	check(t, b.SetPassword(t.Context(), account.Root("socket"), ben.ID, better))
	if b.alive(s.Token) {
		t.Error("the session survived the new password")
	}
	if _, err := b.login("ben", good, home); err == nil {
		t.Error("the old password still signs in")
	}
	if _, err := b.login("ben", better, home); err != nil {
		t.Error(err)
	}
}

func TestChangePassword(t *testing.T) { // R36
	t.Parallel()
	b := open(t)
	s := b.owner()
	other := b.mustLogin("anna")
	_, token, err := b.CreateToken(t.Context(), s.Principal, "rclone", ident.ScopeFull, 0)
	check(t, err)
	byToken, err := b.Authenticate(t.Context(), token)
	check(t, err)
	for _, c := range []struct {
		p        ident.Principal
		old, new string
		want     problem.Kind
	}{
		{s.Principal, "wrong password", better, problem.Forbidden},
		{s.Principal, good, good, problem.Invalid},
		{s.Principal, good, "short", problem.Invalid},
		{byToken, good, better, problem.Forbidden},
		{ident.Principal{}, good, better, problem.Unauthenticated},
	} {
		_, err := b.ChangePassword(t.Context(), c.p, c.old, c.new, home)
		wantKind(t, err, c.want)
	}
	s2, err := b.ChangePassword(t.Context(), s.Principal, good, better, home)
	check(t, err)
	if b.alive(s.Token) || b.alive(other.Token) {
		t.Error("a session survived the new password")
	}
	if !b.alive(s2.Token) || !b.alive(token) {
		t.Error("the new session or the app token is dead")
	}
}

func TestRulesForPasswords(t *testing.T) {
	t.Parallel()
	b := open(t)
	b.owner()
	serial := b.label().Serial
	for password, ok := range map[string]bool{
		"":                         false,
		"seven77":                  false,
		"password":                 false,
		"PASSWORD":                 false,
		"ｐａｓｓｗｏｒｄ":                 false, // the same on another keyboard
		"12345678":                 false,
		"woaini1314":               false,
		"aaaaaaaaaa":               false,
		"abababababab":             false,
		"23456789":                 false,
		"hgfedcba":                 false,
		"Benjamin":                 false, // the user name
		"benjamin1":                false,
		"yunbox2026":               false,
		"Yunbox 7F3A":              false,
		serial:                     false,
		"with\x00nul byte":         false,
		"bad \xff utf-8 here":      false,
		strings.Repeat("ä b", 400): false, // over 1,024 bytes
		"correct horse":            true,
		"我爱北京天安门的花":                true,
		"x7!Kq2#p":                 true,
		strings.Repeat("long ", 8) + "enough for anyone": true,
	} {
		_, err := b.CreateUser(t.Context(), account.Root("socket"), account.NewUser{Username: "Benjamin", Password: password})
		if ok && err == nil {
			// Make room for the next one.
			check(t, b.db.Write(t.Context(), func(tx *db.Tx) error {
				_, err := tx.Exec(`DELETE FROM user WHERE username = 'benjamin'`)
				return err
			}))
			continue
		}
		if ok || problem.KindOf(err) != problem.Invalid {
			t.Errorf("%q: %v", password, err)
		}
		if err != nil && len(password) > 3 && password != "password" && strings.Contains(err.Error(), password) {
			t.Errorf("the refusal repeats the password: %v", err)
		}
	}
}

func TestUsernames(t *testing.T) {
	t.Parallel()
	for name, folded := range map[string]string{
		"Anna": "anna", "ANNA": "anna", "Ａnna": "anna", "Straße": "strasse", "王小明": "王小明", "José": "josé", "Jose\u0301": "josé",
		"anna.maria@home": "anna.maria@home", "O'Neil": "o'neil", "Anna Maria": "anna maria", "Ünal-2": "ünal-2", "محمد": "محمد", "ﬁnn": "finn",
	} {
		if _, got, err := account.Username(name); err != nil || got != folded {
			t.Errorf("%q is folded to %q, %v; want %q", name, got, err, folded)
		}
	}
	for _, name := range []string{
		"", " ", "anna ", " anna", "an  na", ".", "..", "../x", "a/b", "a\\b", "a:b", "a\x00b", "a\nb", "a\tb", "-rf", "anna.",
		"a／b", "a：b", "a\u202eb", "a\u2066b", "a\u200bb", "\ufeffa", "a\xffb", "a<b", `a"b`, "a*b", "a?b", "a|b", "a%b", "😀",
		strings.Repeat("x", 65), strings.Repeat("ﷺ", 20), "a\u00a0", "․․", "ａ\u3000", "a\u0600",
	} {
		if shown, folded, err := account.Username(name); problem.KindOf(err) != problem.Invalid {
			t.Errorf("%q is accepted as %q, %q (%v)", name, shown, folded, err)
		}
	}
}

func FuzzUsername(f *testing.F) {
	for _, s := range []string{"Anna", "ﷺ", "a\u0301", "ǅ", "ẞ", "İstanbul", "a b", "ͺ", "\u1fb3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shown, folded, err := account.Username(s)
		if err != nil {
			return
		}
		for _, form := range []string{shown, folded} {
			if strings.ContainsAny(form, "/\\:\x00\"<>|*?%") || len(form) > 256 || form == "." || form == ".." {
				t.Errorf("%q became %q", s, form)
			}
			_, again, err := account.Username(form)
			if err != nil || again != folded {
				t.Errorf("%q folds to %q, but %q to %q, %v", s, folded, form, again, err)
			}
		}
	})
}

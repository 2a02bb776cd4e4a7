package account_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs"
)

const (
	deviceID    = "abcdefghijklmnop"
	fingerprint = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	good        = "four nice words here"
	better      = "five even nicer words here"
	home        = "192.168.1.10"
)

// A box is a folder with accounts in it and a clock that the test sets.
type box struct {
	*account.Accounts
	t     testing.TB
	dir   string
	db    *db.DB
	audit *audit.Log
	clock *atomic.Int64
	bound atomic.Int32
}

func open(t testing.TB) *box {
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC).UnixMilli())
	return openIn(t, t.TempDir(), &clock)
}

func openIn(t testing.TB, dir string, clock *atomic.Int64) *box {
	t.Helper()
	return openWith(t, dir, clock, func(*account.Options) {})
}

// openWith is openIn with other options.
func openWith(t testing.TB, dir string, clock *atomic.Int64, set func(*account.Options)) *box {
	t.Helper()
	b := &box{t: t, dir: dir, clock: clock}
	now := func() time.Time { return time.UnixMilli(clock.Load()).UTC() }
	var err error
	if b.db, err = db.Open(t.Context(), db.Options{Path: filepath.Join(dir, "box.db"), BackupDir: dir, Now: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	if err := vfs.CreateDir(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	keys, err := vfs.OpenDir(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	b.audit = audit.New(b.db)
	opt := account.Options{
		Keys: keys, DeviceID: deviceID, Fingerprint: fingerprint, Name: "Yunbox 7F3A", Now: now,
		OnBound: func() { b.bound.Add(1) },
	}
	set(&opt)
	b.Accounts, err = account.Open(t.Context(), b.db, b.audit, opt)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// crash opens a copy of what is on the disk now, as after kill -9: the first box
// gets no chance to close anything.
func (b *box) crash() *box {
	b.t.Helper()
	dir := b.t.TempDir()
	keys, err := filepath.Glob(filepath.Join(b.dir, "keys", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	names := []string{"box.db", "box.db-wal"}
	for _, k := range keys {
		names = append(names, filepath.Join("keys", filepath.Base(k)))
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(b.dir, name))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return openIn(b.t, dir, b.clock)
}

func (b *box) pass(d time.Duration) { b.clock.Add(d.Milliseconds()) }

func (b *box) label() account.Label {
	b.t.Helper()
	l, err := b.Label(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

func (b *box) byCode() account.BindRequest {
	l := b.label()
	return account.BindRequest{Serial: l.Serial, Code: l.Code, Username: "Anna", Password: good, Remote: home}
}

// wrong is byCode with another code.
func (b *box) wrong() account.BindRequest {
	r := b.byCode()
	digit := '0' + (r.Code[7]-'0'+1)%10
	r.Code = r.Code[:7] + string(rune(digit))
	return r
}

func (b *box) bySecret() account.BindRequest {
	b.t.Helper()
	uri, err := account.ParsePairURI(b.label().PairURI)
	if err != nil {
		b.t.Fatal(err)
	}
	return account.BindRequest{Secret: uri.Secret, Username: "Anna", Password: good, Remote: home}
}

// owner binds the box to Anna.
func (b *box) owner() account.Session {
	b.t.Helper()
	s, err := b.Bind(b.t.Context(), b.byCode())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *box) member(name string) account.User {
	b.t.Helper()
	u, err := b.CreateUser(b.t.Context(), account.Root("socket"), account.NewUser{Username: name, Password: good})
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

func (b *box) login(name, password, remote string) (account.Session, error) {
	return b.Login(b.t.Context(), account.LoginRequest{Username: name, Password: password, Remote: remote})
}

func (b *box) mustLogin(name string) account.Session {
	b.t.Helper()
	s, err := b.login(name, good, home)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *box) alive(token string) bool {
	b.t.Helper()
	_, err := b.Authenticate(context.Background(), token)
	if err != nil && problem.KindOf(err) != problem.Unauthenticated {
		b.t.Fatal(err)
	}
	return err == nil
}

func benchBox(b *testing.B) (*box, account.Session) {
	bx := open(b)
	return bx, bx.owner()
}

func wantKind(t *testing.T, err error, want problem.Kind) {
	t.Helper()
	if got := problem.KindOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// actions are the audit record's actions since the start, and the record is sound.
func (b *box) actions() []string {
	b.t.Helper()
	if r, err := b.audit.Verify(b.t.Context()); err != nil || r.Bad != nil {
		b.t.Fatalf("the audit record is not sound: %+v, %v", r, err)
	}
	entries, err := b.audit.Tail(b.t.Context(), 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Action)
	}
	return out
}

func TestEveryActIsRecordedWithoutSecrets(t *testing.T) { // R33, R35
	t.Parallel()
	b := open(t)
	ctx := t.Context()
	label := b.label()
	if _, err := b.Bind(ctx, b.wrong()); err == nil {
		t.Fatal("a wrong code bound the box")
	}
	s := b.owner()
	d, err := b.AddDevice(ctx, s.Principal, account.DeviceInfo{Name: "Pocket phone", Kind: "phone"})
	check(t, err)
	_, err = b.RenameDevice(ctx, s.Principal, d.ID, "Old phone")
	check(t, err)
	tok, secret, err := b.CreateToken(ctx, s.Principal, "PhotoSync", ident.ScopeFiles, d.ID)
	check(t, err)
	check(t, b.RevokeToken(ctx, s.Principal, tok.ID))
	check(t, b.RemoveDevice(ctx, s.Principal, d.ID))
	u, err := b.CreateUser(ctx, account.As(s.Principal, "http"), account.NewUser{Username: "Ben", Password: good})
	check(t, err)
	check(t, b.SetDisabled(ctx, account.As(s.Principal, "http"), u.ID, true))
	check(t, b.SetDisabled(ctx, account.As(s.Principal, "http"), u.ID, false))
	check(t, b.SetPassword(ctx, account.Root("socket"), u.ID, better))
	if _, err := b.login("anna", "not the right one", home); err == nil {
		t.Fatal("a wrong password signed in")
	}
	s2, err := b.ChangePassword(ctx, s.Principal, good, better, home)
	check(t, err)
	check(t, b.Logout(ctx, s2.Principal))

	got := b.actions()
	want := []string{"box.bind_try", "box.bind_try", "box.bind", "session.open", "device.add", "device.rename",
		"token.create", "token.revoke", "device.remove", "user.create", "user.disable", "user.enable", "user.password",
		"session.refuse", "user.password", "session.open", "session.close"}
	if !slices.Equal(got, want) {
		t.Errorf("recorded %v\nwant     %v", got, want)
	}
	// Neither the record nor anything else in the folder holds what opens the box.
	b.db.Close()
	for _, name := range []string{"box.db", "keys/label.json"} {
		data, err := os.ReadFile(filepath.Join(b.dir, name))
		check(t, err)
		for what, s := range map[string]string{"session token": s.Token, "new session token": s2.Token, "app token": secret,
			"password": good, "new password": better, "code": label.Code, "pairing secret": strings.Split(strings.Split(label.PairURI, "s=")[1], "&")[0]} {
			if strings.Contains(string(data), s) {
				t.Errorf("%s holds the %s", name, what)
			}
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openKeys(t *testing.T, dir string) vfs.FS {
	t.Helper()
	keys, err := vfs.OpenDir(dir)
	check(t, err)
	t.Cleanup(func() { keys.Close() })
	return keys
}

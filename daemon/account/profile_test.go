package account_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
)

// ledger is the box's, with everything granted that this package asks for.
func (b *box) ledger(u ident.UserID) *consent.Ledger {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b.t, err)
	l, err := consent.Open(b.t.Context(), b.db, b.audit, key)
	must(b.t, err)
	for _, p := range []consent.Purpose{consent.ProfileDetails, consent.DeviceInfo, consent.UsageLogs} {
		_, err := l.Record(b.t.Context(), consent.Decision{User: u, Actor: u, Purpose: p, Granted: true, PolicyRevision: consent.CurrentPolicy().Revision, How: "page"})
		must(b.t, err)
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func grant(t *testing.T, l *consent.Ledger, u ident.UserID, p consent.Purpose) consent.Grant {
	t.Helper()
	g, err := l.Grant(t.Context(), u, 0, p)
	check(t, err)
	return g
}

// holds reports whether any file below dir has the text.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	check(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it came and went meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		found = found || bytes.Contains(data, []byte(text))
		return err
	}))
	return found
}

// R04, R32: what people tell about themselves is theirs to read, correct and delete,
// and stands nowhere in the clear.
func TestProfile(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx, p := t.Context(), s.Principal
	l := b.ledger(p.User)
	g := grant(t, l, p.User, consent.ProfileDetails)
	for d, value := range map[account.Detail]string{
		account.Email: "Ada.Lovelace@Example.COM", account.Phone: "+86 138-1234 5678", account.Nickname: "Countess",
		account.Gender: "female", account.City: "Londinium",
	} {
		check(t, b.SetDetail(ctx, p, g, d, value))
	}
	list, err := b.Profile(ctx, p.User)
	check(t, err)
	if got := fmt.Sprint(list[0].Value, list[1].Value, list[2].Value, list[3].Value, list[4].Value); len(list) != 5 ||
		got != "A***@example.com +86138****5678 C*** *** ***" {
		t.Errorf("%d, %s", len(list), got)
	}
	for _, text := range []string{"Lovelace", "12345678", "1234 5678", "Countess", "Londinium"} {
		if holds(t, b.dir, text) {
			t.Errorf("%s is on the disk in the clear", text)
		}
	}
	shown, err := b.RevealProfile(ctx, p, account.Email, account.Phone)
	check(t, err)
	if len(shown) != 2 || shown[account.Email] != "Ada.Lovelace@example.com" || shown[account.Phone] != "+8613812345678" {
		t.Errorf("%v", shown)
	}
	if n := countOf(b.actions(), "profile.reveal"); n != 1 {
		t.Errorf("showing is recorded %d times", n)
	}
	for value, want := range map[string]int{"ADA.lovelace@example.com": 1, "ada@example.com": 0} {
		names, err := b.WhoTold(ctx, account.Root("socket"), account.Email, value)
		if err != nil || len(names) != want {
			t.Errorf("%s: %v, %v", value, names, err)
		}
	}
	_, err = b.WhoTold(ctx, account.As(p, "http"), account.Email, "ada@example.com")
	wantKind(t, err, problem.Forbidden)

	// Correct, delete.
	check(t, b.SetDetail(ctx, p, g, account.Email, "ada@example.org"))
	check(t, b.DeleteDetail(ctx, p, account.Phone))
	check(t, b.DeleteDetail(ctx, p, account.Phone))
	wantKind(t, b.DeleteDetail(ctx, p, "password"), problem.NotFound)
	shown, err = b.RevealProfile(ctx, p)
	if err != nil || len(shown) != 4 || shown[account.Email] != "ada@example.org" {
		t.Errorf("%v, %v", shown, err)
	}
	if names, err := b.WhoTold(ctx, account.Root("socket"), account.Phone, "+8613812345678"); err != nil || len(names) != 0 {
		t.Errorf("found by a number that was deleted: %v, %v", names, err)
	}

	// Nobody writes into somebody else's profile, whatever grant they hold.
	mum := b.person(s, "mum")
	if err := b.SetDetail(ctx, mum, g, account.City, "Paris"); err == nil {
		t.Error("a grant of somebody else was taken")
	}
	wantKind(t, b.SetDetail(ctx, ident.Principal{User: p.User, Scope: ident.ScopeFiles}, g, account.City, "x"), problem.Forbidden)

	// Keys that are lost cost the values, and nothing else.
	for _, name := range []string{"vault.json", "vault.json.copy"} {
		check(t, os.Remove(filepath.Join(b.dir, "keys", name)))
	}
	again := b.crash()
	list, err = again.Profile(ctx, p.User)
	if err != nil || len(list) != 4 || list[0].Value != nil {
		t.Errorf("%v, %v", list, err)
	}
	again.ledger(p.User)
}

func (b *box) person(owner account.Session, name string) ident.Principal {
	b.t.Helper()
	_, err := b.CreateUser(b.t.Context(), account.As(owner.Principal, "http"), account.NewUser{Username: name, Password: good})
	must(b.t, err)
	return b.mustLogin(name).Principal
}

func TestDetailsAreChecked(t *testing.T) {
	t.Parallel()
	b := open(t)
	p := b.owner().Principal
	g := grant(t, b.ledger(p.User), p.User, consent.ProfileDetails)
	for d, values := range map[account.Detail][]string{
		account.Email: {"", "ada", "@example.com", "ada@", "ada@example", "a b@example.com", "a@b@example.com", "ada@exa..mple.com", ".a@example.com",
			"a@-example.com", `"a"@example.com`, "a@192.168.1.1", "a@example.com\r\nBcc: x@example.com", strings.Repeat("a", 65) + "@example.com"},
		account.Phone:    {"", "1234", "12345678901234567", "abc", "+", "1+2345678", "12345;ext=1"},
		account.Gender:   {"", "x", "Female"},
		account.Nickname: {"", strings.Repeat("x", 65), "a\u202eb", "a\x00b"},
		account.City:     {"", "\xff"},
		"avatar":         {"x"},
		"password":       {"x"},
	} {
		for _, v := range values {
			if err := b.SetDetail(t.Context(), p, g, d, v); err == nil {
				t.Errorf("%s %q was taken", d, v)
			} else if k := problem.KindOf(err); k != problem.Invalid && k != problem.NotFound {
				t.Errorf("%s %q: %v", d, v, err)
			}
		}
	}
	for d, values := range map[account.Detail][]string{
		account.Email: {"a+b@example.com", "小明@例子.中国", "a@b.co"}, account.Phone: {"(020) 7946/0000", "12345"}, account.City: {"São Paulo", "上海"},
	} {
		for _, v := range values {
			if err := b.SetDetail(t.Context(), p, g, d, v); err != nil {
				t.Errorf("%s %q: %v", d, v, err)
			}
		}
	}
}

// What is withdrawn is erased within a second, also where the box was off; a profile of
// somebody whose consent is in force stays.
func TestWithdrawalErases(t *testing.T) { // R22
	t.Parallel()
	b := open(t)
	s := b.owner()
	p := s.Principal
	l := b.ledger(p.User)
	ctx, stop := context.WithCancel(t.Context())
	device, err := b.AddDevice(ctx, p, account.DeviceInfo{Name: "phone", Kind: "phone"})
	check(t, err)
	fill := func() {
		t.Helper()
		check(t, b.SetDetail(ctx, p, grant(t, l, p.User, consent.ProfileDetails), account.Email, "ada@example.com"))
		check(t, b.SetAvatar(ctx, p, grant(t, l, p.User, consent.ProfileDetails), bytes.NewReader(picture(t, "png"))))
		check(t, b.DescribeDevice(ctx, p, grant(t, l, p.User, consent.DeviceInfo), device.ID, account.About{Model: "Pixel 9"}))
		check(t, b.NoteUse(ctx, grant(t, l, p.User, consent.UsageLogs), "files", "a browser", "en", home))
	}
	rows := func() (n [3]int) {
		t.Helper()
		check(t, b.db.Read(context.Background(), func(tx *db.Tx) error {
			return tx.QueryRow(`SELECT (SELECT count(*) FROM profile) + (SELECT count(*) FROM profile_sensitive) + (SELECT count(*) FROM vault_index),
				(SELECT count(*) FROM device_about), (SELECT count(*) FROM usage_log)`).Scan(&n[0], &n[1], &n[2])
		}))
		return n
	}
	withdraw := func(purpose consent.Purpose) {
		t.Helper()
		_, err := l.Record(context.Background(), consent.Decision{User: p.User, Actor: p.User, Purpose: purpose, How: "page"})
		check(t, err)
	}
	fill()
	ended := make(chan struct{})
	go func() { b.Run(ctx, l); close(ended) }()
	if n := rows(); n != [3]int{3, 1, 1} {
		t.Fatalf("%v", n)
	}
	for i, purpose := range []consent.Purpose{consent.ProfileDetails, consent.DeviceInfo, consent.UsageLogs} {
		g := grant(t, l, p.User, purpose)
		withdraw(purpose)
		for deadline := time.Now().Add(2 * time.Minute); rows()[i] != 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v is left", purpose, rows())
			}
		}
		err := map[consent.Purpose]func() error{
			consent.ProfileDetails: func() error { return b.SetDetail(ctx, p, g, account.City, "x") },
			consent.DeviceInfo:     func() error { return b.DescribeDevice(ctx, p, g, device.ID, account.About{App: "x"}) },
			consent.UsageLogs:      func() error { return b.NoteUse(ctx, g, "files", "", "", "") },
		}[purpose]()
		wantKind(t, err, problem.ConsentRequired)
	}
	stop()
	<-ended

	// While nobody watches.
	ctx, stop = context.WithCancel(t.Context())
	l = b.ledger(p.User)
	fill()
	for _, purpose := range []consent.Purpose{consent.ProfileDetails, consent.UsageLogs} {
		withdraw(purpose)
	}
	ended = make(chan struct{})
	go func() { b.Run(ctx, l); close(ended) }()
	for deadline := time.Now().Add(2 * time.Minute); rows() != [3]int{0, 1, 0}; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v", rows())
		}
	}
	stop()
	<-ended
}

// picture is a small one, with a place in its metadata where the format has any.
func picture(t *testing.T, format string) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 40, 30))
	for x := range 40 {
		img.Set(x, x%30, color.RGBA{uint8(x * 6), 200, 10, 255})
	}
	var b bytes.Buffer
	if format == "png" {
		check(t, png.Encode(&b, img))
		return b.Bytes()
	}
	check(t, jpeg.Encode(&b, img, nil))
	plain := b.Bytes()
	exif := "Exif\x00\x00MM\x00*GPS 31.2304N 121.4737E"
	app1 := append([]byte{0xff, 0xe1, 0, byte(len(exif) + 2)}, exif...)
	return append(append(bytes.Clone(plain[:2]), app1...), plain[2:]...)
}

// R04: a picture is kept without what else is in its file.
func TestAvatar(t *testing.T) {
	t.Parallel()
	b := open(t)
	p := b.owner().Principal
	ctx := t.Context()
	g := grant(t, b.ledger(p.User), p.User, consent.ProfileDetails)
	_, _, err := b.Avatar(ctx, p.User)
	wantKind(t, err, problem.NotFound)
	for _, format := range []string{"png", "jpeg"} {
		check(t, b.SetAvatar(ctx, p, g, bytes.NewReader(picture(t, format))))
		got, _, err := b.Avatar(ctx, p.User)
		check(t, err)
		img, kind, err := image.Decode(bytes.NewReader(got))
		if err != nil || kind != "jpeg" || img.Bounds().Dx() != 40 || img.Bounds().Dy() != 30 {
			t.Fatalf("%s: %s, %v", format, kind, err)
		}
		if bytes.Contains(got, []byte("GPS")) || bytes.Contains(got, []byte("Exif")) {
			t.Errorf("%s: the place is kept", format)
		}
		if holds(t, b.dir, string(got[40:80])) {
			t.Errorf("%s: the picture is on the disk in the clear", format)
		}
	}
	var large bytes.Buffer
	check(t, png.Encode(&large, image.NewGray(image.Rect(0, 0, 513, 1))))
	for what, c := range map[string]struct {
		data []byte
		kind problem.Kind
	}{
		"too wide":    {large.Bytes(), problem.Invalid},
		"no picture":  {[]byte("<svg onload=alert(1)>"), problem.UnsupportedMedia},
		"nothing":     {nil, problem.UnsupportedMedia},
		"cut off":     {picture(t, "png")[:60], problem.UnsupportedMedia},
		"a gif":       {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), problem.UnsupportedMedia},
		"a megabyte+": {make([]byte, account.MaxAvatar+1), problem.TooLarge},
	} {
		if err := b.SetAvatar(ctx, p, g, bytes.NewReader(c.data)); problem.KindOf(err) != c.kind {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, b.DeleteAvatar(ctx, p))
	if has, err := b.HasAvatar(ctx, p.User); has || err != nil {
		t.Errorf("it is still there: %v", err)
	}
}

// R16: sign-ins and wrong tries are kept with their address for 30 days of the sure
// time, by nobody's consent, and then go.
func TestSecurityLog(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := b.owner()
	ctx := t.Context()
	const elsewhere = "203.0.113.77"
	p := s.Principal
	b.pass(time.Minute)
	for _, name := range []string{"anna", "nobody here"} {
		_, err := b.Login(ctx, account.LoginRequest{Username: name, Password: "a wrong one", Remote: elsewhere})
		wantKind(t, err, problem.Unauthenticated)
	}
	b.pass(time.Minute)
	b.mustLogin("anna")
	list, err := b.SignIns(ctx, p.User, 0, 10)
	check(t, err)
	var got []string
	for _, e := range list {
		got = append(got, e.Outcome+" "+e.Address.String())
	}
	if want := "signed_in 192.168.1.* refused 203.0.113.* signed_in 192.168.1.*"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if older, err := b.SignIns(ctx, p.User, list[0].ID, 1); err != nil || len(older) != 1 || older[0].ID != list[1].ID {
		t.Errorf("%v, %v", older, err)
	}
	all, err := b.AllSignIns(ctx, account.Root("socket"), 10)
	if err != nil || len(all) != 4 {
		t.Errorf("%d entries, %v", len(all), err)
	}
	if _, err := b.AllSignIns(ctx, account.As(p, "http"), 10); problem.KindOf(err) != problem.Forbidden {
		t.Errorf("an admin reads everybody's: %v", err)
	}
	list, w, err := b.RevealSignIns(ctx, p, 0, 10)
	if err != nil || list[1].Address.Reveal(w) != elsewhere || list[1].Address.Reveal(vault.Witness{}) == elsewhere {
		t.Errorf("%v, %v", list[1].Address.Reveal(w), err)
	}
	if n := countOf(b.actions(), "sign_ins.reveal"); n != 1 {
		t.Errorf("showing is recorded %d times", n)
	}
	if holds(t, b.dir, elsewhere) {
		t.Error("the address is on the disk in the clear")
	}
	count := func() (n int) {
		check(t, b.db.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(`SELECT count(*) FROM sign_in`).Scan(&n) }))
		return n
	}
	b.pass(account.LogLife - time.Hour)
	check(t, b.Expire(ctx))
	if n := count(); n != 4 {
		t.Errorf("%d entries before their time", n)
	}
	b.pass(2 * time.Hour)
	if list, err := b.SignIns(ctx, p.User, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("old entries are shown: %v, %v", list, err)
	}
	check(t, b.Expire(ctx))
	if n := count(); n != 0 {
		t.Errorf("%d entries after 30 days", n)
	}
}

// Strangers cannot make the log grow, and not push out who signed in.
func TestSecurityLogIsBounded(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := b.owner()
	for i := range 30 {
		_, err := b.Login(t.Context(), account.LoginRequest{Username: "x", Password: "y", Remote: fmt.Sprintf("198.51.100.%d", i)})
		if err == nil {
			t.Fatal("signed in")
		}
	}
	all, err := b.AllSignIns(t.Context(), account.Root("socket"), 1000)
	if err != nil || len(all) > 22 {
		t.Errorf("%d entries, %v", len(all), err)
	}
	if list, err := b.SignIns(t.Context(), s.Principal.User, 0, 10); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// R16: use is noted with consent only, bounded, and its owner deletes it.
func TestUsageLog(t *testing.T) {
	t.Parallel()
	b := open(t)
	p := b.owner().Principal
	ctx := t.Context()
	g := grant(t, b.ledger(p.User), p.User, consent.UsageLogs)
	check(t, b.NoteUse(ctx, g, "files", "Mozilla/5.0 "+strings.Repeat("x", 1000)+"\x00", "zh-CN,zh", "192.0.2.44"))
	for _, page := range []string{"", "Files", "files/secret.jpg", strings.Repeat("a", 33)} {
		wantKind(t, b.NoteUse(ctx, g, page, "", "", ""), problem.Invalid)
	}
	list, err := b.Uses(ctx, p.User, 0, 10)
	if err != nil || len(list) != 1 || list[0].Page != "files" || len(list[0].Browser) > 256 || list[0].Address.String() != "192.0.2.*" {
		t.Fatalf("%+v, %v", list, err)
	}
	_, w, err := b.RevealUses(ctx, p, 0, 10)
	if err != nil || list[0].Address.Reveal(w) != "192.0.2.44" {
		t.Errorf("%v", err)
	}
	if holds(t, b.dir, "192.0.2.44") || holds(t, b.dir, "Mozilla/5.0") {
		t.Error("it is on the disk in the clear")
	}
	limited := false
	for range 100 {
		err := b.NoteUse(ctx, g, "files", "", "", "")
		limited = limited || problem.KindOf(err) == problem.RateLimited
	}
	if !limited {
		t.Error("a hundred notes in a moment were taken")
	}
	if list, err := b.UsesOf(ctx, account.Root("socket"), "anna", 10); err != nil || len(list) != 10 || countOf(b.actions(), "usage.read") != 1 {
		t.Errorf("%d, %v", len(list), err)
	}
	_, err = b.UsesOf(ctx, account.As(p, "http"), "anna", 10)
	wantKind(t, err, problem.Forbidden)
	check(t, b.DeleteUses(ctx, p))
	if list, err := b.Uses(ctx, p.User, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// A secret that an earlier version sealed goes into the vault, and goes on working.
func TestOldSecretsMoveIntoTheVault(t *testing.T) { // R32
	t.Parallel()
	b := open(t)
	s := b.owner()
	p, _ := b.enrol(s)
	b.pass(step)
	old := account.SealedBefore(b.Accounts, s.Principal.User, p.secret)
	check(t, b.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE totp SET secret = ?`, old)
		return err
	}))
	check(t, b.second("anna", p.code(), home))
	b.pass(step)
	again := b.crash()
	l := again.ledger(s.Principal.User)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { again.Run(ctx, l); close(ended) }()
	var now []byte
	for deadline := time.Now().Add(2 * time.Minute); len(now) == 0 || now[0] == old[0]; time.Sleep(5 * time.Millisecond) {
		check(t, again.db.Read(t.Context(), func(tx *db.Tx) error { return tx.QueryRow(`SELECT secret FROM totp`).Scan(&now) }))
		if time.Now().After(deadline) {
			t.Fatal("it was not moved")
		}
	}
	stop()
	<-ended
	check(t, again.second("anna", p.code(), home))
}

// R36: a password of the list in the settings is refused wherever one is chosen; a list
// that cannot be used is no reason to refuse one.
func TestBreachedPasswordsAreRefused(t *testing.T) {
	t.Parallel()
	const stolen = "purple monkey dishwasher nine"
	dir := t.TempDir()
	list := filepath.Join(dir, "pwned.txt")
	check(t, os.WriteFile(list, []byte(fmt.Sprintf("%X:3\r\n", sha1.Sum([]byte(stolen)))), 0o600))
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC).UnixMilli())
	b := openWith(t, dir, &clock, func(o *account.Options) { o.Breached = list })
	ctx := t.Context()
	in := b.byCode()
	in.Password = stolen
	_, err := b.Bind(ctx, in)
	wantKind(t, err, problem.Invalid)
	s := b.owner()
	_, err = b.ChangePassword(ctx, s.Principal, good, stolen, home)
	wantKind(t, err, problem.Invalid)
	_, err = b.CreateUser(ctx, account.As(s.Principal, "http"), account.NewUser{Username: "mum", Password: stolen})
	wantKind(t, err, problem.Invalid)
	check(t, os.WriteFile(list, []byte("no such list"), 0o600))
	_, err = b.CreateUser(ctx, account.As(s.Principal, "http"), account.NewUser{Username: "mum", Password: stolen})
	check(t, err)
	check(t, os.Remove(list))
	_, err = b.CreateUser(ctx, account.As(s.Principal, "http"), account.NewUser{Username: "dad", Password: stolen})
	check(t, err)
}

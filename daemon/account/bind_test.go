package account_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs/vfstest"
)

func TestBindingMakesTheOwnerAndSpendsTheLabel(t *testing.T) { // R03
	t.Parallel()
	for way, request := range map[string]func(*box) account.BindRequest{"code": (*box).byCode, "secret": (*box).bySecret} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			before := b.label()
			if b.Bound(t.Context()) || before.Spent || before.Code == "" || before.PairURI == "" {
				t.Fatalf("a new box: bound %v, label %+v", b.Bound(t.Context()), before)
			}
			req := request(b)
			req.Device = account.DeviceInfo{Name: "Anna's phone", Kind: "phone"}
			s, err := b.Bind(t.Context(), req)
			check(t, err)
			p, err := b.Authenticate(t.Context(), s.Token)
			check(t, err)
			if p != s.Principal || p.Role != ident.Owner || p.Name != "Anna" || p.Scope != ident.ScopeFull || p.Device == 0 || !p.Admin() {
				t.Errorf("the owner is %+v, the session says %+v", p, s.Principal)
			}
			if !b.Bound(t.Context()) || b.bound.Load() != 1 {
				t.Error("nobody was told that the box is bound")
			}

			for name, again := range map[string]*box{"same": b, "after kill -9": b.crash()} {
				l := again.label()
				if !l.Spent || l.Code != "" || l.PairURI != "" || l.Serial != before.Serial {
					t.Errorf("%s: the label is %+v", name, l)
				}
				replay := req
				replay.Username = "Mallory"
				_, err = again.Bind(t.Context(), replay)
				wantKind(t, err, problem.Conflict)
				if !strings.Contains(problem.Sentence(err), "already bound") {
					t.Errorf("%s: a replay is told %q", name, problem.Sentence(err))
				}
			}
			data, err := os.ReadFile(filepath.Join(b.dir, "keys/label.json"))
			check(t, err)
			var file map[string]any
			check(t, json.Unmarshal(data, &file))
			if file["code"] != nil || file["secret"] != nil {
				t.Errorf("the label's file still has %s", data)
			}
		})
	}
}

func TestLabelFileIsForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	b := open(t)
	info, err := os.Stat(filepath.Join(b.dir, "keys/label.json"))
	check(t, err)
	if info.Mode() != 0o400 {
		t.Errorf("mode %v", info.Mode())
	}
	if again := b.crash().label(); again != b.label() {
		t.Errorf("the label changed over a restart: %+v, %+v", b.label(), again)
	}
	if other := open(t).label(); other.Serial == b.label().Serial || other.Code == b.label().Code || other.PairURI == b.label().PairURI {
		t.Error("two boxes have the same label")
	}
}

func TestWhatIsWrongByFormIsNoTry(t *testing.T) {
	t.Parallel()
	b := open(t)
	for name, spoil := range map[string]func(*account.BindRequest){
		"serial with a typing error": func(r *account.BindRequest) { r.Serial = flip(r.Serial, 6) },
		"no serial":                  func(r *account.BindRequest) { r.Serial = "" },
		"short code":                 func(r *account.BindRequest) { r.Code = "1234" },
		"letters in the code":        func(r *account.BindRequest) { r.Code = "1234567x" },
		"no user name":               func(r *account.BindRequest) { r.Username = "" },
		"hostile user name":          func(r *account.BindRequest) { r.Username = "../anna" },
		"weak password":              func(r *account.BindRequest) { r.Password = "password" },
		"the serial as password":     func(r *account.BindRequest) { r.Password = r.Serial },
		"the code as password":       func(r *account.BindRequest) { r.Password = r.Code },
		"secret and code":            func(r *account.BindRequest) { r.Secret = "x" },
		"huge secret":                func(r *account.BindRequest) { r.Serial, r.Code, r.Secret = "", "", strings.Repeat("x", 1000) },
		"unknown kind of device":     func(r *account.BindRequest) { r.Device.Kind = "toaster" },
	} {
		for range 7 {
			req := b.byCode()
			spoil(&req)
			if _, err := b.Bind(t.Context(), req); problem.KindOf(err) != problem.Invalid {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	b.owner()
}

// A stranger's request without a serial number of its own must not find out by
// its password what stands on the label.
func TestPasswordIsNoQuestionAboutTheLabel(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	_, err := b.Bind(t.Context(), account.BindRequest{
		Secret: strings.Repeat("A", 22), Username: "mallory", Password: b.label().Serial, Remote: "stranger",
	})
	if problem.KindOf(err) != problem.Unauthenticated {
		t.Errorf("the answer to a wrong secret is %v", err)
	}
}

func flip(s string, i int) string {
	c := byte('A')
	if s[i] == 'A' {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestSerialAsPeopleTypeIt(t *testing.T) {
	t.Parallel()
	b := open(t)
	req := b.byCode()
	req.Serial = strings.ToLower(strings.ReplaceAll(req.Serial, "-", " "))
	req.Serial = strings.NewReplacer("0", "o", "1", "l").Replace(req.Serial)
	req.Code = req.Code[:4] + " " + req.Code[4:]
	_, err := b.Bind(t.Context(), req)
	check(t, err)
}

func TestWrongCodesLockAndTheLockSurvives(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	fail := func(n int) {
		t.Helper()
		for range n {
			_, err := b.Bind(t.Context(), b.wrong())
			wantKind(t, err, problem.Unauthenticated)
		}
	}
	fail(3)
	b = b.crash() // a try is on the disk when its answer is out
	fail(2)
	for _, lock := range []time.Duration{1, 2, 4, 8, 16, 24, 24} {
		lock *= time.Hour
		// The right code does not help while it is locked, from wherever it comes.
		req := b.byCode()
		req.Remote = "192.168.1.77"
		_, err := b.Bind(t.Context(), req)
		wantKind(t, err, problem.RateLimited)
		if got := problem.As(err).RetryAfter; got != lock {
			t.Fatalf("locked for %v, want %v", got, lock)
		}
		b = b.crash()
		b.pass(lock - time.Second)
		_, err = b.Bind(t.Context(), b.byCode())
		wantKind(t, err, problem.RateLimited)
		b.pass(time.Second)
		fail(5)
	}
	// Somebody on the network has locked the code for a day; the owner scans the label.
	_, err := b.Bind(t.Context(), b.bySecret())
	check(t, err)
}

func TestSlowGuessingLocksToo(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	for i := range 10 {
		if _, err := b.Bind(t.Context(), b.wrong()); problem.KindOf(err) != problem.Unauthenticated {
			t.Fatalf("try %d: %v", i+1, err)
		}
		b.pass(11 * time.Minute)
	}
	_, err := b.Bind(t.Context(), b.wrong())
	wantKind(t, err, problem.RateLimited)
}

func TestClockSetBackDoesNotLockForYears(t *testing.T) {
	t.Parallel()
	b := open(t)
	for range 5 {
		_, _ = b.Bind(t.Context(), b.wrong())
	}
	b.pass(-10 * 365 * 24 * time.Hour)
	_, err := b.Bind(t.Context(), b.byCode())
	wantKind(t, err, problem.RateLimited)
	b.pass(24 * time.Hour)
	_, err = b.Bind(t.Context(), b.byCode())
	check(t, err)
}

func TestWrongSecretsNeverLock(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	limited := 0
	for i := range 200 {
		req := b.bySecret()
		req.Secret = flip(req.Secret, 3)
		if i >= 100 {
			req.Remote = "10.0.0." + string(rune('1'+i%9))
		}
		_, err := b.Bind(t.Context(), req)
		switch problem.KindOf(err) {
		case problem.RateLimited:
			limited++
		case problem.Unauthenticated:
		default:
			t.Fatal(err)
		}
	}
	if limited == 0 {
		t.Error("one client may try secrets without end")
	}
	var total int
	check(t, b.db.Read(t.Context(), func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT total FROM bind_attempt WHERE way = 'secret'`).Scan(&total)
	}))
	if total < 50 || total > 200-limited {
		t.Errorf("%d tries are on the disk, %d were made", total, 200-limited)
	}
	req := b.bySecret()
	req.Remote = "192.168.1.99"
	_, err := b.Bind(t.Context(), req)
	check(t, err)
}

func TestOnlyOneBindingSucceeds(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	req := b.bySecret()
	var wg sync.WaitGroup
	won := make(chan account.Session, 8)
	for i := range 8 {
		wg.Go(func() {
			mine := req
			mine.Username += string(rune('a' + i))
			s, err := b.Bind(t.Context(), mine)
			if err == nil {
				won <- s
			} else if problem.KindOf(err) != problem.Conflict {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d owners", len(won))
	}
	users, err := b.Users(t.Context())
	check(t, err)
	if len(users) != 1 {
		t.Errorf("%d people", len(users))
	}
}

func TestCutBetweenOwnerAndSpentLabel(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	label, err := os.ReadFile(filepath.Join(b.dir, "keys/label.json"))
	check(t, err)
	req := b.byCode()
	b.owner()
	check(t, os.Remove(filepath.Join(b.dir, "keys/label.json")))
	check(t, os.WriteFile(filepath.Join(b.dir, "keys/label.json"), label, 0o400))
	after := b.crash()
	if l := after.label(); !l.Spent || l.Code != "" {
		t.Errorf("the label came back: %+v", l)
	}
	_, err = after.Bind(t.Context(), req)
	wantKind(t, err, problem.Conflict)
	if data, _ := os.ReadFile(filepath.Join(after.dir, "keys/label.json")); strings.Contains(string(data), "code") {
		t.Errorf("the file was not finished: %s", data)
	}
}

func TestLeftoverOfAnInterruptedWriteIsNoObstacle(t *testing.T) {
	t.Parallel()
	b := open(t)
	check(t, os.WriteFile(filepath.Join(b.dir, "keys/label.json.new"), []byte("half"), 0o400))
	b.owner()
}

func TestLabelSurvivesPowerCuts(t *testing.T) { // R01, R03
	t.Parallel()
	rng := vfstest.Seed(t)
	b := open(t) // for its database, which has no owner yet
	start := func(disk *vfstest.Disk) (*account.Accounts, account.Label, error) {
		a, err := account.Open(t.Context(), b.db, b.audit, account.Options{Keys: disk, DeviceID: deviceID, Fingerprint: fingerprint})
		if err != nil {
			return nil, account.Label{}, err
		}
		l, err := a.Label(t.Context())
		return a, l, err
	}
	for n := 1; n < 12; n++ {
		disk := vfstest.NewDisk()
		disk.CutIn(n)
		_, shown, err := start(disk)
		_, after, err2 := start(disk.PowerCut(rng))
		check(t, err2)
		if after.Code == "" || err == nil && after != shown {
			t.Fatalf("cut before call %d: the label that was shown is %+v, then %+v", n, shown, after)
		}
		// A call that fails is said, and does not stop the next start.
		disk = vfstest.NewDisk()
		disk.Fail(vfstest.Fault{Nth: n, Err: syscall.EIO})
		_, shown, err = start(disk)
		disk.Heal()
		_, after, err2 = start(disk)
		check(t, err2)
		if err == nil && after != shown {
			t.Fatalf("call %d failed: the label is %+v, then %+v", n, shown, after)
		}
	}

	// The owner is in the database; the spent label cannot be written. It counts
	// as spent at once, and the next start writes it.
	disk := vfstest.NewDisk()
	a, l, err := start(disk)
	check(t, err)
	req := account.BindRequest{Serial: l.Serial, Code: l.Code, Username: "anna", Password: good, Remote: home}
	disk.Fail(vfstest.Fault{Nth: 1, Err: syscall.ENOSPC, Sticky: true})
	_, err = a.Bind(t.Context(), req)
	check(t, err)
	for range 3 {
		if l, err = a.Label(t.Context()); err != nil || !l.Spent || l.Code != "" {
			t.Fatalf("%+v, %v", l, err)
		}
		_, err = a.Bind(t.Context(), req)
		wantKind(t, err, problem.Conflict)
		disk = disk.PowerCut(rng)
		a, _, err = start(disk)
		check(t, err)
	}
}

func TestLostDatabaseDoesNotPutTheBoxUpForGrabs(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	req := b.byCode()
	b.owner()
	b.db.Close()
	for _, name := range []string{"box.db", "box.db-wal", "box.db-shm"} {
		_ = os.Remove(filepath.Join(b.dir, name))
	}
	after := openIn(t, b.dir, b.clock)
	if !after.Bound(t.Context()) {
		t.Error("it says that it has no owner")
	}
	_, err := after.Bind(t.Context(), req)
	wantKind(t, err, problem.Conflict)
}

func TestDamagedLabelIsSaid(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{", `{"version":2,"serial":"YB26-0000-0000"}`, `{"version":1,"serial":"YB26-0000-0000","code":"1"}`} {
		b := open(t)
		path := filepath.Join(b.dir, "keys/label.json")
		check(t, os.Remove(path))
		check(t, os.WriteFile(path, []byte(content), 0o400))
		keys := openKeys(t, filepath.Join(b.dir, "keys"))
		if _, err := account.Open(t.Context(), b.db, b.audit, account.Options{Keys: keys}); err == nil || !strings.Contains(err.Error(), "label.json") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestDamagedLabelOfABoundBox(t *testing.T) {
	t.Parallel()
	b := open(t)
	b.owner()
	path := filepath.Join(b.dir, "keys/label.json")
	check(t, os.Remove(path))
	check(t, os.WriteFile(path, []byte("{"), 0o400))
	keys := openKeys(t, filepath.Join(b.dir, "keys"))
	again, err := account.Open(t.Context(), b.db, b.audit, account.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := again.Label(t.Context()); err != nil || !l.Spent || l.Code != "" || l.PairURI != "" || !again.Bound(t.Context()) {
		t.Errorf("%+v %v", l, err)
	}
}

func TestSerialFindsTypingErrors(t *testing.T) {
	t.Parallel()
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	serial := open(t).label().Serial
	if got, ok := ident.ParseSerial(serial); !ok || got != serial {
		t.Fatalf("%q is read as %q, %v", serial, got, ok)
	}
	for i := range serial {
		if serial[i] == '-' {
			continue
		}
		for _, c := range alphabet {
			if byte(c) == serial[i] {
				continue
			}
			if got, ok := ident.ParseSerial(serial[:i] + string(c) + serial[i+1:]); ok {
				t.Errorf("%q with %c at %d is taken for %q", serial, c, i, got)
			}
		}
	}
}

func FuzzParseSerial(f *testing.F) {
	f.Add("YB26-4F7Q-9KMD")
	f.Add("yb26 oil0 0000")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ident.ParseSerial(s)
		if again, ok2 := ident.ParseSerial(got); ok && (!ok2 || again != got || len(got) != 14) {
			t.Errorf("%q gives %q, which gives %q", s, got, again)
		}
	})
}

func FuzzParsePairURI(f *testing.F) {
	f.Add(account.PairURI{ID: deviceID, Key: fingerprint, Secret: "AAECAwQFBgcICQoLDA0ODw", SerialEnd: "9KMD"}.String())
	f.Add("yunbox://pair?v=1")
	f.Add("yunbox://pair?v=2&id=x")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := account.ParsePairURI(s)
		if err != nil {
			if problem.KindOf(err) != problem.Invalid {
				t.Fatal(err)
			}
			return
		}
		if again, err := account.ParsePairURI(p.String()); err != nil || again != p {
			t.Errorf("%+v is written as %q and read as %+v, %v", p, p, again, err)
		}
	})
}

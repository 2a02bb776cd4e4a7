package account_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"sync"
	"testing"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/spake2plus"
)

// A typist is a client in which somebody types what stands on the label.
type typist struct {
	prover *spake2plus.Prover
}

func (b *box) seen() spake2plus.Binding {
	b.t.Helper()
	key, err := base64.RawURLEncoding.DecodeString(fingerprint)
	if err != nil {
		b.t.Fatal(err)
	}
	return spake2plus.Binding{Key: [32]byte(key), ID: deviceID, Serial: b.label().Serial, Username: "Anna"}
}

// derived has what serial numbers and codes give, once each: that is slow on purpose.
var derived sync.Map

func typing(t *testing.T, b spake2plus.Binding, code string) *typist {
	t.Helper()
	known, ok := derived.Load(b.Serial + code)
	if !ok {
		secret, err := b.Secret(code)
		check(t, err)
		known = secret
		derived.Store(b.Serial+code, known)
	}
	secret := known.(spake2plus.Secret)
	p, err := spake2plus.Prove(b.Session(), secret)
	check(t, err)
	return &typist{p}
}

func finish(o account.BindOffer, confirm []byte) account.BindFinish {
	return account.BindFinish{Run: o.Run, Confirm: confirm, Password: good, Remote: home, Device: account.DeviceInfo{Name: "Anna's phone", Kind: "phone"}}
}

func TestBindingByATypedCode(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	code := b.label().Code
	anna := typing(t, b.seen(), code)
	o, err := b.StartBind(t.Context(), "Anna", anna.prover.Share())
	check(t, err)
	confirm, _, err := anna.prover.Finish(o.Share, o.Confirm)
	check(t, err)
	f := finish(o, confirm)
	f.Password = "password"
	_, err = b.FinishBind(t.Context(), f)
	wantKind(t, err, problem.Invalid) // which does not end the run
	s, err := b.FinishBind(t.Context(), finish(o, confirm))
	check(t, err)
	if p, err := b.Authenticate(t.Context(), s.Token); err != nil || p.Role != ident.Owner || p.Name != "Anna" || p.Device == 0 {
		t.Errorf("%+v %v", p, err)
	}
	if l := b.label(); !l.Spent || l.Code != "" {
		t.Errorf("%+v", l)
	}
	check(t, b.db.Read(t.Context(), func(tx *db.Tx) error {
		var total, short int
		err := tx.QueryRow(`SELECT total, short_count FROM bind_attempt WHERE way = 'code'`).Scan(&total, &short)
		if total != 0 || short != 0 {
			t.Errorf("%d tries are counted, %d of them lately", total, short)
		}
		return err
	}))
	_, err = b.FinishBind(t.Context(), finish(o, confirm))
	wantKind(t, err, problem.Conflict)
	_, err = b.crash().StartBind(t.Context(), "Mallory", anna.prover.Share())
	wantKind(t, err, problem.Conflict)
}

// A relay shows the client a key of its own and passes its messages on. The client finds
// out before it has sent anything that would help the relay. R03
func TestARelayInTheMiddleGetsNothing(t *testing.T) {
	t.Parallel()
	b := open(t)
	code := b.label().Code
	for name, spoof := range map[string]func(*spake2plus.Binding){
		"its own key and the box's id": func(s *spake2plus.Binding) { s.Key[0] ^= 1 },
		"another box":                  func(s *spake2plus.Binding) { s.ID = "aaaaaaaaaaaaaaaa" },
		"its own name for the owner":   func(s *spake2plus.Binding) { s.Username = "Mallory" },
		"another box's label":          func(s *spake2plus.Binding) { s.Serial = flip(s.Serial, 6) },
	} {
		seen := b.seen()
		spoof(&seen)
		anna := typing(t, seen, code)
		o, err := b.StartBind(t.Context(), "Anna", anna.prover.Share())
		check(t, err)
		if confirm, _, err := anna.prover.Finish(o.Share, o.Confirm); !errors.Is(err, spake2plus.ErrConfirm) || confirm != nil {
			t.Fatalf("%s: the client would go on: %v", name, err)
		}
		// The relay can guess, once.
		_, err = b.FinishBind(t.Context(), finish(o, o.Confirm))
		wantKind(t, err, problem.Unauthenticated)
		_, err = b.FinishBind(t.Context(), finish(o, o.Confirm))
		wantKind(t, err, problem.NotFound)
	}
	if b.Bound(t.Context()) {
		t.Error("somebody has the box")
	}
}

func TestMessagesOfOtherRunsAreNoProof(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	code := b.label().Code
	anna := typing(t, b.seen(), code)
	first, err := b.StartBind(t.Context(), "Anna", anna.prover.Share())
	check(t, err)
	confirm, _, err := anna.prover.Finish(first.Share, first.Confirm)
	check(t, err)
	// The same share, replayed: another answer, to which the old confirmation is none.
	second, err := b.StartBind(t.Context(), "Anna", anna.prover.Share())
	check(t, err)
	if bytes.Equal(first.Share, second.Share) || first.Run == second.Run {
		t.Error("two runs are alike")
	}
	_, err = b.FinishBind(t.Context(), finish(second, confirm))
	wantKind(t, err, problem.Unauthenticated)
	// What was never begun, and what began before a restart.
	_, err = b.FinishBind(t.Context(), account.BindFinish{Run: "AAAAAAAAAAAAAAAAAAAAAAAAAA", Confirm: confirm, Password: good})
	wantKind(t, err, problem.NotFound)
	_, err = b.crash().FinishBind(t.Context(), finish(first, confirm))
	wantKind(t, err, problem.NotFound)
	b.pass(3 * time.Minute)
	_, err = b.FinishBind(t.Context(), finish(first, confirm))
	wantKind(t, err, problem.NotFound)
	if b.Bound(t.Context()) {
		t.Error("somebody has the box")
	}
}

// Whoever gets the box's confirmation can try one code and hang up: that is a try. R03
func TestHangingUpCounts(t *testing.T) {
	t.Parallel()
	b := open(t)
	began, code := 0, b.label().Code
	for i := range 20 {
		typist := typing(t, b.seen(), "00000000")
		o, err := b.StartBind(t.Context(), "Anna", typist.prover.Share())
		if err != nil {
			wantKind(t, err, problem.RateLimited)
			if wait := problem.As(err).RetryAfter; wait < 59*time.Minute {
				t.Errorf("try %d: wait %v", i, wait)
			}
			continue
		}
		began++
		if _, _, err := typist.prover.Finish(o.Share, o.Confirm); err == nil && code != "00000000" {
			t.Error("a wrong code is confirmed")
		}
		if began == 4 {
			b = b.crash() // what was begun is on the disk
		}
	}
	if began != 5 {
		t.Errorf("%d tries at once", began)
	}
	b = b.crash()
	_, err := b.StartBind(t.Context(), "Anna", typing(t, b.seen(), code).prover.Share())
	wantKind(t, err, problem.RateLimited)
	_, err = b.Bind(t.Context(), b.byCode()) // the page's way has the same lock
	wantKind(t, err, problem.RateLimited)
	_, err = b.Bind(t.Context(), b.bySecret())
	check(t, err)
}

// The fifth that may begin sets the lock and may still be finished. R03
func TestTheLastTryMayBeTheRightOne(t *testing.T) {
	t.Parallel()
	b := open(t)
	for range 4 {
		_, err := b.Bind(t.Context(), b.wrong())
		wantKind(t, err, problem.Unauthenticated)
	}
	anna := typing(t, b.seen(), b.label().Code)
	o, err := b.StartBind(t.Context(), "Anna", anna.prover.Share())
	check(t, err)
	confirm, _, err := anna.prover.Finish(o.Share, o.Confirm)
	check(t, err)
	_, err = b.FinishBind(t.Context(), finish(o, confirm))
	check(t, err)
}

func TestMalformedSharesAreNoTry(t *testing.T) { // R03
	t.Parallel()
	b := open(t)
	share := typing(t, b.seen(), "12345678").prover.Share()
	off := bytes.Clone(share)
	off[64] ^= 1
	for range 7 {
		for _, s := range [][]byte{nil, {0}, make([]byte, 65), off, share[:33], append(bytes.Clone(share), 0)} {
			_, err := b.StartBind(t.Context(), "Anna", s)
			wantKind(t, err, problem.Invalid)
		}
		_, err := b.StartBind(t.Context(), "../anna", share)
		wantKind(t, err, problem.Invalid)
	}
	_, err := b.Bind(t.Context(), b.byCode())
	check(t, err)
}

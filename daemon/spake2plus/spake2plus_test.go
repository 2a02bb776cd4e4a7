package spake2plus

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The one set of vectors that RFC 9383 has for this suite (appendix C). R03
func TestVectorsOfTheRFC(t *testing.T) {
	s := Session{Context: []byte("SPAKE2+-P256-SHA256-HKDF-SHA256-HMAC-SHA256 Test Vectors"), Prover: "client", Verifier: "server"}
	scalar := func(s string) [32]byte { return [32]byte(unhex(t, s)) }
	secret := Secret{
		w0: scalar("bb8e1bbcf3c48f62c08db243652ae55d3e5586053fca77102994f23ad95491b3"),
		w1: scalar("7e945f34d78785b8a3ef44d0df5a1a97d6b3b460409a345ca7830387a74b1dba"),
	}
	record, err := secret.Record()
	if err != nil {
		t.Fatal(err)
	}
	p, err := prove(s, secret, scalar("d1232c8e8693d02368976c174e2088851b8365d0d79a9eee709c6a05a2fad539"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify(s, record, p.Share(), scalar("717a72348a182085109c8d3917d6c43d59b224dc6a7fc4f0483232fa6516d8b3"))
	if err != nil {
		t.Fatal(err)
	}
	confirm, key, err := p.Finish(v.Share(), v.Confirm())
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Finish(confirm)
	if err != nil || !bytes.Equal(again, key) {
		t.Fatalf("%x %v", again, err)
	}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"L", record.l[:], "04eb7c9db3d9a9eb1f8adab81b5794c1f13ae3e225efbe91ea487425854c7fc00f00bfedcbd09b2400142d40a14f2064ef31dfaa903b91d1faea7093d835966efd"},
		{"shareP", p.Share(), "04ef3bd051bf78a2234ec0df197f7828060fe9856503579bb1733009042c15c0c1de127727f418b5966afadfdd95a6e4591d171056b333dab97a79c7193e341727"},
		{"shareV", v.Share(), "04c0f65da0d11927bdf5d560c69e1d7d939a05b0e88291887d679fcadea75810fb5cc1ca7494db39e82ff2f50665255d76173e09986ab46742c798a9a68437b048"},
		{"confirmP", confirm, "926cc713504b9b4d76c9162ded04b5493e89109f6d89462cd33adc46fda27527"},
		{"confirmV", v.Confirm(), "9747bcc4f8fe9f63defee53ac9b07876d907d55047e6ff2def2e7529089d3e68"},
		{"K_shared", key, "0c5f8ccd1413423a54f6c1fb26ff01534a87f893779c6e68666d772bfd91f3e7"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is %s, want %s", c.name, got, c.want)
		}
	}
}

func TestReduceIsThatOfBigNumbers(t *testing.T) {
	n := elliptic.P256().Params().N
	tries := [][]byte{bytes.Repeat([]byte{0xff}, 40), make([]byte, 40), n.Bytes(), new(big.Int).Sub(n, big.NewInt(1)).Bytes(), new(big.Int).Add(n, big.NewInt(1)).Bytes(), new(big.Int).Lsh(n, 64).Bytes()}
	for range 200 {
		b := make([]byte, 40)
		rand.Read(b)
		tries = append(tries, b)
	}
	for _, b := range tries {
		got := reduce(b)
		if want := new(big.Int).Mod(new(big.Int).SetBytes(b), n); new(big.Int).SetBytes(got[:]).Cmp(want) != 0 {
			t.Errorf("%x gives %x, want %x", b, got, want)
		}
	}
}

func binding() Binding {
	b := Binding{ID: "z7n6n2nrjzowrglj", Serial: "YB26-FAJ6-D5JQ", Username: "anna"}
	copy(b.Key[:], "the key of the box")
	return b
}

// derived is what Secret gives, of each serial number and code once: it is slow on purpose.
type derived map[[2]string]Secret

func (d derived) of(t *testing.T, b Binding, code string) Secret {
	t.Helper()
	key := [2]string{b.Serial, code}
	if _, ok := d[key]; !ok {
		secret, err := b.Secret(code)
		if err != nil {
			t.Fatal(err)
		}
		d[key] = secret
	}
	return d[key]
}

// run is a whole run; the two sides may have seen different things.
func run(t *testing.T, known derived, prover, verifier Binding, typed, printed string) error {
	t.Helper()
	record, err := known.of(t, verifier, printed).Record()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prove(prover.Session(), known.of(t, prover, typed))
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(verifier.Session(), record, p.Share())
	if err != nil {
		t.Fatal(err)
	}
	confirm, key, err := p.Finish(v.Share(), v.Confirm())
	if err != nil {
		// What the prover would have sent is not what the verifier waits for either.
		if _, err := v.Finish(make([]byte, ConfirmSize)); !errors.Is(err, ErrConfirm) {
			t.Errorf("the verifier took nothing for a proof: %v", err)
		}
		return err
	}
	other, err := v.Finish(confirm)
	if err == nil && !bytes.Equal(key, other) {
		t.Error("two keys")
	}
	if _, err := v.Finish(confirm); !errors.Is(err, ErrOver) {
		t.Errorf("a run twice: %v", err)
	}
	if _, _, err := p.Finish(v.Share(), v.Confirm()); !errors.Is(err, ErrOver) {
		t.Errorf("a run twice: %v", err)
	}
	return err
}

func TestBothSidesMustHaveSeenTheSame(t *testing.T) { // R03
	known := derived{}
	if err := run(t, known, binding(), binding(), "12345678", "12345678"); err != nil {
		t.Fatal(err)
	}
	if err := run(t, known, binding(), binding(), "12345679", "12345678"); !errors.Is(err, ErrConfirm) {
		t.Errorf("another code: %v", err)
	}
	for name, change := range map[string]func(*Binding){
		"key": func(b *Binding) { b.Key[31] ^= 1 }, "id": func(b *Binding) { b.ID = "a7n6n2nrjzowrglj" },
		"serial": func(b *Binding) { b.Serial = "YB26-FAJ6-D5JR" }, "name": func(b *Binding) { b.Username = "mallory" },
		"where one part ends": func(b *Binding) { b.Serial, b.Username = "YB26-FAJ6-D5J", "Qanna" },
	} {
		other := binding()
		change(&other)
		if err := run(t, known, other, binding(), "12345678", "12345678"); !errors.Is(err, ErrConfirm) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestSharesThatAreNone(t *testing.T) { // R03
	secret, err := binding().Secret("12345678")
	if err != nil {
		t.Fatal(err)
	}
	record, err := secret.Record()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prove(binding().Session(), secret)
	if err != nil {
		t.Fatal(err)
	}
	good := p.Share()
	off := bytes.Clone(good)
	off[64] ^= 1
	masked := pointM()
	if masked, err = masked.ScalarMult(masked, secret.w0[:]); err != nil {
		t.Fatal(err)
	}
	for name, share := range map[string][]byte{
		"empty": nil, "infinity": {0}, "many zeros": make([]byte, ShareSize), "compressed": append([]byte{2}, good[1:33]...), "short": good[:64],
		"long": append(bytes.Clone(good), 0), "off the curve": off, "over the field": append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...),
		"hybrid": append([]byte{6}, good[1:]...), "w0·M, which leaves nothing": masked.Bytes(),
	} {
		if _, err := Verify(binding().Session(), record, share); !errors.Is(err, ErrShare) {
			t.Errorf("%s: the verifier says %v", name, err)
		}
		p, err := Prove(binding().Session(), secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Finish(share, make([]byte, ConfirmSize)); err == nil {
			t.Errorf("%s: the prover took it", name)
		}
	}
	if err := CheckShare(good); err != nil {
		t.Error(err)
	}
}

func TestEveryPartOfTheMessagesCounts(t *testing.T) {
	secret, err := binding().Secret("12345678")
	if err != nil {
		t.Fatal(err)
	}
	record, err := secret.Record()
	if err != nil {
		t.Fatal(err)
	}
	for bit := 0; bit < 8*(ShareSize+2*ConfirmSize); bit += 11 { // each bit of a byte in turn
		p, err := Prove(binding().Session(), secret)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Verify(binding().Session(), record, p.Share())
		if err != nil {
			t.Fatal(err)
		}
		share, confirm := bytes.Clone(v.Share()), bytes.Clone(v.Confirm())
		flip := func(b []byte, from int) {
			if i := bit - from; i >= 0 && i < 8*len(b) {
				b[i/8] ^= 1 << (i % 8)
			}
		}
		flip(share, 0)
		flip(confirm, 8*ShareSize)
		answer, _, err := p.Finish(share, confirm)
		if bit < 8*(ShareSize+ConfirmSize) {
			if err == nil {
				t.Errorf("bit %d of the answer does not count", bit)
			}
			continue
		}
		flip(answer, 8*(ShareSize+ConfirmSize))
		if _, err := v.Finish(answer); !errors.Is(err, ErrConfirm) {
			t.Errorf("bit %d of the confirmation: %v", bit, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	secret, err := binding().Secret("12345678")
	if err != nil {
		f.Fatal(err)
	}
	record, err := secret.Record()
	if err != nil {
		f.Fatal(err)
	}
	p, err := Prove(binding().Session(), secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Share(), make([]byte, ConfirmSize))
	f.Add([]byte{0}, []byte{})
	f.Fuzz(func(t *testing.T, share, confirm []byte) {
		v, err := Verify(binding().Session(), record, share)
		if (err == nil) != (CheckShare(share) == nil) {
			t.Errorf("%x: %v, by its form %v", share, err, CheckShare(share))
		}
		if err != nil {
			return
		}
		if _, err := v.Finish(confirm); err == nil {
			t.Errorf("%x was taken for a proof", confirm)
		}
	})
}

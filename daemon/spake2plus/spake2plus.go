// Package spake2plus proves that two sides know the same short code without telling it:
// SPAKE2+ (RFC 9383), the suite P256-SHA256-HKDF-SHA256-HMAC-SHA256. Whoever listens learns
// nothing, and whoever takes part can try one code in each run. The prover is the side
// where the code is typed; the verifier keeps a Record, from which the code can be found
// by guessing only.
//
// Nothing depends on secret values in the time that it takes.
package spake2plus

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"

	"filippo.io/nistec"
)

// ShareSize is the length of a share in bytes: an uncompressed point (SEC 1 §2.3.3).
const ShareSize = 65

// ConfirmSize is the length of a confirmation in bytes.
const ConfirmSize = sha256.Size

var (
	// ErrShare is returned for a share that is no point of the curve, or the one at infinity.
	ErrShare = errors.New("spake2plus: that is no share")
	// ErrConfirm is returned where the other side does not know the same: another code,
	// or another context.
	ErrConfirm = errors.New("spake2plus: the other side does not know the same")
	// ErrOver is returned by a second use of a run, which is good for one.
	ErrOver = errors.New("spake2plus: this run is over")
)

// A Session is what both sides know beforehand and must agree on. It is public.
type Session struct {
	Context  []byte
	Prover   string // identity of the prover
	Verifier string // identity of the verifier
}

// A Secret is what the prover derives from the code.
type Secret struct{ w0, w1 [32]byte }

// A Record is what the verifier keeps in place of the code.
type Record struct {
	w0 [32]byte
	l  [ShareSize]byte
}

// Derive makes the prover's secret by PBKDF2-HMAC-SHA-256 (RFC 9383 §3.2): 80 bytes, of
// which each half gives one scalar, so that they are as good as evenly spread.
func Derive(code []byte, s Session, salt []byte, iterations int) (Secret, error) {
	var in []byte
	for _, part := range [][]byte{code, []byte(s.Prover), []byte(s.Verifier)} {
		in = appendPart(in, part)
	}
	out, err := pbkdf2.Key(sha256.New, string(in), salt, iterations, 80)
	if err != nil {
		return Secret{}, err
	}
	return Secret{w0: reduce(out[:40]), w1: reduce(out[40:])}, nil
}

// Record returns what the verifier keeps.
func (s Secret) Record() (Record, error) {
	p, err := nistec.NewP256Point().ScalarBaseMult(s.w1[:])
	if err != nil {
		return Record{}, err
	}
	if p.IsInfinity() == 1 {
		return Record{}, ErrShare
	}
	return Record{w0: s.w0, l: [ShareSize]byte(p.Bytes())}, nil
}

// The points M and N of the suite (RFC 9383 §4), of which nobody knows the logarithm.
func pointM() *nistec.P256Point {
	return mustPoint(0x02, "\x88\x6e\x2f\x97\xac\xe4\x6e\x55\xba\x9d\xd7\x24\x25\x79\xf2\x99\x3b\x64\xe1\x6e\xf3\xdc\xab\x95\xaf\xd4\x97\x33\x3d\x8f\xa1\x2f")
}

func pointN() *nistec.P256Point {
	return mustPoint(0x03, "\xd8\xbb\xd6\xc6\x39\xc6\x29\x37\xb0\x4d\x99\x7f\x38\xc3\x77\x07\x19\xc6\x29\xd7\x01\x4d\x49\xa2\x4b\x4f\x98\xba\xa1\x29\x2b\x49")
}

func mustPoint(sign byte, x string) *nistec.P256Point {
	p, err := nistec.NewP256Point().SetBytes(append([]byte{sign}, x...))
	if err != nil {
		panic(err) // never happens: it is a constant
	}
	return p
}

// A Prover is one run of the side that was given the code. It is for one goroutine.
type Prover struct {
	session Session
	secret  Secret
	x       [32]byte
	share   []byte
	over    bool
}

// Prove begins a run. Send its Share to the verifier.
func Prove(s Session, secret Secret) (*Prover, error) { return prove(s, secret, randomScalar()) }

func prove(s Session, secret Secret, x [32]byte) (*Prover, error) {
	share, err := blind(x, secret.w0, pointM())
	if err != nil {
		return nil, err
	}
	return &Prover{session: s, secret: secret, x: x, share: share}, nil
}

// Share returns what the prover sends first, ShareSize bytes.
func (p *Prover) Share() []byte { return p.share }

// Finish checks the verifier's answer and returns the confirmation to send to it and
// the shared key. With ErrConfirm nothing may be sent any more: the other side does not
// know the code, or is somebody else.
func (p *Prover) Finish(share, confirm []byte) (answer, key []byte, err error) {
	if p.over {
		return nil, nil, ErrOver
	}
	p.over = true
	y, err := unblind(share, p.secret.w0, pointN())
	if err != nil {
		return nil, nil, err
	}
	z, err := multiply(y, p.x)
	if err != nil {
		return nil, nil, err
	}
	v, err := multiply(y, p.secret.w1)
	if err != nil {
		return nil, nil, err
	}
	k, err := schedule(p.session, p.share, share, z, v, p.secret.w0)
	if err != nil {
		return nil, nil, err
	}
	if !hmac.Equal(k.confirm(k.verifier, p.share), confirm) {
		return nil, nil, ErrConfirm
	}
	return k.confirm(k.prover, share), k.shared, nil
}

// A Verifier is one run of the side that keeps the record, after it has seen the
// prover's share. It is for one goroutine.
type Verifier struct {
	share, confirm, want, key []byte
	over                      bool
}

// Verify answers a prover's share. Send Share and Confirm to the prover: with them it
// can try one code, so the run must have been counted before. A share that is none is
// refused with ErrShare.
func Verify(s Session, r Record, share []byte) (*Verifier, error) {
	return verify(s, r, share, randomScalar())
}

func verify(s Session, r Record, share []byte, y [32]byte) (*Verifier, error) {
	x, err := unblind(share, r.w0, pointM())
	if err != nil {
		return nil, err
	}
	z, err := multiply(x, y)
	if err != nil {
		return nil, err
	}
	l, err := nistec.NewP256Point().SetBytes(r.l[:])
	if err != nil {
		return nil, err
	}
	v, err := multiply(l, y)
	if err != nil {
		return nil, err
	}
	own, err := blind(y, r.w0, pointN())
	if err != nil {
		return nil, err
	}
	k, err := schedule(s, share, own, z, v, r.w0)
	if err != nil {
		return nil, err
	}
	return &Verifier{share: own, confirm: k.confirm(k.verifier, share), want: k.confirm(k.prover, own), key: k.shared}, nil
}

// CheckShare returns ErrShare for what Verify would refuse by its form.
func CheckShare(share []byte) error {
	_, err := parseShare(share)
	return err
}

// Share returns what the verifier sends, ShareSize bytes.
func (v *Verifier) Share() []byte { return v.share }

// Confirm returns what the verifier sends with it, ConfirmSize bytes.
func (v *Verifier) Confirm() []byte { return v.confirm }

// Finish returns the shared key if the prover's confirmation says that it knows the
// code, and ErrConfirm if not.
func (v *Verifier) Finish(confirm []byte) (key []byte, err error) {
	if v.over {
		return nil, ErrOver
	}
	v.over = true
	if !hmac.Equal(v.want, confirm) {
		return nil, ErrConfirm
	}
	return v.key, nil
}

// blind returns scalar·P + w0·mask.
func blind(scalar, w0 [32]byte, mask *nistec.P256Point) ([]byte, error) {
	own, err := nistec.NewP256Point().ScalarBaseMult(scalar[:])
	if err != nil {
		return nil, err
	}
	hidden, err := nistec.NewP256Point().ScalarMult(mask, w0[:])
	if err != nil {
		return nil, err
	}
	own.Add(own, hidden)
	if own.IsInfinity() == 1 { // one in 2²⁵⁶
		return nil, ErrShare
	}
	return own.Bytes(), nil
}

// unblind returns share − w0·mask.
func unblind(share []byte, w0 [32]byte, mask *nistec.P256Point) (*nistec.P256Point, error) {
	p, err := parseShare(share)
	if err != nil {
		return nil, err
	}
	hidden, err := nistec.NewP256Point().ScalarMult(mask, w0[:])
	if err != nil {
		return nil, err
	}
	return p.Add(p, hidden.Negate(hidden)), nil
}

// parseShare takes nothing but an uncompressed point of the curve, whose group is of
// prime order: every point but infinity will do (RFC 9383 §6).
func parseShare(share []byte) (*nistec.P256Point, error) {
	if len(share) != ShareSize || share[0] != 4 {
		return nil, ErrShare
	}
	p, err := nistec.NewP256Point().SetBytes(share)
	if err != nil || p.IsInfinity() == 1 {
		return nil, ErrShare
	}
	return p, nil
}

// multiply refuses the point at infinity (RFC 9383 §3.3): the other side chose its share
// so that the result is known to it.
func multiply(p *nistec.P256Point, scalar [32]byte) ([]byte, error) {
	q, err := nistec.NewP256Point().ScalarMult(p, scalar[:])
	if err != nil {
		return nil, err
	}
	if q.IsInfinity() == 1 {
		return nil, ErrShare
	}
	return q.Bytes(), nil
}

// keys are those of one run (RFC 9383 §3.4).
type keys struct{ main, prover, verifier, shared []byte }

func schedule(s Session, shareP, shareV, z, v []byte, w0 [32]byte) (k keys, err error) {
	var tt []byte
	for _, part := range [][]byte{s.Context, []byte(s.Prover), []byte(s.Verifier), pointM().Bytes(), pointN().Bytes(), shareP, shareV, z, v, w0[:]} {
		tt = appendPart(tt, part)
	}
	main := sha256.Sum256(tt)
	k.main = main[:]
	both, err := hkdf.Key(sha256.New, k.main, nil, "ConfirmationKeys", 2*sha256.Size)
	if err != nil {
		return keys{}, err
	}
	k.prover, k.verifier = both[:sha256.Size], both[sha256.Size:]
	k.shared, err = hkdf.Key(sha256.New, k.main, nil, "SharedKey", sha256.Size)
	return k, err
}

func (keys) confirm(key, share []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(share)
	return m.Sum(nil)
}

// appendPart appends the length of part in eight bytes, little-endian, and part.
func appendPart(b, part []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(part))), part...)
}

// order is that of the curve's group, the least significant word first.
func order() [4]uint64 {
	return [4]uint64{0xf3b9cac2fc632551, 0xbce6faada7179e84, 0xffffffffffffffff, 0xffffffff00000000}
}

// reduce returns the number b, big-endian, modulo the order, bit by bit: slow, and the
// same for every number of its length.
func reduce(b []byte) (out [32]byte) {
	var r [4]uint64
	n := order()
	for _, c := range b {
		for i := 7; i >= 0; i-- {
			carry := uint64(c>>i) & 1
			for j := range r {
				r[j], carry = r[j]<<1|carry, r[j]>>63
			}
			var d [4]uint64
			var borrow uint64
			for j := range r {
				d[j], borrow = bits.Sub64(r[j], n[j], borrow)
			}
			// Twice what is below the order is below 2²⁵⁷, so one subtraction is enough.
			take := -(carry | (1 - borrow))
			for j := range r {
				r[j] = d[j]&take | r[j]&^take
			}
		}
	}
	for j := range r {
		binary.BigEndian.PutUint64(out[24-8*j:], r[j])
	}
	return out
}

// randomScalar returns one of 1 to the order − 1.
func randomScalar() [32]byte {
	for {
		var b [48]byte // 128 bits more than the order: as good as evenly spread
		rand.Read(b[:])
		if s := reduce(b[:]); subtle.ConstantTimeCompare(s[:], make([]byte, 32)) == 0 {
			return s
		}
	}
}

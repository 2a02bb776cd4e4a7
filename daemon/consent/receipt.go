package consent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/signed"
)

// receiptSchema names the form of receipts. Fields may be added to it; a change
// of what a field means gets a new name.
const receiptSchema = "yunbox-receipt/1"

// A Receipt is what a person keeps of a decision. Its fields follow the record
// of ISO/IEC TS 27560:2023 as far as they apply to a box at home.
//
// JWS is the receipt as it was signed: a JSON Web Signature in compact form
// (RFC 7515 §7.1) with the algorithm ES256 (RFC 7518 §3.4) by the box's own key.
// The signed payload is the JSON of all other fields, and the protected header is
// exactly
//
//	{"alg":"ES256","typ":"yunbox-receipt+jws","kid":"<fingerprint of the box's key>"}
//
// so nothing needs to be brought into a canonical form to check it. The other
// fields of the JSON that people see are a readable copy of the payload.
type Receipt struct {
	Schema string `json:"schema_version"`
	// Record is the hash of the decision's entry in the box's ledger. The entry's
	// hash covers all entries before it, so a kept receipt also proves that the
	// ledger was not rewritten up to there.
	Record string `json:"record_id"`
	// Earlier covers every receipt that the box gave before: 64 hex digits, 64 zeros in
	// the first receipt, else the SHA-256 of the 32 bytes of Earlier in the receipt before
	// and the JWS of that. Together with Record the newest signature vouches for
	// the whole ledger. Receipts of the first versions of the box have none.
	Earlier    string         `json:"earlier_receipts,omitempty"`
	Principal  ident.UserID   `json:"pii_principal_id"`
	Controller Controller     `json:"pii_controller"`
	Notice     Notice         `json:"privacy_notice"`
	Purpose    ReceiptPurpose `json:"purpose"`
	// Device is the device that the decision is limited to; zero: all devices.
	Device     ident.DeviceID `json:"device,omitzero"`
	Event      Event          `json:"event"`
	Withdrawal Withdrawal     `json:"withdrawal"`
	JWS        string         `json:"jws,omitempty"`
}

// Controller is the box that keeps the data. Who runs it, the policy says.
type Controller struct {
	ID  string `json:"id"`  // the box's id, as in its announcement: 16 characters
	Key string `json:"key"` // fingerprint of its key: base64url of the SHA-256 of the public key (SPKI)
	// SPKI is the key itself, base64, so that who has the fingerprint can check the signature.
	// Receipts of the first versions of the box have none.
	SPKI string `json:"spki,omitempty"`
}

// Notice is the privacy policy that was current.
type Notice struct {
	Revision string            `json:"revision"`
	Modified string            `json:"modified"` // YYYY-MM-DD
	SHA256   map[string]string `json:"sha256"`   // of the text, by language
}

// ReceiptPurpose is the purpose as it was explained, by language.
type ReceiptPurpose struct {
	ID         Purpose             `json:"id"`
	Version    int                 `json:"version"`
	Basis      string              `json:"lawful_basis"` // "consent"
	Sensitive  bool                `json:"sensitive"`
	Title      map[string]string   `json:"title"`
	What       map[string]string   `json:"what"`
	Data       map[string][]string `json:"pii_categories"`
	Retention  map[string]string   `json:"retention"`
	Processor  map[string]string   `json:"processor"`
	Recipients []string            `json:"recipients"` // whom data is passed on to: nobody
}

// Event is the decision itself.
type Event struct {
	State State     `json:"state"` // Granted, Withdrawn or, of the policy as a whole, Refused
	Time  time.Time `json:"time"`  // UTC, whole milliseconds
	// ClockUnsure: the box knew that its clock may well be wrong.
	ClockUnsure bool         `json:"clock_unsure,omitempty"`
	Actor       ident.UserID `json:"entity_id"`
	How         string       `json:"method"`
}

// Withdrawal says how to withdraw, and in a withdrawal, what it withdrew.
type Withdrawal struct {
	Page string `json:"page"`
	API  string `json:"api"`
	// Withdraws is the Record of the consent that this decision ended.
	Withdraws string `json:"withdraws,omitempty"`
}

func (l *Ledger) receipt(d Decision, info *Info, policy *Policy, now decision, hash audit.Hash, last previous) Receipt {
	r := Receipt{
		Schema: receiptSchema, Record: hash.String(), Principal: d.User, Device: d.Device,
		Controller: l.Controller(),
		Notice:     Notice{Revision: policy.Revision, Modified: policy.Modified.Format(time.DateOnly), SHA256: map[string]string{}},
		Purpose: ReceiptPurpose{
			ID: info.ID, Version: info.Version, Basis: "consent", Sensitive: info.Sensitive,
			Title: map[string]string{}, What: map[string]string{}, Data: map[string][]string{},
			Retention: map[string]string{}, Processor: map[string]string{}, Recipients: []string{},
		},
		Event:      Event{State: Withdrawn, Time: now.time, ClockUnsure: now.unsure, Actor: d.Actor, How: d.How},
		Withdrawal: Withdrawal{Page: consentPage, API: "DELETE /v1/consents/" + string(info.ID)},
	}
	switch {
	case d.Granted:
		r.Event.State = Granted
	case d.Purpose == WholePolicy:
		r.Event.State, r.Withdrawal.API = Refused, "PUT /v1/policy"
	case last.granted:
		r.Withdrawal.Withdraws = hex.EncodeToString(last.hash)
	}
	for lang, t := range info.Text {
		r.Notice.SHA256[lang] = policy.Digest(lang)
		r.Purpose.Title[lang], r.Purpose.What[lang], r.Purpose.Data[lang] = t.Title, t.What, t.Data
		r.Purpose.Retention[lang], r.Purpose.Processor[lang] = t.Retention, t.Processor
	}
	return r
}

// signer signs receipts with the box's key.
type signer struct {
	key crypto.Signer
	pub crypto.PublicKey // *ecdsa.PublicKey
	kid string           // fingerprint of the key
	box string           // id of the box, which is made from its key
	der string           // the public key, SPKI in base64
}

func newSigner(key crypto.Signer) (*signer, error) {
	if key == nil {
		return nil, signed.ErrKey
	}
	kid, box, err := identify(key.Public())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("consent: %w", err)
	}
	return &signer{key: key, pub: key.Public(), kid: kid, box: box, der: base64.StdEncoding.EncodeToString(der)}, nil
}

var boxID = base32.StdEncoding.WithPadding(base32.NoPadding)

// identify returns the fingerprint of a box's key and the id that follows from it.
func identify(key crypto.PublicKey) (kid, box string, err error) {
	sum, err := signed.Fingerprint(key)
	if err != nil {
		return "", "", fmt.Errorf("consent: receipts: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum[:]), strings.ToLower(boxID.EncodeToString(sum[:10])), nil
}

// receiptType is typ in the header of a Receipt.
const receiptType = "yunbox-receipt+jws"

func (s *signer) jws(r Receipt) (string, error) {
	r.JWS = ""
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("consent: receipt: %w", err)
	}
	return s.signed(receiptType, payload)
}

// Sign signs something else that the box vouches for to a person, in the form of
// Receipt.JWS with another typ, which names what it is, so that no signature can be
// taken for one of another kind.
func (l *Ledger) Sign(typ string, payload []byte) (jws string, err error) {
	if typ == receiptType {
		return "", errors.New("consent: a receipt is made by a decision only")
	}
	return l.sign.signed(typ, payload)
}

func (s *signer) signed(typ string, payload []byte) (string, error) {
	jws, err := signed.Sign(s.key, typ, payload)
	if err != nil {
		return "", fmt.Errorf("consent: receipt: %w", err)
	}
	return jws, nil
}

// ErrReceipt is returned for what is not a receipt of that key's box, or was
// changed since.
var ErrReceipt = errors.New("consent: not a genuine receipt of this box")

// maxReceipt bounds what VerifyReceipt looks at, in bytes.
const maxReceipt = 64 << 10

// VerifyReceipt checks a receipt against the public key (*ecdsa.PublicKey on
// P-256) of the box that gave it, and returns what was signed. data is the JSON
// of a Receipt, or its JWS alone. In the JSON every field must say what was
// signed. Every failure is an ErrReceipt.
func VerifyReceipt(key crypto.PublicKey, data []byte) (Receipt, error) {
	if len(data) > maxReceipt {
		return Receipt{}, fmt.Errorf("%w: too long", ErrReceipt)
	}
	data = bytes.TrimSpace(data)
	if !bytes.HasPrefix(data, []byte("{")) {
		payload, err := verify(key, string(data))
		if err != nil {
			return Receipt{}, err
		}
		return parseReceipt(payload, string(data))
	}
	said, jws, err := signed.Split(data)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	payload, err := verify(key, jws)
	if err != nil {
		return Receipt{}, err
	}
	was, err := signed.Object(payload)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if !signed.Says(said, was) {
		return Receipt{}, fmt.Errorf("%w: it does not say what was signed", ErrReceipt)
	}
	return parseReceipt(payload, jws)
}

func verify(key crypto.PublicKey, jws string) ([]byte, error) {
	payload, err := signed.Verify(key, receiptType, jws)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return payload, nil
}

func parseReceipt(payload []byte, jws string) (Receipt, error) {
	var r Receipt
	if err := json.Unmarshal(payload, &r); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if r.Schema != receiptSchema {
		return Receipt{}, fmt.Errorf("%w: it has the form %q, which this version cannot read", ErrReceipt, r.Schema)
	}
	r.JWS = jws
	return r, nil
}

// stored returns the receipt of an entry as it was given.
func (l *Ledger) stored(tx *db.Tx, seq int64) (Receipt, error) {
	var jws string
	if err := tx.QueryRow("SELECT jws FROM consent_receipt WHERE seq = ?", seq).Scan(&jws); err != nil {
		return Receipt{}, fmt.Errorf("consent: receipt: %w", err)
	}
	return decode(jws)
}

// decode reads a receipt of our own without checking it; Verify does that.
func decode(jws string) (Receipt, error) {
	payload, err := signed.Payload(jws)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return parseReceipt(payload, jws)
}

// Receipts returns the receipts of u's decisions about purpose ("": about every
// purpose), newest first: limit of those before a decision (0: the newest). next is
// where the following page begins; 0: there is none.
func (l *Ledger) Receipts(ctx context.Context, u ident.UserID, purpose Purpose, before int64, limit int) (list []Receipt, next int64, err error) {
	if purpose != "" {
		if _, err := l.cat.info(purpose); err != nil {
			return nil, 0, err
		}
	}
	err = l.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT l.seq, r.jws FROM consent_ledger AS l JOIN consent_receipt AS r USING (seq)
			WHERE l.user = ?1 AND (?2 = '' OR l.purpose = ?2) AND (?4 = 0 OR l.seq < ?4) ORDER BY l.seq DESC LIMIT ?3`, u, purpose, limit+1, before)
		if err != nil {
			return err
		}
		defer rows.Close()
		var seq int64
		for rows.Next() {
			if len(list) == limit { // there is one more
				next = seq
				break
			}
			var jws string
			if err := rows.Scan(&seq, &jws); err != nil {
				return err
			}
			r, err := decode(jws)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, 0, fmt.Errorf("consent: receipts: %w", err)
	}
	return list, next, nil
}

// ReceiptBad is the reason in a Report for a decision whose receipt is missing,
// is not signed by the box's present key, or says something else.
const ReceiptBad audit.Reason = "receipt"

// Verify reads the whole ledger and says whether every entry and its receipt
// hold, and if not, which is the first bad one; kept are marks that it must go
// through. While the newest receipt vouches for all before it (see Receipt.Earlier), only
// the newest thousand are looked at one by one, so that a long ledger is verified in a
// moment; else each is. An error means that it could not be read.
func (l *Ledger) Verify(ctx context.Context, kept ...audit.Mark) (audit.Report, error) {
	var report audit.Report
	err := l.db.Read(ctx, func(tx *db.Tx) (err error) {
		if report, err = l.chain.Verify(ctx, tx, kept...); err != nil || report.Bad != nil {
			return err
		}
		ok, err := l.vouched(ctx, tx, report.Entries, report.Head)
		if err != nil {
			return err
		}
		after := int64(0)
		if ok {
			after = max(0, report.Entries-recent)
		}
		var good audit.Hash
		bad, err := l.firstBadReceipt(ctx, tx, after, &good)
		if bad == 0 && err == nil && !ok {
			bad, err = l.firstUncovered(ctx, tx, &good)
		}
		if bad != 0 {
			report = audit.Report{Entries: bad - 1, Head: good.String(), Bad: &audit.Bad{Seq: bad, Reason: ReceiptBad}}
		}
		return err
	})
	if err != nil {
		return audit.Report{}, fmt.Errorf("consent: verify: %w", err)
	}
	return report, nil
}

// Marks returns the mark of the last decision, and of decision at as it is now: nil
// if there is none.
func (l *Ledger) Marks(ctx context.Context, at int64) (last audit.Mark, then *audit.Mark, err error) {
	err = l.db.Read(ctx, func(tx *db.Tx) (err error) {
		last, then, err = l.chain.Marks(ctx, tx, at)
		return err
	})
	return last, then, err
}

// firstUncovered returns the first receipt that does not vouch for the ones before it,
// though it says so; 0 if there is none. good becomes the hash of the last entry before it.
func (l *Ledger) firstUncovered(ctx context.Context, tx *db.Tx, good *audit.Hash) (int64, error) {
	rows, err := tx.QueryContext(ctx, "SELECT l.seq, l.hash, r.jws FROM consent_ledger AS l JOIN consent_receipt AS r USING (seq) ORDER BY l.seq")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var all audit.Hash
	for rows.Next() {
		var seq int64
		var hash, jws sql.RawBytes
		if err := rows.Scan(&seq, &hash, &jws); err != nil {
			return 0, err
		}
		r, err := decode(string(jws))
		if err != nil || r.Earlier != "" && r.Earlier != all.String() {
			return seq, nil
		}
		all = cover(all, jws)
		copy(good[:], hash)
	}
	return 0, rows.Err()
}

// cover takes a receipt into what Receipt.Earlier of the next one says.
func cover(earlier audit.Hash, jws []byte) audit.Hash {
	h := sha256.New()
	h.Write(earlier[:])
	h.Write(jws)
	return audit.Hash(h.Sum(nil))
}

// earlier returns Receipt.Earlier for the receipt of the decision seq.
func (l *Ledger) earlier(tx *db.Tx, seq int64) (string, error) {
	if seq == 1 {
		return audit.Hash{}.String(), nil
	}
	last, err := l.stored(tx, seq-1)
	if err != nil {
		return "", err
	}
	if before, err := hex.DecodeString(last.Earlier); err == nil && len(before) == sha256.Size {
		return cover(audit.Hash(before), []byte(last.JWS)).String(), nil
	}
	covered, _, n, err := covered(context.Background(), tx) // once, after an update of the box
	if err == nil && n != seq-1 {
		err = fmt.Errorf("consent: there are %d receipts of %d decisions", n, seq-1)
	}
	return covered.String(), err
}

// covered reads all receipts: it returns what covers them, that without the last one,
// and how many follow each other from 1 on. last is the last one.
func covered(ctx context.Context, tx *db.Tx) (all audit.Hash, last []byte, n int64, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT seq, jws FROM consent_receipt ORDER BY seq")
	if err != nil {
		return all, nil, 0, err
	}
	defer rows.Close()
	var jws sql.RawBytes
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq, &jws); err != nil {
			return all, nil, 0, err
		}
		if seq != n+1 {
			break
		}
		n, last = seq, append(last[:0], jws...)
		all = cover(all, jws)
	}
	return all, last, n, rows.Err()
}

// vouched says whether the newest receipt, which belongs to the decision with that
// number and hash, is genuine and vouches for all receipts before it. It reads each of
// them and checks one signature.
func (l *Ledger) vouched(ctx context.Context, tx *db.Tx, seq int64, head string) (bool, error) {
	if seq == 0 {
		return false, nil
	}
	all, last, n, err := covered(ctx, tx)
	if err != nil || n != seq {
		return false, err
	}
	r, err := VerifyReceipt(l.sign.pub, last)
	if err != nil || r.Record != head {
		return false, nil
	}
	before, err := hex.DecodeString(r.Earlier)
	return err == nil && len(before) == sha256.Size && cover(audit.Hash(before), last) == all, nil
}

// recent is how many of the newest receipts Verify looks at in any case.
const recent = 1000

// firstBadReceipt returns 0 if all receipts of the decisions after one hold; good
// becomes the hash of the last entry whose receipt does.
func (l *Ledger) firstBadReceipt(ctx context.Context, tx *db.Tx, after int64, good *audit.Hash) (int64, error) {
	rows, err := tx.QueryContext(ctx, `SELECT l.seq, l.hash, l.time, l.user, l.device, l.purpose, l.granted, l.actor, coalesce(r.jws, '')
		FROM consent_ledger AS l LEFT JOIN consent_receipt AS r USING (seq) WHERE l.seq >= ? ORDER BY l.seq`, after)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, ms int64
		var hash []byte
		var user, actor ident.UserID
		var device ident.DeviceID
		var purpose Purpose
		var granted bool
		var jws string
		if err := rows.Scan(&seq, &hash, &ms, &user, &device, &purpose, &granted, &actor, &jws); err != nil {
			return 0, err
		}
		if seq == after {
			copy(good[:], hash)
			continue
		}
		r, err := VerifyReceipt(l.sign.pub, []byte(jws))
		if err != nil || r.Record != hex.EncodeToString(hash) || r.Principal != user || r.Device != device || r.Purpose.ID != purpose ||
			(r.Event.State == Granted) != granted || r.Event.Actor != actor || r.Event.Time.UnixMilli() != ms {
			return seq, nil
		}
		copy(good[:], hash)
	}
	return 0, rows.Err()
}

// Package consent keeps what people agreed to, and lets nothing run without it.
//
// A Purpose is one reason for which the box may process a person's data. What
// each purpose means is data (purposes/*.toml, policy/), in English and Chinese.
// A person's decisions are kept in a ledger that is only appended to and whose
// entries are linked by hashes; each decision gives a signed Receipt that the
// person can keep. What is in force is derived from the ledger and from nothing
// else: without a decision there is no consent.
//
// Work that touches personal data carries a Grant. Only a Ledger makes one, its
// Context ends when the consent is withdrawn, and Check asks the database again
// inside the transaction that writes.
//
// # What is in force
//
// For one person, purpose and device, the latest decision that applies counts:
// one made for that device or one made for all devices, whichever is later. It
// is in force if it grants, if the purpose has not been widened since (its
// version is the same), and if the person accepted the current policy: either
// this decision was made under the current revision, or the person's latest
// decision on Storage grants under the current revision. Otherwise the consent
// is suspended until it is given again.
package consent

import (
	"context"
	"crypto"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Purpose is a reason for which the box processes personal data.
type Purpose string

// The purposes. What they mean stands in purposes/*.toml.
const (
	// Storage is the core service; granting it is accepting the privacy policy.
	Storage             Purpose = "storage"
	AlbumBackup         Purpose = "album_backup"
	WeChatBackup        Purpose = "wechat_backup"
	QQBackup            Purpose = "qq_backup"
	CameraTransfer      Purpose = "camera_transfer"
	DeviceInfo          Purpose = "device_info"
	ProfileDetails      Purpose = "profile_details"
	AlbumClassification Purpose = "album_classification"
	MapAlbum            Purpose = "map_album"
	FaceRecognition     Purpose = "face_recognition"
	SharedAlbum         Purpose = "shared_album"
	FileDedup           Purpose = "file_dedup"
	ThirdPartyLogin     Purpose = "third_party_login"
	UsageLogs           Purpose = "usage_logs"
	UpdateCheck         Purpose = "update_check"
	Statistics          Purpose = "statistics"
)

// order is the order in which purposes are shown, and the complete list.
func order() []Purpose {
	return []Purpose{
		Storage, AlbumBackup, WeChatBackup, QQBackup, CameraTransfer, DeviceInfo, ProfileDetails,
		AlbumClassification, MapAlbum, FaceRecognition, SharedAlbum, FileDedup, ThirdPartyLogin,
		UsageLogs, UpdateCheck, Statistics,
	}
}

// Decision is what a person decided about one purpose.
type Decision struct {
	// User is whose data it is about.
	User ident.UserID
	// Device limits the decision to one device, which the caller knows to be the
	// person's own; zero is all devices. Only purposes that are PerDevice allow it.
	Device  ident.DeviceID
	Purpose Purpose
	// Granted is yes; false is no, or no longer.
	Granted bool
	// PolicyRevision is the revision that the person was shown. To grant, it must
	// be the current one. It is not looked at to withdraw: that needs no reading.
	PolicyRevision string
	// Actor is who decided: the person themself, or for a child one of its guardians.
	Actor ident.UserID
	// How names the way: "page", "app", "yunboxctl", …; 1 to 64 bytes of a-z, 0-9,
	// dot, dash and underscore.
	How string
	// After is what Consent.Newest was when the person decided. If another decision about the
	// purpose came in between, or the policy was declined, this one came too late and is
	// refused: it may be an old request that was sent again. nil: whatever was decided before.
	After *string
}

// State is what became of a person's decision.
type State string

// The states of a consent.
const (
	Never     State = "never"     // no decision was made
	Granted   State = "granted"   // in force
	Withdrawn State = "withdrawn" // the person said no, or no longer
	// Suspended: the person once said yes, but to an earlier policy or to less than
	// the purpose is now. Nothing is processed until they say yes again.
	Suspended State = "suspended"
)

// Refused is what a decision about WholePolicy says: the policy was declined.
const Refused State = "declined"

// Consent is the state of one purpose for one person.
type Consent struct {
	Purpose Purpose
	// Device is the device that this state is about; zero: all devices without a
	// state of their own.
	Device ident.DeviceID
	State  State
	// PolicyRevision, PurposeVersion and Time are those of the decision that
	// counts; zero values if there is none.
	PolicyRevision string
	PurposeVersion int
	Time           time.Time // UTC, whole milliseconds
	// Newest is the ID of the newest receipt about the purpose, for whichever device, or of
	// a decline of the whole policy if that is newer; "" if there is none. A decision that
	// is made on seeing this comes After it.
	Newest string
}

// Ledger is the box's record of decisions, and the only maker of Grants. It is
// safe for concurrent use.
type Ledger struct {
	db    *db.DB
	log   *audit.Log
	chain *audit.Chain
	cat   *Catalogue
	sign  *signer

	guards guards // of people under 14
	// refused is called within the transaction of each decision that says no; nil: nobody
	// is interested.
	refused func(*db.Tx, Decision) error

	mu      sync.Mutex
	people  map[ident.UserID]*person // what is in force, as of the last commit
	decided chan struct{}            // closed by the next decision; nil: nobody waits for it
}

// A slot is what a decision is about.
type slot struct {
	purpose Purpose
	device  ident.DeviceID
}

// A person is what the ledger holds in memory of one: their latest decisions,
// and the leases of the Grants that rest on them.
type person struct {
	latest map[slot]decision
	leases map[slot]*lease
	// accepted is the number of their last yes under the current policy, zero for none;
	// answered: they said yes to something, or declined, under whatever policy.
	accepted int64
	answered bool
}

// decision is a row of the ledger, without what it is about.
type decision struct {
	seq      int64 // zero: none was made
	granted  bool
	actor    ident.UserID // who decided
	version  int
	revision string
	time     time.Time
	unsure   bool // see db.Tx; not kept
}

// Open reads what is in force from d. key is the box's P-256 key, which signs
// receipts; log receives an entry for every decision.
func Open(ctx context.Context, d *db.DB, log *audit.Log, key crypto.Signer) (*Ledger, error) {
	return open(ctx, d, log, key, builtin())
}

// OpenWith is Open with another catalogue than the built-in one: a box of the future,
// for tests. nil is the built-in one.
func OpenWith(ctx context.Context, d *db.DB, log *audit.Log, key crypto.Signer, cat *Catalogue) (*Ledger, error) {
	if cat == nil {
		cat = builtin()
	}
	return open(ctx, d, log, key, cat)
}

func open(ctx context.Context, d *db.DB, log *audit.Log, key crypto.Signer, cat *Catalogue) (*Ledger, error) {
	sign, err := newSigner(key)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		db: d, log: log, cat: cat, sign: sign,
		chain: audit.NewChain("consent_ledger",
			"time", "user", "device", "purpose", "purpose_version", "granted", "policy_revision", "actor", "how"),
		people: map[ident.UserID]*person{},
	}
	err = d.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT user, purpose, device, max(seq), granted, actor, purpose_version, policy_revision, time
			FROM consent_ledger GROUP BY user, purpose, device`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var u ident.UserID
			var s slot
			var d decision
			var ms int64
			if err := rows.Scan(&u, &s.purpose, &s.device, &d.seq, &d.granted, &d.actor, &d.version, &d.revision, &ms); err != nil {
				return err
			}
			d.time = time.UnixMilli(ms).UTC()
			l.person(u).latest[s] = d
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if err := l.readStandings(ctx, tx); err != nil {
			return err
		}
		return l.guards.load(tx)
	})
	if err != nil {
		return nil, fmt.Errorf("consent: open: %w", err)
	}
	return l, nil
}

// person returns what is held of u, making it if needed. l.mu is held, or l is
// not shared yet.
func (l *Ledger) person(u ident.UserID) *person {
	p := l.people[u]
	if p == nil {
		p = &person{latest: map[slot]decision{}, leases: map[slot]*lease{}}
		l.people[u] = p
	}
	return p
}

// applying returns the decision that counts for s: the later of the device's own
// and the one for all devices.
func (p *person) applying(s slot) decision {
	d := p.latest[slot{s.purpose, 0}]
	if own := p.latest[s]; own.seq > d.seq {
		return own
	}
	return d
}

// state says what d, the decision that counts for a purpose, means today; core
// is the decision that counts for Storage, declined the number of the last decision
// that declined a policy.
func (c *Catalogue) state(info *Info, d, core decision, declined int64) State {
	switch {
	case d.seq == 0:
		return Never
	case !d.granted:
		return Withdrawn
	case d.version != info.Version, !info.Available, d.seq < declined:
		return Suspended
	case d.revision == c.current().Revision, core.granted && core.revision == c.current().Revision && core.seq > declined:
		return Granted
	}
	return Suspended
}

// State returns the state of every purpose for all of u's devices, in the order
// in which purposes are shown, each followed by the states of the devices for
// which u decided apart.
func (l *Ledger) State(ctx context.Context, u ident.UserID) ([]Consent, error) {
	p := person{latest: map[slot]decision{}}
	newest := map[Purpose]entry{}
	err := l.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT purpose, device, max(seq), granted, actor, purpose_version, policy_revision, time, hash
			FROM consent_ledger WHERE user = ? GROUP BY purpose, device`, u)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s slot
			var d decision
			var ms int64
			var hash []byte
			if err := rows.Scan(&s.purpose, &s.device, &d.seq, &d.granted, &d.actor, &d.version, &d.revision, &ms, &hash); err != nil {
				return err
			}
			d.time = time.UnixMilli(ms).UTC()
			p.latest[s] = d
			newest[s.purpose] = newest[s.purpose].or(entry{d.seq, hash})
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("consent: state: %w", err)
	}
	core, declined := p.applying(slot{Storage, 0}), p.declined().seq
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Consent
	for i := range l.cat.purposes {
		info := &l.cat.purposes[i]
		devices := []ident.DeviceID{0}
		for s := range p.latest {
			if s.purpose == info.ID && s.device != 0 {
				devices = append(devices, s.device)
			}
		}
		slices.Sort(devices)
		for _, dev := range devices {
			d := p.applying(slot{info.ID, dev})
			list = append(list, Consent{
				Purpose: info.ID, Device: dev, State: l.judge(u, info, d, core, declined),
				PolicyRevision: d.revision, PurposeVersion: d.version, Time: d.time,
				Newest: hex.EncodeToString(newest[info.ID].or(newest[WholePolicy]).hash),
			})
		}
	}
	return list, nil
}

// An entry of the ledger by its place and its hash.
type entry struct {
	seq  int64
	hash []byte
}

// or returns the later of two.
func (e entry) or(o entry) entry {
	if o.seq > e.seq {
		return o
	}
	return e
}

// check refuses a decision that makes no sense or is not the actor's to make.
func (l *Ledger) check(d Decision) (*Info, error) {
	if d.User == 0 || d.Actor == 0 {
		return nil, notTheirs()
	}
	info := l.cat.whole()
	if d.Purpose != WholePolicy {
		var err error
		if info, err = l.cat.info(d.Purpose); err != nil {
			return nil, err
		}
	}
	if d.How == "" || len(d.How) > 64 || strings.Trim(d.How, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return nil, fmt.Errorf("consent: %q is not a way to decide", d.How)
	}
	if d.Device != 0 && !info.PerDevice {
		return nil, &problem.Error{
			Kind: problem.Invalid, Op: "consent.record", Title: "This purpose is not decided per device",
			Detail:  fmt.Sprintf("“%s” is decided once for all of your devices.", info.Text["en"].Title),
			Hint:    "Leave the device out.",
			Members: map[string]any{"purpose": string(info.ID)},
		}
	}
	if !d.Granted && d.Purpose != WholePolicy {
		return info, nil
	}
	if d.Granted && d.Purpose == WholePolicy {
		return nil, errors.New("consent: a policy is accepted by a consent to storage")
	}
	if !info.Available {
		return nil, notAvailable(info)
	}
	if current := l.cat.current(); d.PolicyRevision != current.Revision {
		return nil, &problem.Error{
			Kind: problem.Conflict, Op: "consent.record", Title: "That is not the current privacy policy",
			Detail: fmt.Sprintf("The current revision is %s, of %s.", current.Revision, current.Modified.Format(time.DateOnly)),
			Hint:   "Read the current policy (GET /v1/policy, or the page) and decide again.",
			Members: map[string]any{
				"purpose": string(info.ID), "policy_revision": current.Revision, "page": consentPage,
			},
		}
	}
	return info, nil
}

// Record writes a decision into the ledger and returns its receipt. When Record
// has returned, the decision is durable; a withdrawal has ended the Context of
// every Grant that rested on the consent, and no Check of such a Grant succeeds
// any more.
//
// A decision that says again exactly what is in force writes nothing and returns
// the receipt of the decision that is: repeating a request is harmless.
//
// Granting needs the current policy revision (problem.Conflict, whose member
// policy_revision names it), that it is not declined, but for Storage, which accepts it
// (problem.ConsentRequired, see Limited), and a purpose that this version of the box serves
// (problem.Unsupported). A decision that names what it came After must still come after that
// (problem.Conflict). An unknown purpose is problem.NotFound, a decision for
// somebody else problem.Forbidden.
func (l *Ledger) Record(ctx context.Context, d Decision) (Receipt, error) {
	info, err := l.check(d)
	if err != nil {
		return Receipt{}, err
	}
	policy := l.cat.current()
	var receipt Receipt
	err = l.db.Write(ctx, func(tx *db.Tx) error {
		if err := l.mayDecide(tx, d); err != nil {
			return err
		}
		last, err := latest(tx, d.User, slot{d.Purpose, d.Device})
		if err != nil {
			return err
		}
		stands, declined, err := l.standing(tx, d.User)
		switch {
		case err != nil:
			return err
		case d.Granted && d.Purpose != Storage && stands == Declined:
			return l.limited(stands)
		case last.repeats(d, info, policy, stands, declined):
			receipt, err = l.stored(tx, last.seq)
			return err
		}
		if err := overtaken(tx, d, info); err != nil {
			return err
		}
		now := decision{
			granted: d.Granted, actor: d.Actor, version: info.Version, revision: policy.Revision,
			time: time.UnixMilli(tx.Now.UnixMilli()).UTC(), unsure: tx.Unsure,
		}
		seq, hash, err := l.chain.Append(tx, now.time.UnixMilli(), int64(d.User), int64(d.Device), string(d.Purpose),
			int64(now.version), bit(d.Granted), now.revision, int64(d.Actor), d.How)
		if err != nil {
			return err
		}
		now.seq = seq
		receipt = l.receipt(d, info, policy, now, hash, last)
		if receipt.Earlier, err = l.earlier(tx, seq); err != nil {
			return err
		}
		if receipt.JWS, err = l.sign.jws(receipt); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO consent_receipt (seq, jws) VALUES (?, ?)", seq, receipt.JWS); err != nil {
			return err
		}
		if err := l.log.Append(tx, event(d, hash)); err != nil {
			return err
		}
		if err := l.wardDecided(tx, d); err != nil {
			return err
		}
		tx.AfterCommit(func() { l.apply(d.User, slot{d.Purpose, d.Device}, now) })
		if !d.Granted && l.refused != nil {
			return l.refused(tx, d)
		}
		return nil
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("consent: record: %w", err)
	}
	return receipt, nil
}

func event(d Decision, hash audit.Hash) audit.Event {
	action := "consent.withdraw"
	switch {
	case d.Granted:
		action = "consent.grant"
	case d.Purpose == WholePolicy:
		action = "consent.decline"
	}
	return audit.Event{
		Actor: d.Actor, Action: action, Subject: d.User, Object: string(d.Purpose), Device: d.Device, Via: d.How,
		Detail: map[string]string{"entry": hash.String()}, // ties the two chains together
	}
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// A previous decision, and whether it is the last one about its purpose.
type previous struct {
	decision
	hash []byte
	own  bool // made for exactly this device, or for all if the decision is for all
}

// repeats reports whether d would change nothing: the decision that counts was
// made about the same slot and says the same under the same texts. stands is how the
// person stood before it, declined when they last declined a policy.
func (p previous) repeats(d Decision, info *Info, policy *Policy, stands Standing, declined int64) bool {
	switch {
	case p.seq == 0 || !p.own || p.granted != d.Granted, d.Granted && p.actor != d.Actor:
		return false
	case d.Purpose == WholePolicy:
		return stands == Declined
	case d.Granted && p.seq < declined:
		return false // it counts no more
	}
	return !d.Granted || p.version == info.Version && p.revision == policy.Revision
}

// latest returns the decision that d about s would take the place of. For one
// device that is the later of its own and the one for all; for all devices, it
// is the last one of any device, because all of them are overruled.
func latest(tx *db.Tx, u ident.UserID, s slot) (previous, error) {
	var p previous
	var device ident.DeviceID
	rows, err := tx.Query(`SELECT seq, hash, device, granted, actor, purpose_version, policy_revision FROM consent_ledger
		WHERE seq = (SELECT max(seq) FROM consent_ledger WHERE user = ?1 AND purpose = ?2 AND (?3 = 0 OR device IN (0, ?3)))`,
		u, s.purpose, s.device)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(&p.seq, &p.hash, &device, &p.granted, &p.actor, &p.version, &p.revision); err != nil {
			return p, err
		}
		p.own = device == s.device
	}
	return p, rows.Err()
}

// OnRefusal has fn called within the transaction of each decision that says no, of the
// whole policy too (WholePolicy), by whomever it is made. Its error undoes the decision.
// What it leaves for after the commit is done when the Grants have ended. Call it once,
// before people come.
func (l *Ledger) OnRefusal(fn func(*db.Tx, Decision) error) { l.refused = fn }

// overtaken refuses a decision that was made before another one about the purpose, or
// before the policy was declined, which ended that purpose for good.
func overtaken(tx *db.Tx, d Decision, info *Info) error {
	if d.After == nil {
		return nil
	}
	var newest []byte
	err := tx.QueryRow(`SELECT hash FROM consent_ledger WHERE seq = (SELECT max(seq) FROM consent_ledger WHERE user = ?1 AND purpose IN (?2, ?3))`,
		d.User, d.Purpose, WholePolicy).Scan(&newest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if hex.EncodeToString(newest) == *d.After {
		return nil
	}
	return &problem.Error{
		Kind: problem.Conflict, Op: "consent.record", Title: "There is a newer decision",
		Detail:  fmt.Sprintf("“%s” was decided anew after this decision was made, so that nothing was changed.", info.Text["en"].Title),
		Hint:    "Look how it stands now, and decide again.",
		Members: map[string]any{"purpose": string(info.ID), "page": consentPage},
	}
}

// Decided returns a channel that is closed by the next decision of anybody: for who
// waits for a consent and would else have to ask again and again.
func (l *Ledger) Decided() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.decided == nil {
		l.decided = make(chan struct{})
	}
	return l.decided
}

// apply takes a committed decision into memory and ends the leases that no
// longer hold. It runs before Record returns.
func (l *Ledger) apply(u ident.UserID, s slot, d decision) {
	l.mu.Lock()
	p := l.person(u)
	if p.latest[s].seq < d.seq { // commits of one group may be applied in any order
		p.latest[s] = d
	}
	p.note(d, s.purpose, l.cat.current().Revision)
	ended := l.unheld(u)
	if l.decided != nil {
		close(l.decided)
		l.decided = nil
	}
	l.mu.Unlock()
	for _, lease := range ended {
		cause := withdrawn(lease.purpose)
		if s.purpose == WholePolicy {
			cause = l.limited(Declined)
		}
		lease.end(l.asked(u, lease.purpose, cause))
	}
}

// unheld takes out u's leases that no longer hold, to be ended. l.mu is held.
func (l *Ledger) unheld(u ident.UserID) (ended []*lease) {
	p := l.person(u)
	core, declined := p.applying(slot{Storage, 0}), p.declined().seq
	for about, lease := range p.leases {
		if l.judge(u, lease.purpose, p.applying(about), core, declined) != Granted {
			delete(p.leases, about)
			ended = append(ended, lease)
		}
	}
	return ended
}

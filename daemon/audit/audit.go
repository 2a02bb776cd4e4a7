// Package audit keeps the box's record of what was done on it: sign-ins,
// binding, consents, devices, tokens, administration. An event is written in the
// same transaction as the act, so neither exists without the other, and each
// entry is linked to the one before by its hash, so that a record that was
// tampered with is found out.
//
// Own uploads are not recorded here one by one; the catalogue's change feed does
// that. Events hold identifiers only: no names, addresses, codes or secrets.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Event is one act.
type Event struct {
	// Actor is who did it; zero: the box itself, or somebody not signed in.
	Actor ident.UserID
	// Action is what was done: lower-case words joined by dots and underscores,
	// the thing first ("session.open", "consent.withdraw"); at most 64 bytes.
	Action string
	// Subject is the person whom it concerns; zero: nobody in particular.
	Subject ident.UserID
	// Object is the identifier of what was acted on; at most 255 bytes.
	Object string
	// Device is the device that was used or concerned; zero: none.
	Device ident.DeviceID
	// Via is the way in: "http", "socket", …; at most 64 bytes.
	Via string
	// Detail adds what the fields above cannot say. At most 16 entries and 2 kB as
	// JSON. Identifiers, counts and fixed words only.
	Detail map[string]string
}

// Entry is an Event as it was recorded.
type Entry struct {
	Seq  int64
	Time time.Time // UTC, whole milliseconds
	Hash string    // 64 lower-case hex digits
	Event
}

// MarshalJSON implements json.Marshaler: what is not there is left out.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Seq     int64             `json:"seq"`
		Time    string            `json:"time"`
		Actor   ident.UserID      `json:"actor,omitzero"`
		Action  string            `json:"action"`
		Subject ident.UserID      `json:"subject,omitzero"`
		Object  string            `json:"object,omitempty"`
		Device  ident.DeviceID    `json:"device,omitzero"`
		Via     string            `json:"via,omitempty"`
		Detail  map[string]string `json:"detail,omitempty"`
		Hash    string            `json:"hash"`
	}{
		e.Seq, e.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"), e.Actor, e.Action, e.Subject,
		e.Object, e.Device, e.Via, e.Detail, e.Hash,
	})
}

// Log is the audit record of a box. It is safe for concurrent use.
type Log struct {
	db    *db.DB
	chain *Chain
}

// New returns the record kept in d.
func New(d *db.DB) *Log {
	return &Log{db: d, chain: NewChain("audit",
		"time", "actor", "action", "subject", "object", "device", "via", "detail")}
}

const (
	maxWord    = 64   // bytes of Action and Via
	maxObject  = 255  // bytes of Object
	maxDetails = 16   // entries of Detail
	maxDetail  = 2048 // bytes of Detail as JSON
	maxTail    = 10_000
)

// Append records e within tx, at the time of tx. If it fails, fail the act too:
// what cannot be recorded must not happen.
func (l *Log) Append(tx *db.Tx, e Event) error {
	detail, err := e.check()
	if err != nil {
		return err
	}
	_, _, err = l.chain.Append(tx, tx.Now.UnixMilli(), int64(e.Actor), e.Action, int64(e.Subject),
		e.Object, int64(e.Device), e.Via, detail)
	return err
}

// check returns the event's detail as JSON with sorted keys, "" if there is none.
func (e Event) check() (string, error) {
	if !word(e.Action) || e.Action == "" {
		return "", fmt.Errorf("audit: %q is not the name of an action", e.Action)
	}
	if len(e.Via) > maxWord || len(e.Object) > maxObject || len(e.Detail) > maxDetails {
		return "", fmt.Errorf("audit: the event %s is too large", e.Action)
	}
	if len(e.Detail) == 0 {
		return "", nil
	}
	b, err := json.Marshal(e.Detail)
	if err != nil {
		return "", fmt.Errorf("audit: %s: %w", e.Action, err)
	}
	if len(b) > maxDetail {
		return "", fmt.Errorf("audit: the event %s is too large", e.Action)
	}
	return string(b), nil
}

func word(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '.' && c != '_' {
			return false
		}
	}
	return len(s) <= maxWord
}

// Verify reads the whole record and says whether it holds, and if not, which
// entry is the first bad one and why; kept are marks that it must go through. It
// holds one entry in memory at a time. An error means that the record could not be
// read.
func (l *Log) Verify(ctx context.Context, kept ...Mark) (Report, error) {
	var report Report
	err := l.db.Read(ctx, func(tx *db.Tx) (err error) {
		report, err = l.chain.Verify(ctx, tx, kept...)
		return err
	})
	return report, err
}

// Marks returns the mark of the last entry, and of entry at as it is now: nil if
// there is none.
func (l *Log) Marks(ctx context.Context, at int64) (last Mark, then *Mark, err error) {
	err = l.db.Read(ctx, func(tx *db.Tx) (err error) {
		last, then, err = l.chain.Marks(ctx, tx, at)
		return err
	})
	return last, then, err
}

// Tail returns the last n entries (1 to 10,000), oldest first.
func (l *Log) Tail(ctx context.Context, n int) ([]Entry, error) {
	n = min(max(n, 1), maxTail)
	var list []Entry
	err := l.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT seq, time, actor, action, subject, object, device, via, detail, hash
			FROM (SELECT * FROM audit ORDER BY seq DESC LIMIT ?) ORDER BY seq`, n)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Entry
			var ms int64
			var detail string
			var hash []byte
			if err := rows.Scan(&e.Seq, &ms, &e.Actor, &e.Action, &e.Subject, &e.Object, &e.Device, &e.Via, &detail, &hash); err != nil {
				return err
			}
			e.Time = time.UnixMilli(ms).UTC()
			e.Hash = fmt.Sprintf("%x", hash)
			if detail != "" {
				if err := json.Unmarshal([]byte(detail), &e.Detail); err != nil {
					e.Detail = map[string]string{"unreadable": detail} // shown, so that tampering is seen
				}
			}
			list = append(list, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("audit: tail: %w", err)
	}
	return list, nil
}

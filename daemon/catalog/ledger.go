package catalog

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// What became of an Offer.
const (
	OfferStored   = "stored"   // the bytes came and are kept
	OfferKnown    = "known"    // the person kept the content already
	OfferDeclined = "declined" // a rule refused it: consent, quota, a name
	OfferFailed   = "failed"   // something went wrong; the device should try again
)

// Offer is what a device offered and what became of it.
type Offer struct {
	User    ident.UserID
	Device  ident.DeviceID // 0: no particular one
	Path    string
	Ref     storage.Ref // zero: never became known
	Size    int64       // -1: not known
	Outcome string
	Kind    problem.Kind // why it was declined or failed; "" if it was not
	Reason  string       // the same for people
	Item    ident.ItemID
	Time    time.Time // set by Ledger
}

// KeptOffers is how many offers per device the ledger remembers, so that a phone
// which tries in vain all day does not fill the disk with its tries.
const KeptOffers = 100_000

const insertOffer = `INSERT INTO ledger (user, device, n, time, path, ref, size, outcome, reason, item, kind)
SELECT ?1, ?2, coalesce((SELECT max(n) FROM ledger WHERE user = +?1 AND device = +?2), 0) + 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10`

const dropOffers = `DELETE FROM ledger WHERE user = +?1 AND device = +?2
AND n <= (SELECT max(n) FROM ledger WHERE user = +?1 AND device = +?2) - ?3`

// dropEvery is how many offers pass between two looks at the length.
const dropEvery = 64

// Offer writes o into the ledger of its device.
func (c *Catalog) Offer(tx *db.Tx, o Offer) error {
	var ref any
	if !o.Ref.IsZero() {
		ref = o.Ref[:]
	}
	if _, err := tx.Exec(insertOffer, int64(o.User), int64(o.Device), tx.Now.UnixMilli(), o.Path, ref, o.Size, o.Outcome, o.Reason, int64(o.Item), string(o.Kind)); err != nil {
		return err
	}
	return c.dropOffers(tx, o.User, o.Device, 1)
}

// dropOffers forgets, after n more, the oldest offers of a device if there are too many.
func (c *Catalog) dropOffers(tx *db.Tx, u ident.UserID, device ident.DeviceID, n uint64) error {
	if now := c.offers.Add(n); now/dropEvery == (now-n)/dropEvery {
		return nil
	}
	_, err := tx.Exec(dropOffers, int64(u), int64(device), KeptOffers)
	return err
}

// nameless is how often what may not be named is noted for one device and reason.
const nameless = time.Hour

// Every refusal goes to the end of the ledger, so a look at its end is enough.
const lastNameless = `SELECT time FROM ledger WHERE user = +? AND device = +? AND outcome IN ('declined', 'failed') AND outcome = 'declined'
AND kind = +? AND reason = +? AND path = '' ORDER BY n DESC LIMIT 1`

// OfferNameless writes into the ledger that something was declined of which not
// even the name may be kept: once an hour for each device and reason.
func (c *Catalog) OfferNameless(tx *db.Tx, u ident.UserID, device ident.DeviceID, kind problem.Kind, reason string) error {
	var last int64
	err := tx.QueryRow(lastNameless, int64(u), int64(device), string(kind), reason).Scan(&last)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case tx.Now.Sub(time.UnixMilli(last)).Abs() < nameless:
		return nil
	}
	return c.Offer(tx, Offer{User: u, Device: device, Size: -1, Outcome: OfferDeclined, Kind: kind, Reason: reason})
}

const offerColumns = `n, time, path, ref, size, outcome, kind, reason, item`

const listLedger = `SELECT ` + offerColumns + ` FROM ledger
WHERE user = +? AND device = +? AND n < ? ORDER BY n DESC LIMIT +?`

const listTrouble = `SELECT ` + offerColumns + ` FROM ledger
WHERE user = +? AND device = +? AND n < ? AND outcome IN ('declined', 'failed') AND outcome = +? ORDER BY n DESC LIMIT +?`

const listOutcome = `SELECT ` + offerColumns + ` FROM ledger
WHERE user = +? AND device = +? AND n < ? AND outcome = +? ORDER BY n DESC LIMIT +?`

// Ledger returns what the device of u offered (0: what no particular device
// did), newest first, and the cursor of the next page, "" after the last. Only
// offers with the given outcome, unless that is "". A limit of 0 means 200;
// MaxLimit is the most.
func (c *Catalog) Ledger(ctx context.Context, u ident.UserID, device ident.DeviceID, outcome, cur string, limit int) (list []Offer, next string, err error) {
	switch {
	case limit <= 0:
		limit = defaultLimit
	case limit > MaxLimit:
		limit = MaxLimit
	}
	at, err := parseCursor(cur)
	if err != nil {
		return nil, "", err
	}
	before := int64(1<<63 - 1)
	if cur != "" {
		if before, err = strconv.ParseInt(at.a, 10, 64); at.kind != "l" || err != nil {
			return nil, "", errCursor()
		}
	}
	query, args := listLedger, []any{int64(u), int64(device), before}
	switch outcome {
	case "":
	case OfferDeclined, OfferFailed:
		query, args = listTrouble, append(args, outcome)
	default:
		query, args = listOutcome, append(args, outcome)
	}
	err = c.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, query, append(args, limit+1)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if len(list) == limit {
				next = cursor{"l", strconv.FormatInt(before, 10), ""}.String()
				break
			}
			o := Offer{User: u, Device: device}
			var when int64
			var ref []byte
			if err := rows.Scan(&before, &when, &o.Path, &ref, &o.Size, &o.Outcome, &o.Kind, &o.Reason, &o.Item); err != nil {
				return err
			}
			copy(o.Ref[:], ref)
			o.Time = time.UnixMilli(when).UTC()
			list = append(list, o)
		}
		return rows.Err()
	})
	return list, next, err
}

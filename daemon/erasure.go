package daemon

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/erasure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/requests"
	"yunbox.local/daemon/rights"
)

// openRights is the room of erasing and cancelling, and that of requests.
func (b *Box) openRights(ctx context.Context) (err error) {
	b.erasure, err = erasure.New(ctx, erasure.Options{
		DB: b.db, Audit: b.audit, Accounts: b.accounts, Consent: b.consent, Catalog: b.catalog, Rights: b.register,
		Sweep: b.sweepDead, Scour: b.scour, Shred: b.shred, Forget: b.forgetCopies, Elsewhere: b.otherPlaces, Sign: b.consent.Sign,
		Box: func() (erasure.Signer, error) {
			spki, err := x509.MarshalPKIXPublicKey(b.identity.Signer().Public())
			return erasure.Signer{ID: b.identity.ID(), Key: b.identity.Fingerprint(), SPKI: base64.StdEncoding.EncodeToString(spki)}, err
		},
		Pace: b.pace, Days: b.conf.CancelDays, Log: b.log,
	})
	if err != nil {
		return fmt.Errorf("erasing: %w", err)
	}
	var calendar fs.FS
	if b.conf.Calendar != "" {
		calendar = os.DirFS(b.conf.Calendar)
	}
	b.requests = requests.New(requests.Options{DB: b.db, Audit: b.audit, Accounts: b.accounts, Calendar: calendar, Log: b.log, Now: b.clock.sure})
	return nil
}

// refuse is what ingest asks before it takes anything of a person.
func (b *Box) refuse(u ident.UserID) error {
	if b.erasure == nil {
		return nil
	}
	return b.erasure.Refuse(u)
}

// forgetCopies removes copies of box.db that an update left: they speak of people who
// are gone.
func (b *Box) forgetCopies(context.Context) error {
	dir, err := os.OpenRoot(b.path("backup"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := fs.ReadDir(dir.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, dir.RemoveAll(e.Name()))
	}
	return err
}

// pace lets uploads go first while something is erased.
func (b *Box) pace(ctx context.Context) error {
	if b.store.Receiving() && !rest(ctx, 20*time.Millisecond) {
		return context.Cause(ctx)
	}
	return b.between(ctx)
}

// sweepDead removes the contents that nobody keeps any longer, from everywhere. The
// readable view first: where the sweep by the hour was faster there is nothing left for
// which it would be asked, and names would stay in it for a second.
func (b *Box) sweepDead(ctx context.Context) error {
	if err := b.letGo(ctx); err != nil {
		return err
	}
	if b.tree != nil {
		if err := b.tree.Forget(ctx); err != nil {
			return err
		}
	}
	if err := b.ingest.SweepDead(ctx); err != nil {
		return err
	}
	return b.store.Wipe()
}

// clean is sweepDead, and has the database's files forget what went.
func (b *Box) clean(ctx context.Context) error {
	if err := b.sweepDead(ctx); err != nil {
		return err
	}
	return b.scour(ctx)
}

const (
	// largeRecords is from where on writing box.db anew keeps uploads waiting for long.
	largeRecords = 64 << 20
	calm         = 30 * time.Second // without an upload
	calmAtMost   = 6 * time.Hour    // that it is waited for
)

// scour has the database's files forget what went. Nobody can write meanwhile, so with a
// large database it waits until nobody sends; until then nothing is said to be erased.
func (b *Box) scour(ctx context.Context) error {
	info, err := os.Stat(b.path("box.db"))
	if err != nil {
		return err
	}
	if info.Size() >= largeRecords {
		for since, end := time.Now(), time.Now().Add(calmAtMost); time.Since(since) < calm && time.Now().Before(end); {
			if !rest(ctx, time.Second) {
				return context.Cause(ctx)
			}
			if b.store.Receiving() || b.ingest.Active() > 0 {
				since = time.Now()
			}
		}
	}
	return b.db.Scour(ctx)
}

// otherPlaces says where data of people may be that the box does not reach by itself.
func (b *Box) otherPlaces(ctx context.Context) ([]erasure.Elsewhere, error) {
	list := []erasure.Elsewhere{}
	copies, err := b.secondCopies(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range rights.Places() {
		damaged := false
		if p.Name == "damaged" {
			entries, err := os.ReadDir(b.path("damaged"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			damaged = len(entries) > 0
		}
		if damaged || p.Name == "second copy" && len(copies) > 0 {
			list = append(list, erasure.Elsewhere{Place: p.Name, What: rights.Words{EN: p.What.EN + " " + p.Ends.EN, ZH: p.What.ZH + p.Ends.ZH}})
		}
	}
	return list, nil
}

// shred destroys the keys of a person whose account is gone.
func (b *Box) shred(ctx context.Context, u ident.UserID) error {
	if err := b.db.Write(ctx, func(tx *db.Tx) error { return b.vault.Destroy(tx, u) }); err != nil {
		return err
	}
	if has, err := b.vault.HasKeys(u); err != nil || has {
		return errors.Join(err, errors.New("keys of somebody who is gone are still there"))
	}
	return nil
}

// sourcesOf are the sources whose files rest on a purpose.
func sourcesOf(purpose string) []string { return consent.SourcesOf(consent.Purpose(purpose)) }

// expire erases what is past its period: once after the start, and once a day.
func (b *Box) expire(ctx context.Context) {
	days, err := b.register().Periods(ctx)
	if err == nil {
		err = errors.Join(b.erasure.Expire(ctx), b.requests.Expire(ctx, days["requests"]), b.accounts.Expire(ctx))
	}
	if err != nil && ctx.Err() == nil {
		b.log.Warn("what is past its period is still there; it is tried again tomorrow", "err", err)
	}
}

// lookHourly is what the hour brings: see keepTime.
const lookHourly = time.Hour

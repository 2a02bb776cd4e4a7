package consent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

// Acts that are entered each time. What all of them mean stands in exceptions.toml.
const (
	ActRecordRead     = "record_read"     // somebody read the record of acts of everybody
	ActRecordsRebuilt = "records_rebuilt" // the catalogue was rebuilt
)

// An Act is something that the box does with people's data without asking them, and
// why it may (clauses 1.3 and 5.4 of the maker's policy).
type Act struct {
	ID     string `toml:"id"`
	Clause string `toml:"clause"`
	Basis  string `toml:"basis"` // law, safety or faults
	// Each: every time is entered for each person concerned. Others go on all the time.
	Each bool   `toml:"each"`
	EN   string `toml:"en"`
	ZH   string `toml:"zh"`
}

// Acts returns all acts, those that go on all the time first.
func (l *Ledger) Acts() []Act { return slices.Clone(l.cat.acts) }

func loadActs(fsys fs.FS) ([]Act, error) {
	var f struct {
		Act []Act `toml:"act"`
	}
	meta, err := toml.DecodeFS(fsys, "exceptions.toml", &f)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown key %s", unknown[0])
	}
	seen := map[string]bool{}
	for _, a := range f.Act {
		if a.ID == "" || seen[a.ID] || strings.Trim(a.Clause, "0123456789.") != "" || a.Clause == "" ||
			!slices.Contains([]string{"law", "safety", "faults"}, a.Basis) || a.EN == "" || a.ZH == "" {
			return nil, fmt.Errorf("act %q is not whole", a.ID)
		}
		seen[a.ID] = true
	}
	if !seen[ActRecordRead] || !seen[ActRecordsRebuilt] {
		return nil, errors.New("an act that the program enters is missing")
	}
	return f.Act, nil
}

// An Exception is one time that an act touched somebody's data.
type Exception struct {
	User  ident.UserID // whose data
	Act   string       // one of those with Each
	Actor ident.UserID // who did it; zero: the box itself, or whoever runs it on the box
	Via   string       // "box", "socket", "http"
}

// exceptionSpan is the time within which the same act by the same hand is one entry
// that counts: who watches the record all day fills no table.
const exceptionSpan = 24 * time.Hour

// Except enters, within tx, that somebody's data was used without asking them. It is
// shown to the person, with the clause that allows it. An act that is not in
// exceptions.toml as one of each time is a fault of the program and fails.
func (l *Ledger) Except(tx *db.Tx, e Exception) error {
	i := slices.IndexFunc(l.cat.acts, func(a Act) bool { return a.ID == e.Act && a.Each })
	if i < 0 || e.User == 0 {
		return fmt.Errorf("consent: %q is no exception that is entered for a person", e.Act)
	}
	act, now := l.cat.acts[i], tx.Now.UnixMilli()
	var known int64
	if err := tx.QueryRow(`SELECT coalesce(max(id), 0) FROM exception WHERE user = ?1 AND act = ?2 AND actor = ?3 AND via = ?4 AND time > ?5 AND time <= ?6`,
		e.User, e.Act, e.Actor, e.Via, now-exceptionSpan.Milliseconds(), now).Scan(&known); err != nil {
		return fmt.Errorf("consent: exception: %w", err)
	}
	if known != 0 {
		_, err := tx.Exec(`UPDATE exception SET times = times + 1, last = ? WHERE id = ?`, now, known)
		return err
	}
	if _, err := tx.Exec(`INSERT INTO exception (user, time, last, times, act, clause, actor, via) VALUES (?,?,?,1,?,?,?,?)`,
		e.User, now, now, e.Act, act.Clause, e.Actor, e.Via); err != nil {
		return fmt.Errorf("consent: exception: %w", err)
	}
	return l.log.Append(tx, audit.Event{
		Actor: e.Actor, Action: "consent.exception", Subject: e.User, Object: e.Act, Via: e.Via, Detail: map[string]string{"clause": act.Clause},
	})
}

// Excepted is Except for several people, in a transaction of its own.
func (l *Ledger) Excepted(ctx context.Context, act string, actor ident.UserID, via string, people ...ident.UserID) error {
	if len(people) == 0 {
		return nil
	}
	return l.db.Write(ctx, func(tx *db.Tx) error {
		for _, u := range people {
			if err := l.Except(tx, Exception{User: u, Act: act, Actor: actor, Via: via}); err != nil {
				return err
			}
		}
		return nil
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"yunbox.local/scripts/harness/internal/blockdev"
	"yunbox.local/scripts/harness/internal/box"
)

// eachTarget is a box on which people use their rights one after the other, alone, so
// that the power can be cut at every single write that each of these acts causes.
type eachTarget struct {
	boxTarget
	spans   []span
	watched []watched // filled while it is recorded
}

// A span is the part of the recording in which an act was at work, until the box had
// nothing more to do for it.
type span struct {
	name     string
	from, to int
}

// A watched thing has a state in the sense of a history. look may wait until the box has
// gone on to the end with what it had begun.
type watched struct {
	key  string
	look func(ctx context.Context, s *eachServer) string
}

type eachServer struct {
	*boxServer
	each    *eachTarget
	guests  map[string]*box.Box // signed in, by name
	hs      *histories
	pos     func() int
	todo    []func() error // the acts, once everything was made ready for them
	problem error          // of the acts: they ended early
}

func (t *eachTarget) start(ctx context.Context, dir string) (server, error) {
	b, err := t.programs.Start(ctx, filepath.Join(dir, "state"), t.watch)
	if err != nil {
		return nil, err
	}
	b.Token = t.token
	return &eachServer{boxServer: &boxServer{Box: b, target: &t.boxTarget}, each: t, guests: map[string]*box.Box{}}, nil
}

// guests and what each of them is there for.
var guests = []string{"withdraws", "details", "deletes", "erases", "leaves", "stays", "heir", "told"}

func (s *eachServer) settle(ctx context.Context, hs *histories, pos func() int) error {
	s.hs, s.pos = hs, pos
	if err := s.Claim(ctx, "owner", password); err != nil {
		return err
	}
	s.target.token = s.Token
	revision, err := s.PolicyRevision(ctx)
	if err != nil {
		return err
	}
	for _, name := range guests {
		var session struct{ Token string }
		if err := s.Local(ctx, http.MethodPost, "/local/users", map[string]any{"username": name, "password": password}, nil); err != nil {
			return err
		}
		if err := s.API(ctx, http.MethodPost, "/v1/session", map[string]string{"username": name, "password": password}, &session); err != nil {
			return err
		}
		who := s.As(session.Token)
		s.guests[name] = who
		for _, purpose := range []string{"storage", "qq_backup", "profile_details"} {
			if err := who.API(ctx, http.MethodPut, "/v1/consents/"+purpose, map[string]any{"granted": true, "policy_revision": revision}, nil); err != nil {
				return err
			}
		}
		if err := who.API(ctx, http.MethodPut, "/v1/me/profile/nickname", map[string]string{"value": "nick of " + name}, nil); err != nil {
			return err
		}
		if _, err := who.PutItem(ctx, "other", "stays.jpg", strings.NewReader("stays "+name), int64(6+len(name)), ""); err != nil {
			return err
		}
	}
	hs.of("bound").add(act{"yes", 0, pos()})
	for _, ready := range []func(context.Context) error{s.withdrawing, s.forgettingDetails, s.deleting, s.erasingPurpose, s.leaving, s.cancelling, s.handingOver, s.rotating} {
		if err := ready(ctx); err != nil {
			return err
		}
	}
	return s.quiet(ctx)
}

// clients is one client, which does one act after the other.
func (s *eachServer) clients(ctx context.Context, _ *histories, _ func() int) []func() {
	return []func(){func() { s.problem = s.acts(ctx) }}
}

// watch makes a thing known, in the state that it has.
func (s *eachServer) watch(key, state string, look func(context.Context, *eachServer) string) {
	s.hs.of(key).add(act{state, s.pos(), s.pos()})
	s.each.watched = append(s.each.watched, watched{key, look})
}

// act adds one act to those to do: it begins, is acknowledged, and then the box is at
// work for it until rest returns. After it things have the states of changes.
func (s *eachServer) act(name string, changes map[string]string, do func() error, rest func() error) {
	s.todo = append(s.todo, func() error {
		from := s.pos()
		var done []func()
		for key, state := range changes {
			done = append(done, s.hs.of(key).begin(state, s.pos))
		}
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, acked := range done {
			acked()
		}
		if err := rest(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.each.spans = append(s.each.spans, span{name, from, s.pos()})
		return nil
	})
}

func (s *eachServer) acts(ctx context.Context) error {
	for _, do := range s.todo {
		if err := do(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fresh is that person on the box that runs now.
func (s *eachServer) fresh(token string) *box.Box { return s.As(token) }

func status(err error, good, gone string, codes ...int) string {
	switch {
	case err == nil:
		return good
	case slices.ContainsFunc(codes, func(code int) bool { return box.IsStatus(err, code) }):
		return gone
	}
	return "error: " + err.Error()
}

// withdrawing takes a consent back: after that nothing comes in for it.
func (s *eachServer) withdrawing(ctx context.Context) error {
	who := s.guests["withdraws"]
	const key = "withdrawal:qq_backup"
	s.watch(key, "granted", func(ctx context.Context, now *eachServer) string {
		state, err := now.consentOf(ctx, who.Token, "qq_backup")
		if err != nil {
			return "error: " + err.Error()
		}
		_, err = now.fresh(who.Token).PutItem(ctx, "qq", "after the cut.jpg", strings.NewReader("qq"), 2, "")
		if takes := status(err, "granted", "withdrawn", http.StatusForbidden); takes != state {
			return fmt.Sprintf("error: it is %s, and a file is %s", state, takes)
		}
		return state
	})
	s.act("withdrawal", map[string]string{key: "withdrawn"}, func() error {
		return who.API(ctx, http.MethodDelete, "/v1/consents/qq_backup", nil, nil)
	}, s.rest)
	return nil
}

func (s *eachServer) consentOf(ctx context.Context, token, purpose string) (string, error) {
	var list struct {
		Consents []struct{ Purpose, State string }
	}
	err := s.fresh(token).API(ctx, http.MethodGet, "/v1/consents", nil, &list)
	for _, c := range list.Consents {
		if c.Purpose == purpose {
			return c.State, err
		}
	}
	return "", errors.Join(err, errors.New("the purpose is not listed"))
}

// nick says whether the nickname is there and can be opened.
func (s *eachServer) nick(ctx context.Context, token string) string {
	var profile struct {
		Details []struct {
			Detail string
			Masked *string
		}
	}
	if err := s.fresh(token).API(ctx, http.MethodGet, "/v1/me/profile", nil, &profile); err != nil {
		return "error: " + err.Error()
	}
	for _, d := range profile.Details {
		if d.Detail == "nickname" && d.Masked == nil {
			return "error: it cannot be opened"
		} else if d.Detail == "nickname" {
			return kept
		}
	}
	return absent
}

// forgettingDetails takes back a consent with which what it was told goes.
func (s *eachServer) forgettingDetails(ctx context.Context) error {
	who := s.guests["details"]
	s.watch("details:nickname", kept, func(ctx context.Context, now *eachServer) string {
		consent, err := now.consentOf(ctx, who.Token, "profile_details")
		if err != nil {
			return "error: " + err.Error()
		}
		state := now.nick(ctx, who.Token)
		for range 200 { // what a withdrawal takes along goes at once or at the start
			if consent != "withdrawn" || state != kept {
				break
			}
			pause(ctx, 50*time.Millisecond)
			state = now.nick(ctx, who.Token)
		}
		return state
	})
	s.act("withdrawal with what was told", map[string]string{"details:nickname": absent}, func() error {
		return who.API(ctx, http.MethodDelete, "/v1/consents/profile_details", nil, nil)
	}, s.rest)
	return nil
}

// deleting puts a file into the trash and out of it.
func (s *eachServer) deleting(ctx context.Context) error {
	who := s.guests["deletes"]
	id, err := who.PutItem(ctx, "other", "for good.jpg", strings.NewReader("for good"), 8, "")
	if err != nil {
		return err
	}
	s.watch("deletion:for good", kept, func(ctx context.Context, now *eachServer) string {
		return status(now.fresh(who.Token).API(ctx, http.MethodGet, "/v1/items/"+id, nil, nil), kept, absent, http.StatusNotFound)
	})
	if err := who.API(ctx, http.MethodDelete, "/v1/files/for%20good.jpg", nil, nil); err != nil {
		return err
	}
	s.act("deletion for good", map[string]string{"deletion:for good": absent}, func() error {
		return who.API(ctx, http.MethodDelete, "/v1/items/"+id, nil, nil)
	}, s.rest)
	return nil
}

const (
	purposeMark = "erase-0001-00000001"
	leaverMark  = "erase-0002-00000002"
)

// fill puts three files under a mark, one of which goes through a version and the trash.
func (s *eachServer) fill(ctx context.Context, who *box.Box, mark string) error {
	for i := range 3 {
		content := fmt.Sprintf("%s %d", mark, i)
		if _, err := who.PutItem(ctx, "qq", fmt.Sprintf("%s/%d.jpg", mark, i), strings.NewReader(content), int64(len(content)), ""); err != nil {
			return err
		}
	}
	if _, err := who.PutItem(ctx, "qq", mark+"/1.jpg", strings.NewReader(mark+" again"), int64(6+len(mark)), ""); err != nil {
		return err
	}
	return who.API(ctx, http.MethodDelete, "/v1/files/"+mark+"/2.jpg", nil, nil)
}

// erasingPurpose has all erased that came in for a purpose.
func (s *eachServer) erasingPurpose(ctx context.Context) error {
	who := s.guests["erases"]
	if err := s.fill(ctx, who, purposeMark); err != nil {
		return err
	}
	s.watch("erasure:of a purpose", kept, func(ctx context.Context, now *eachServer) string {
		asked := now.fresh(who.Token)
		if err := atRest(ctx, asked); err != nil {
			return "error: " + err.Error()
		}
		if _, err := asked.Hash(ctx, "stays.jpg"); err != nil {
			return "error: what rests on another purpose: " + err.Error()
		}
		var there [2]bool
		for i := range there {
			switch _, err := asked.Hash(ctx, fmt.Sprintf("%s/%d.jpg", purposeMark, i)); {
			case err == nil:
				there[i] = true
			case !box.IsStatus(err, http.StatusNotFound):
				return "error: " + err.Error()
			}
		}
		return now.traces(there[0], there[1], purposeMark)
	})
	s.act("erasure of a purpose's data", map[string]string{"erasure:of a purpose": absent}, func() error {
		return who.API(ctx, http.MethodDelete, "/v1/me/data?purpose=qq_backup", nil, nil)
	}, func() error { return errors.Join(atRest(ctx, who), s.rest()) })
	return nil
}

// traces says whether what bears a mark is all there, or gone and in no file.
func (s *eachServer) traces(one, two bool, mark string) string {
	if one != two {
		return "error: a half of it is there"
	} else if one {
		return kept
	}
	if found, err := s.remains(); err != nil {
		return "error: " + err.Error()
	} else if found[mark] {
		return "error: nothing of it is shown, and its mark stands in a file"
	}
	return absent
}

// atRest waits until nothing of that person is being erased.
func atRest(ctx context.Context, who *box.Box) error {
	for began := time.Now(); time.Since(began) < patient; pause(ctx, 10*time.Millisecond) {
		var list struct{ Erasures []any }
		if err := who.API(ctx, http.MethodGet, "/v1/me/erasures", nil, &list); err != nil || len(list.Erasures) == 0 {
			return err
		}
	}
	return fmt.Errorf("it is being erased for longer than %v", patient)
}

// quiet waits for what the box does by itself after an answer.
func (s *eachServer) quiet(ctx context.Context) error {
	for last := -1; last != s.pos(); pause(ctx, 300*time.Millisecond) {
		last = s.pos()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// rest waits for the end of what an act causes.
func (s *eachServer) rest() error { return s.quiet(context.Background()) }

// person is how the box's own list shows a person; nil: it does not.
type person struct {
	Username, Role string
	Leaving        bool
}

func (s *eachServer) people(ctx context.Context) (map[string]person, error) {
	var list struct{ Users []person }
	err := s.Local(ctx, http.MethodGet, "/local/users", nil, &list)
	all := map[string]person{}
	for _, p := range list.Users {
		all[p.Username] = p
	}
	return all, err
}

// leaving cancels an account and keeps it after all.
func (s *eachServer) leaving(ctx context.Context) error {
	who := s.guests["stays"]
	s.watch("cancellation:undone", kept, func(ctx context.Context, now *eachServer) string {
		state := status(now.fresh(who.Token).API(ctx, http.MethodGet, "/v1/me/cancellation", nil, nil), "leaving", kept, http.StatusNotFound)
		if _, err := now.fresh(who.Token).Hash(ctx, "stays.jpg"); err != nil {
			return "error: " + err.Error()
		}
		return state
	})
	s.act("cancellation, asked for", map[string]string{"cancellation:undone": "leaving"}, func() error {
		return who.API(ctx, http.MethodPost, "/v1/me/cancellation", map[string]string{"files": "erase"}, nil)
	}, s.rest)
	s.act("cancellation, undone", map[string]string{"cancellation:undone": kept}, func() error {
		return who.API(ctx, http.MethodDelete, "/v1/me/cancellation", nil, nil)
	}, s.rest)
	return nil
}

// cancelling has an account erased at once.
func (s *eachServer) cancelling(ctx context.Context) error {
	who := s.guests["leaves"]
	if err := s.fill(ctx, who, leaverMark); err != nil {
		return err
	}
	s.watch("cancellation:done", kept, func(ctx context.Context, now *eachServer) string {
		for began := time.Now(); time.Since(began) < patient; pause(ctx, 10*time.Millisecond) {
			all, err := now.people(ctx)
			if err != nil {
				return "error: " + err.Error()
			}
			p, there := all["leaves"]
			if there && p.Leaving {
				continue
			}
			if !there && now.remainsOf(leaverMark) {
				continue // the account has gone, and the box goes on behind it
			}
			_, err = now.fresh(who.Token).Hash(ctx, leaverMark+"/0.jpg")
			if state := status(err, kept, absent, http.StatusUnauthorized); there != (state == kept) {
				return fmt.Sprintf("error: the account is there: %t, its files are %s", there, state)
			}
			return map[bool]string{true: kept, false: absent}[there]
		}
		return "error: the account is not gone"
	})
	var out struct{ Code string }
	s.act("cancellation, carried out", map[string]string{"cancellation:done": absent}, func() error {
		return s.Local(ctx, http.MethodPost, "/local/users/leaves/removal", map[string]int{"days": 0}, &out)
	}, func() error {
		for began := time.Now(); time.Since(began) < patient; pause(ctx, 10*time.Millisecond) {
			var f struct{ State string }
			if err := s.Local(ctx, http.MethodPost, "/local/deletion-receipt", map[string]string{"code": out.Code}, &f); err != nil {
				return err
			} else if f.State == "done" {
				return s.rest()
			}
		}
		return errors.New("the account is not gone")
	})
	return nil
}

func (s *eachServer) remainsOf(mark string) bool {
	found, err := s.remains()
	return err != nil || found[mark]
}

// handingOver gives the box to another owner: there is always exactly one.
func (s *eachServer) handingOver(ctx context.Context) error {
	s.watch("hand-over:owner", "owner", func(ctx context.Context, now *eachServer) string {
		all, err := now.people(ctx)
		if err != nil {
			return "error: " + err.Error()
		}
		var owners []string
		for name, p := range all {
			if p.Role == "owner" {
				owners = append(owners, name)
			}
		}
		return strings.Join(owners, " and ")
	})
	s.watch("hand-over:offer", absent, func(ctx context.Context, now *eachServer) string {
		var out struct{ Offer *struct{} }
		if err := now.API(ctx, http.MethodGet, "/v1/ownership", nil, &out); err != nil {
			return "error: " + err.Error()
		}
		return map[bool]string{true: kept, false: absent}[out.Offer != nil]
	})
	s.act("hand-over, offered", map[string]string{"hand-over:offer": kept}, func() error {
		return s.API(ctx, http.MethodPost, "/v1/ownership", map[string]string{"to": "heir"}, nil)
	}, s.rest)
	s.act("hand-over, accepted", map[string]string{"hand-over:owner": "heir", "hand-over:offer": absent}, func() error {
		return s.guests["heir"].API(ctx, http.MethodPut, "/v1/ownership", nil, nil)
	}, s.rest)
	return nil
}

// rotating changes all keys: what is sealed can be opened before, in between and after.
func (s *eachServer) rotating(ctx context.Context) error {
	for _, name := range []string{"told", "heir"} {
		token := s.guests[name].Token
		s.watch("rotation:"+name, kept, func(ctx context.Context, now *eachServer) string { return now.nick(ctx, token) })
	}
	s.act("change of keys", map[string]string{"rotation:told": kept}, func() error {
		_, err := s.LocalText(ctx, http.MethodPost, "/local/vault/rotate")
		return err
	}, s.rest)
	return nil
}

func (s *eachServer) observe(ctx context.Context, keys []string) map[string]string {
	states, err := s.decisions(ctx)
	if err != nil {
		states["bound"] = "error: " + err.Error()
	}
	for _, w := range s.each.watched {
		if slices.Contains(keys, w.key) {
			states[w.key] = w.look(ctx, s)
		}
	}
	return states
}

// everywhere lists cuts at each record of the acts, by each model that can make a
// difference there; of these most at random, alike many of each act. 0: all.
func (t *eachTarget) everywhere(r *blockdev.Recording, models []blockdev.Model, most int, rng *rand.Rand) (cuts []cut) {
	per := (most + len(t.spans) - 1) / len(t.spans)
	for _, s := range t.spans {
		var own []cut
		for at := s.from; at <= s.to; at++ {
			for i, model := range models {
				if i == 0 || r.Unflushed(at) > 0 {
					own = append(own, cut{at, model})
				}
			}
		}
		if most > 0 {
			rng.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
			own = own[:min(len(own), per)]
		}
		cuts = append(cuts, own...)
	}
	slices.SortStableFunc(cuts, func(a, b cut) int { return a.at - b.at })
	return cuts
}

// tell says what was recorded of each act.
func (t *eachTarget) tell(cuts []cut) string {
	var parts []string
	for _, s := range t.spans {
		n := 0
		for _, c := range cuts {
			if c.at >= s.from && c.at <= s.to {
				n++
			}
		}
		parts = append(parts, fmt.Sprintf("%s %d (%d writes and flushes)", s.name, n, s.to-s.from))
	}
	return strings.Join(parts, ", ")
}

package simulation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// What people send.

func (w *world) path() string {
	return fmt.Sprintf("DCIM/%d/%d.jpg", w.rng.IntN(5), w.rng.IntN(9))
}

// content is new or one of those that were sent before.
func (w *world) content(again bool) ([]byte, storage.Ref) {
	n := w.rng.Uint64N(400)
	if !again {
		n = w.rng.Uint64()
	}
	data := make([]byte, []int{1, 511, 512, 3000, 5000}[n%5]+int(n%97))
	if n%8 == 0 {
		data = make([]byte, 50_000+n%97) // more than the intent log takes
	}
	for i := range data {
		data[i] = byte(n >> (i % 8 * 8))
	}
	copy(data, fmt.Sprint(n))
	ref := storage.Ref(sha256.Sum256(data))
	if w.model.contents[ref] == nil {
		w.model.contents[ref] = data
	}
	return data, ref
}

var sources = map[string]consent.Purpose{"album": "album_backup", "wechat": "wechat_backup", "qq": "qq_backup"}

func (w *world) meta(path string, size int) ingest.Meta {
	return ingest.Meta{Source: []string{"album", "wechat", "qq"}[w.rng.IntN(3)], Path: path, Size: int64(size)}
}

// send is an upload in one request.
func (w *world) send(name string, p *person, m ingest.Meta, data []byte, ref storage.Ref) *act {
	h := w.model.people[p.id]
	var result ingest.Result
	a := &act{name: name, disk: true, refused: w.refusal(p, m, ref)}
	a.do = func() (err error) {
		result, err = w.put(p.id, m, data)
		return err
	}
	a.effect = func() { h.put(m.Path, ref) }
	a.heard = func() { w.stored(h, result, ref) }
	a.doubt = func() { w.model.failed = append(w.model.failed, ref) }
	return a
}

// again sends what did not get through, as every client does.
func (w *world) again(p *person) *act {
	if len(w.model.failed) == 0 {
		return nil
	}
	ref := w.model.failed[0]
	w.model.failed = w.model.failed[1:]
	data := w.model.contents[ref]
	m := w.meta(w.path(), len(data))
	m.Again = true
	return w.send("send again", p, m, data, ref)
}

// refusal is how an upload must be refused; "": not at all.
func (w *world) refusal(p *person, m ingest.Meta, ref storage.Ref) problem.Kind {
	h := w.model.people[p.id]
	switch {
	case !w.model.granted(p.id, sources[m.Source]):
		return problem.ConsentRequired
	case !m.Again && h.declines(ref):
		return problem.Deleted
	case m.IfAbsent && h.live[m.Path] != nil:
		return problem.PreconditionFailed
	}
	return ""
}

// stored compares an answer with what was sent. The bytes are good by now.
func (w *world) stored(h *holdings, r ingest.Result, ref storage.Ref) {
	it := h.live[r.Item.Path]
	if it == nil || it.ref != ref || r.Item.Ref != ref || it.id != 0 && it.id != r.Item.ID {
		w.wrong("%s was stored as %+v", ref, r.Item)
	}
	it.id = r.Item.ID
	if w.model.hidden[ref] {
		// What came was compared with what is there, by way of the page cache. If that
		// was good, and the disk is not, only the scrub sees it.
		w.count["sent again, hidden damage"]++
	} else {
		delete(w.model.damaged, ref)
	}
	if w.model.damaged[ref] || w.rng.IntN(4) > 0 {
		return
	}
	if err := w.store.Verify(w.ctx(), ref); err != nil {
		w.wrong("just stored: %v", err)
	}
}

func (w *world) upload(p *person) *act {
	data, ref := w.content(w.rng.IntN(3) == 0)
	m := w.meta(w.path(), len(data))
	m.Again, m.IfAbsent = w.rng.IntN(3) == 0, w.rng.IntN(12) == 0
	if w.rng.IntN(4) == 0 {
		m.Size = -1
	}
	if w.rng.IntN(4) == 0 {
		m.Want = ref
	}
	return w.send("upload", p, m, data, ref)
}

func (w *world) overwrite(p *person) *act {
	it := w.some(p)
	if it == nil {
		return nil
	}
	data, ref := w.content(w.rng.IntN(4) == 0)
	m := w.meta(it.path, len(data))
	m.Again = true
	return w.send("overwrite", p, m, data, ref)
}

// resend sends a damaged content again.
func (w *world) resend(p *person) *act {
	for _, it := range w.model.people[p.id].sorted() {
		if w.model.damaged[it.ref] {
			data := w.model.contents[it.ref]
			m := w.meta(it.path, len(data))
			m.Again = true
			return w.send("resend", p, m, data, it.ref)
		}
	}
	return nil
}

func (w *world) wrongHash(p *person) *act {
	data, _ := w.content(false)
	m := w.meta(w.path(), len(data))
	m.Want = sha256.Sum256([]byte("something else"))
	a := &act{name: "wrong hash", disk: true, refused: problem.Mismatch}
	if !w.model.granted(p.id, sources[m.Source]) {
		a.refused = problem.ConsentRequired
	}
	a.do = func() error {
		_, err := w.put(p.id, m, data)
		return err
	}
	return a
}

var errNotKnown = errors.New("the bytes are needed")

// known gives a name to a content that the person has, without its bytes.
func (w *world) known(p *person) *act {
	it := w.some(p)
	if it == nil || w.model.damaged[it.ref] {
		return nil
	}
	h, ref := w.model.people[p.id], it.ref
	m := w.meta(w.path(), len(w.model.contents[ref]))
	m.Want = ref
	var result ingest.Result
	a := &act{name: "known", disk: true, refused: w.refusal(p, m, ref)}
	a.do = func() error {
		g, err := w.in.Grant(w.ctx(), p.id, m)
		if err != nil {
			return err
		}
		r, known, err := w.in.Known(w.ctx(), g, m)
		if err == nil && !known {
			err = errNotKnown
		}
		result = r
		return err
	}
	a.effect = func() { h.put(m.Path, ref) }
	a.heard = func() { w.stored(h, result, ref) }
	return a
}

// beginUpload sends half of a file, to go on later.
func (w *world) beginUpload(p *person) *act {
	data, _ := w.content(w.rng.IntN(3) == 0)
	m := w.meta(w.path(), len(data))
	m.Again = true
	if w.rng.IntN(4) == 0 {
		m.Size = -1
	}
	x := &sending{user: p.id, path: m.Path, source: m.Source, content: data, sure: true}
	half := int64(len(data) / 2)
	var id string
	a := &act{name: "begin", disk: true}
	if !w.model.granted(p.id, sources[m.Source]) {
		a.refused = problem.ConsentRequired
	}
	a.do = func() error {
		g, err := w.in.Grant(w.ctx(), p.id, m)
		if err != nil {
			return err
		}
		i, err := w.in.Begin(w.ctx(), g, m)
		if err != nil {
			return err
		}
		defer i.Close()
		if err := i.Persist(w.ctx()); err != nil {
			return err
		}
		if _, err := i.Write(w.ctx(), 0, bytes.NewReader(data[:half])); err != nil {
			return err
		}
		if err := i.Checkpoint(w.ctx()); err != nil {
			return err
		}
		id = i.ID()
		return i.Close()
	}
	a.heard = func() {
		x.safe = half
		w.model.pending[id] = x
		w.model.uploads = append(w.model.uploads, id)
		if len(w.model.uploads) > 20 {
			w.forget(w.model.uploads[0])
		}
	}
	return a
}

// forget stops to look after an upload.
func (w *world) forget(id string) {
	delete(w.model.pending, id)
	w.model.uploads = slices.DeleteFunc(w.model.uploads, func(x string) bool { return x == id })
}

// goOn sends the rest of a file.
func (w *world) goOn(*person) *act {
	if len(w.model.uploads) == 0 {
		return nil
	}
	id := w.model.uploads[w.rng.IntN(len(w.model.uploads))]
	x := w.model.pending[id]
	h, ref := w.model.people[x.user], storage.Ref(sha256.Sum256(x.content))
	info, err := w.in.Describe(w.ctx(), x.user, id)
	if problem.KindOf(err) == problem.NotFound && !x.sure || err == nil && info.Finished != nil {
		w.forget(id)
		return nil
	}
	w.must(err)
	var result ingest.Result
	a := &act{name: "go on", disk: true}
	if !w.model.granted(x.user, sources[x.source]) {
		a.refused = problem.ConsentRequired
	}
	a.do = func() error {
		g, err := w.in.Grant(w.ctx(), x.user, ingest.Meta{Source: x.source})
		if err != nil {
			return err
		}
		i, err := w.in.Resume(w.ctx(), g, id)
		if err != nil {
			return err
		}
		defer i.Close()
		at := i.Offset()
		if at < x.safe {
			w.wrong("upload %s goes on at %d, and %d were safe", id, at, x.safe)
		}
		if _, err := i.Write(w.ctx(), at, bytes.NewReader(x.content[at:])); err != nil {
			return err
		}
		if i.Meta().Size < 0 {
			if err := i.SetSize(int64(len(x.content))); err != nil {
				return err
			}
		}
		result, err = i.Finish(w.ctx())
		return err
	}
	a.effect = func() { h.put(x.path, ref); x.sure = false }
	a.heard = func() { w.stored(h, result, ref); w.forget(id) }
	a.doubt = func() { x.sure = false } // the cut may have come between the two halves of a rename
	return a
}

func (w *world) cancel(*person) *act {
	if len(w.model.uploads) == 0 {
		return nil
	}
	id := w.model.uploads[0]
	x := w.model.pending[id]
	if !x.sure {
		return nil
	}
	a := &act{name: "cancel", disk: true}
	a.do = func() error { return w.in.Cancel(w.ctx(), x.user, id) }
	a.heard = func() { w.over(id) }
	a.doubt = func() { x.sure = false }
	return a
}

// over looks from now on that an upload stays away.
func (w *world) over(id string) {
	w.forget(id)
	if w.model.ended = append(w.model.ended, id); len(w.model.ended) > 10 {
		w.model.ended = w.model.ended[1:]
	}
}

// under are the uploads that go when a person says no to a purpose.
func (w *world) under(p *person, purpose consent.Purpose) (ids []string) {
	for _, id := range w.model.uploads {
		if x := w.model.pending[id]; x.user == p.id && (purpose == consent.WholePolicy || sources[x.source] == purpose) {
			ids = append(ids, id)
		}
	}
	return ids
}

// refuse lets what is under way end with a no; in doubt it may have.
func (w *world) refuse(a *act, p *person, purpose consent.Purpose) {
	effect := a.effect
	a.effect = func() {
		effect()
		for _, id := range w.under(p, purpose) {
			if w.model.pending[id].sure {
				w.over(id)
			} else { // it may have been finished before
				w.forget(id)
			}
		}
	}
	a.doubt = func() {
		for _, id := range w.under(p, purpose) {
			w.model.pending[id].sure = false
		}
	}
}

// What people do with their files.

// some is one of a person's files; nil: they have none.
func (w *world) some(p *person) *item {
	list := w.model.people[p.id].sorted()
	if len(list) == 0 {
		return nil
	}
	return list[w.rng.IntN(len(list))]
}

func (w *world) look(p *person) *act {
	h, path := w.model.people[p.id], w.path()
	return &act{name: "look", do: func() error {
		got, err := w.cat.Lookup(w.ctx(), p.id, path)
		it := h.live[path]
		if it == nil {
			if problem.KindOf(err) != problem.NotFound {
				w.wrong("%s is there: %v", path, err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if difference := w.differs(p, it, got); difference != "" {
			w.wrong("%s", difference)
		}
		data, err := w.read(got.Ref)
		if w.model.damaged[got.Ref] {
			return nil
		}
		if err == nil && !bytes.Equal(data, w.model.contents[got.Ref]) {
			w.wrong("%s has other bytes", path)
		}
		known, kerr := w.cat.Known(w.ctx(), p.id, []storage.Ref{got.Ref})
		if len(known) != 1 {
			w.wrong("%s is not known: %v", path, kerr)
		}
		return err
	}}
}

func (w *world) move(p *person) *act {
	h, it, to := w.model.people[p.id], w.some(p), w.path()
	if it == nil {
		return nil
	}
	a := &act{name: "move", effect: func() { h.move(it, to) }}
	if other := h.live[to]; other != nil && other != it {
		a.refused = problem.Conflict
	}
	a.do = func() error {
		_, err := w.cat.Move(w.ctx(), p.id, it.id, to)
		return err
	}
	return a
}

func (w *world) trash(p *person) *act {
	h, it := w.model.people[p.id], w.some(p)
	if it == nil {
		return nil
	}
	return &act{name: "trash", effect: func() { h.throw(it) }, do: func() error { return w.cat.Trash(w.ctx(), p.id, it.id) }}
}

func (w *world) trashFolder(p *person) *act {
	h, folder := w.model.people[p.id], fmt.Sprintf("DCIM/%d", w.rng.IntN(5))
	var all []*item
	for _, it := range h.sorted() {
		if catalog.Base(it.path) != "" && it.path[:len(folder)] == folder {
			all = append(all, it)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &act{name: "trash folder", do: func() error { return w.cat.TrashFolder(w.ctx(), p.id, folder) }, effect: func() {
		for _, it := range all {
			h.throw(it)
		}
	}}
}

func (w *world) thrown(p *person) *item {
	list := w.model.people[p.id].trash
	if len(list) == 0 {
		return nil
	}
	return list[w.rng.IntN(len(list))]
}

func (w *world) restore(p *person) *act {
	h, it := w.model.people[p.id], w.thrown(p)
	if it == nil {
		return nil
	}
	return &act{name: "restore", effect: func() { h.restore(it) }, do: func() error {
		_, err := w.cat.Restore(w.ctx(), p.id, it.id)
		return err
	}}
}

func (w *world) purge(p *person) *act {
	h, it := w.model.people[p.id], w.thrown(p)
	if live := w.some(p); live != nil && w.rng.IntN(10) == 0 {
		return &act{name: "purge", refused: problem.Conflict, do: func() error { return w.cat.Purge(w.ctx(), p.id, live.id) }}
	}
	if it == nil {
		return nil
	}
	return &act{name: "purge", effect: func() { h.purge(it) }, do: func() error { return w.cat.Purge(w.ctx(), p.id, it.id) }}
}

// What people decide, and how they come in.

func (w *world) decide(p *person) *act {
	return w.answer(p, purposes[w.rng.IntN(len(purposes))], w.rng.IntN(4) > 0)
}

// accept accepts the policy, or takes that back.
func (w *world) accept(p *person) *act { return w.answer(p, consent.Storage, w.rng.IntN(4) > 0) }

func (w *world) answer(p *person, purpose consent.Purpose, yes bool) *act {
	m := w.model
	a := &act{name: "decide", do: func() error {
		_, err := w.ledger.Record(w.ctx(), w.decision(p, purpose, yes))
		return err
	}}
	a.effect = func() {
		m.consents[consentKey{p.id, purpose}] = answer{yes, m.revision}
		if yes {
			m.said[p.id] = m.revision
		}
		if yes && purpose == consent.Storage {
			delete(m.declined, p.id)
		}
	}
	if yes && purpose != consent.Storage && m.refuses(p.id) {
		a.refused = problem.ConsentRequired
	}
	if !yes {
		w.refuse(a, p, purpose)
	}
	return a
}

// decline says no to the policy as a whole: no consent of before ever comes back.
func (w *world) decline(p *person) *act {
	m := w.model
	a := &act{name: "decline", do: func() error {
		_, err := w.ledger.Record(w.ctx(), w.decision(p, consent.WholePolicy, false))
		return err
	}, effect: func() {
		for _, purpose := range append([]consent.Purpose{consent.Storage}, purposes...) {
			m.consents[consentKey{p.id, purpose}] = answer{}
		}
		m.declined[p.id] = m.revision
	}}
	w.refuse(a, p, consent.WholePolicy)
	return a
}

const mostSessions = 30 // that are looked after

func (w *world) opened(secret string, s *session) {
	w.model.sessions[secret] = s
	w.model.order = append(w.model.order, secret)
}

func (w *world) makeToken(p *person) *act {
	if len(w.model.order) >= mostSessions {
		return w.endOne(w.model.order[0])
	}
	var made account.Token
	var secret string
	return &act{name: "token", do: func() (err error) {
		made, secret, err = w.acc.CreateToken(w.ctx(), p.session, "app", ident.ScopeFiles, 0)
		return err
	}, heard: func() {
		w.opened(secret, &session{principal: p.session, id: int64(made.ID), live: true, sure: true})
	}}
}

func (w *world) signIn(p *person) *act {
	var s account.Session
	return &act{name: "sign in", do: func() (err error) {
		s, err = w.acc.Login(w.ctx(), account.LoginRequest{Username: p.name, Password: password, Remote: "192.0.2.1"})
		return err
	}, heard: func() {
		p.session = s.Principal
		w.opened(s.Token, &session{principal: s.Principal, live: true, sure: true})
	}}
}

func (w *world) revoke(*person) *act {
	if len(w.model.order) == 0 {
		return nil
	}
	return w.endOne(w.model.order[w.rng.IntN(len(w.model.order))])
}

// endOne ends a session or an app token. What is ended already, and old, is
// forgotten.
func (w *world) endOne(secret string) *act {
	s := w.model.sessions[secret]
	if !s.live {
		if w.model.order[0] == secret {
			w.model.order = w.model.order[1:]
			delete(w.model.sessions, secret)
		}
		return nil
	}
	owner := w.people[slices.IndexFunc(w.people, func(p *person) bool { return p.id == s.principal.User })]
	if !s.sure || s.id == 0 && s.principal.Session == owner.session.Session {
		return nil // they still need it
	}
	// A cut may show the end that nobody heard of: then it is one.
	return &act{name: "revoke", heard: func() { s.live = false }, doubt: func() {
		_, err := w.acc.Authenticate(w.ctx(), secret)
		s.live = err == nil
	}, do: func() error {
		if s.id != 0 {
			return w.acc.RevokeToken(w.ctx(), owner.session, account.TokenID(s.id))
		}
		return w.acc.Logout(w.ctx(), s.principal)
	}}
}

func (w *world) present(*person) *act {
	if len(w.model.order) == 0 {
		return nil
	}
	secret := w.model.order[w.rng.IntN(len(w.model.order))]
	return &act{name: "present", do: func() error { w.checkSession(secret); return nil }}
}

// What the box does by itself, and what time does.

func (w *world) sweep(*person) *act {
	return &act{name: "sweep", disk: true, do: func() error {
		_, err := w.in.Sweep(w.ctx())
		if err != nil && w.sick && !w.disk.Pending() {
			return nil // the intent log waits for the next start, and so does what nobody keeps
		}
		return err
	}}
}

// held is one of the contents that somebody keeps.
func (w *world) held() (ref storage.Ref, ok bool) {
	if it := w.some(w.people[w.rng.IntN(len(w.people))]); it != nil {
		return it.ref, true
	}
	return ref, false
}

func (w *world) flip(*person) *act {
	ref, ok := w.held()
	if !ok || w.model.damaged[ref] {
		return nil
	}
	name := fmt.Sprintf("blobs/%s/%s", ref.String()[:2], ref)
	return &act{name: "flip", do: func() error {
		w.model.damaged[ref] = true
		delete(w.model.hidden, ref)
		if at := w.rng.IntN(len(w.model.contents[ref])); w.rng.IntN(2) == 0 {
			return w.disk.Corrupt(name, int64(at))
		}
		w.model.hidden[ref] = true
		return w.disk.Rot(name, func(b []byte) { b[w.rng.IntN(len(b))] ^= 1 << w.rng.IntN(8) })
	}}
}

func (w *world) inspect(*person) *act {
	ref, ok := w.held()
	if !ok {
		return nil
	}
	return &act{name: "inspect", disk: true, do: func() error {
		damage, err := w.store.Inspect(w.ctx(), ref, int64(len(w.model.contents[ref])), nil)
		if err == nil && damage != storage.Sound && !w.model.damaged[ref] {
			if w.disk.Pending() { // a call failed meanwhile
				w.wrong("a sound content is called %s", damage)
			}
		}
		return err
	}}
}

// scrub reads everything back and heals what the second copy has.
func (w *world) scrub(*person) *act {
	a := &act{name: "scrub"}
	a.do = func() error {
		ctx, stop := context.WithCancel(w.ctx())
		ended := make(chan struct{})
		go func() { w.health.Run(ctx); close(ended) }()
		number := w.health.Begin(true)
		for p := w.health.Progress(); p.Number < number || p.Running; p = w.health.Progress() {
			time.Sleep(time.Millisecond)
		}
		stop()
		<-ended
		if p := w.health.Progress(); p.Error != "" {
			return errors.New(p.Error)
		}
		return nil
	}
	a.heard = func() {
		held := w.model.refs()
		for ref := range w.model.damaged {
			err := w.store.Verify(w.ctx(), ref)
			switch {
			case !held[ref]:
				delete(w.model.damaged, ref)
			case copied(ref) && err != nil:
				w.wrong("%s was not healed: %v", ref, err)
			case err == nil:
				delete(w.model.damaged, ref)
			default:
				if doubted, derr := w.cat.Doubted(w.ctx(), ref); !doubted {
					w.wrong("%s is damaged, and nobody knows: %v", ref, errors.Join(err, derr))
				}
			}
		}
	}
	return a
}

func (w *world) turnClock(*person) *act {
	jump := []time.Duration{time.Hour, 26 * time.Hour, 9 * 24 * time.Hour, -time.Hour, -26 * time.Hour}[w.rng.IntN(5)]
	return &act{name: "clock", do: func() error {
		w.ahead.Add(int64(jump))
		w.model.jump()
		return nil
	}}
}

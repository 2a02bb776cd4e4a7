package simulation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// A model is what must be, by all that the box was asked and answered.
type model struct {
	people   map[ident.UserID]*holdings
	consents map[consentKey]answer
	revision int                  // of the policy, counted from 0
	said     map[ident.UserID]int // the newest revision that a person said yes under, to whatever
	declined map[ident.UserID]int // the revision that a person declined; none: they did not, or accepted it since
	sessions map[string]*session  // and app tokens, by what their holder has
	order    []string             // of sessions, oldest first
	pending  map[string]*sending  // by upload
	uploads  []string             // of pending, oldest first
	ended    []string             // uploads that were cancelled
	contents map[storage.Ref][]byte
	failed   []storage.Ref // uploads of these were not answered, or by an error: they are sent again
	// damaged contents: their bytes were changed on the disk, and nobody has healed
	// them for certain. Of hidden ones the page cache still has the good bytes.
	damaged, hidden map[storage.Ref]bool
}

type consentKey struct {
	user    ident.UserID
	purpose consent.Purpose
}

type session struct {
	principal ident.Principal
	id        int64 // of an app token
	live      bool
	sure      bool // the clock has not jumped since
}

// sending is a resumable upload as its client sees it.
type sending struct {
	user    ident.UserID
	path    string
	source  string
	content []byte
	safe    int64 // the box said that these bytes are
	sure    bool  // it is there: it did not expire, and nobody tried to finish it
}

// holdings are what a person keeps.
type holdings struct {
	live  map[string]*item // by path
	trash []*item
	gone  map[storage.Ref]bool // once deleted for good
}

type item struct {
	id       ident.ItemID // 0: nobody has heard it yet
	path     string
	ref      storage.Ref
	versions []storage.Ref // newest first
}

// An answer is the last one about a purpose, and the revision of the policy that it was given under.
type answer struct {
	yes      bool
	revision int
}

// granted says whether a consent is in force: it was given under this revision of the
// policy, or this one was accepted since, and no policy was declined since.
func (m *model) granted(u ident.UserID, purpose consent.Purpose) bool {
	a, core := m.consents[consentKey{u, purpose}], m.consents[consentKey{u, consent.Storage}]
	return a.yes && (a.revision == m.revision || core.yes && core.revision == m.revision)
}

// refuses says whether a person declined the policy in force.
func (m *model) refuses(u ident.UserID) bool {
	r, declined := m.declined[u]
	return declined && r == m.revision
}

// limited says whether a person is left with what they have: no yes of theirs is one to
// the policy in force. Everybody accepted the first one.
func (m *model) limited(u ident.UserID) bool {
	return m.refuses(u) || m.said[u] != m.revision
}

func newModel() *model {
	return &model{
		people: map[ident.UserID]*holdings{}, consents: map[consentKey]answer{}, declined: map[ident.UserID]int{}, said: map[ident.UserID]int{}, sessions: map[string]*session{},
		pending: map[string]*sending{}, contents: map[storage.Ref][]byte{}, damaged: map[storage.Ref]bool{}, hidden: map[storage.Ref]bool{},
	}
}

func newHoldings() *holdings {
	return &holdings{live: map[string]*item{}, gone: map[storage.Ref]bool{}}
}

// Name and Open make the model the second copy of the box, which has three of four
// contents.
func (m *model) Name() string { return "model" }

func (m *model) Open(_ context.Context, ref storage.Ref) (io.ReadCloser, error) {
	data, ok := m.contents[ref]
	if !ok || !copied(ref) {
		return nil, storage.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func copied(ref storage.Ref) bool { return ref[0]%4 != 0 }

// powerCut forgets what a cut may have undone or healed.
func (m *model) powerCut() {}

// jump notes that the clock moved far: what expires may have.
func (m *model) jump() {
	for _, s := range m.sessions {
		s.sure = s.sure && s.id != 0 // app tokens do not expire
	}
	for _, s := range m.pending {
		s.sure = false
	}
}

// put gives path a content.
func (h *holdings) put(path string, ref storage.Ref) *item {
	it := h.live[path]
	switch {
	case it == nil:
		it = &item{path: path, ref: ref}
		h.live[path] = it
	case it.ref != ref:
		it.versions = append([]storage.Ref{it.ref}, it.versions...)
		it.ref = ref
	}
	return it
}

func (h *holdings) move(it *item, to string) {
	delete(h.live, it.path)
	it.path = to
	h.live[to] = it
}

func (h *holdings) throw(it *item) {
	delete(h.live, it.path)
	h.trash = append(h.trash, it)
}

func (h *holdings) restore(it *item) {
	h.trash = slices.DeleteFunc(h.trash, func(x *item) bool { return x == it })
	it.path = h.free(it.path)
	h.live[it.path] = it
}

// free is the path that a file gets that comes back to a name.
func (h *holdings) free(path string) string {
	base := strings.TrimSuffix(path, ".jpg")
	try := path
	for n := 2; h.live[try] != nil; n++ {
		try = fmt.Sprintf("%s (%d).jpg", base, n)
	}
	return try
}

func (h *holdings) purge(it *item) {
	h.trash = slices.DeleteFunc(h.trash, func(x *item) bool { return x == it })
	for _, ref := range append(it.versions, it.ref) {
		h.gone[ref] = true
	}
}

func (it *item) has(ref storage.Ref) bool { return it.ref == ref || slices.Contains(it.versions, ref) }

// keeps tells whether somebody keeps a content outside of the trash.
func (h *holdings) keeps(ref storage.Ref) bool {
	for _, it := range h.live {
		if it.has(ref) {
			return true
		}
	}
	return false
}

// declines tells whether a backup of a content is refused: its owner deleted it.
func (h *holdings) declines(ref storage.Ref) bool {
	return !h.keeps(ref) && (h.gone[ref] || slices.ContainsFunc(h.trash, func(it *item) bool { return it.has(ref) }))
}

// refs are all contents that anybody keeps.
func (m *model) refs() map[storage.Ref]bool {
	refs := map[storage.Ref]bool{}
	for _, h := range m.people {
		for _, it := range h.all() {
			refs[it.ref] = true
			for _, ref := range it.versions {
				refs[ref] = true
			}
		}
	}
	return refs
}

// sorted is what is live, by path, so that the same seed does the same.
func (h *holdings) sorted() []*item {
	return slices.SortedFunc(maps.Values(h.live), func(a, b *item) int { return strings.Compare(a.path, b.path) })
}

func (h *holdings) all() []*item { return append(h.sorted(), h.trash...) }

// compare asks the box for all that people keep, and says how it differs. Items
// whose id nobody heard get it.
func (w *world) compare() (difference string) {
	for _, p := range w.people {
		h := w.model.people[p.id]
		live, trash := w.list(p.id, false), w.list(p.id, true)
		if len(live) != len(h.live) || len(trash) != len(h.trash) {
			return fmt.Sprintf("%s has %d files and %d in the trash, must have %d and %d", p.name, len(live), len(trash), len(h.live), len(h.trash))
		}
		for _, got := range live {
			it := h.live[got.Path]
			if it == nil {
				return fmt.Sprintf("%s has %s", p.name, got.Path)
			}
			if difference := w.differs(p, it, got); difference != "" {
				return difference
			}
		}
		for _, got := range trash {
			i := slices.IndexFunc(h.trash, func(it *item) bool { return it.id == got.ID })
			if i < 0 {
				return fmt.Sprintf("%s has %s in the trash", p.name, got.Path)
			}
			if difference := w.differs(p, h.trash[i], got); difference != "" {
				return difference
			}
		}
	}
	return ""
}

func (w *world) differs(p *person, it *item, got catalog.Item) string {
	if it.id == 0 {
		it.id = got.ID
	}
	if got.ID != it.id || got.Path != it.path || got.Ref != it.ref {
		return fmt.Sprintf("%s has %s with %s, must have %s with %s", p.name, got.Path, got.Ref, it.path, it.ref)
	}
	if len(it.versions) == 0 && (w.step+int(it.ref[0]))%4 > 0 {
		return "" // there are many of those
	}
	versions, err := w.cat.Versions(w.ctx(), p.id, it.id)
	w.must(err)
	if !slices.EqualFunc(versions, it.versions, func(v catalog.Version, ref storage.Ref) bool { return v.Ref == ref }) {
		return fmt.Sprintf("%s has %d versions of %s, must have %d", p.name, len(versions), it.path, len(it.versions))
	}
	return ""
}

func (w *world) list(u ident.UserID, trash bool) (list []catalog.Item) {
	q := catalog.Query{Recursive: !trash, Trash: trash}
	for {
		page, err := w.cat.List(w.ctx(), u, q)
		w.must(err)
		list = append(list, page.Items...)
		if page.Next == "" {
			return list
		}
		q.Cursor = page.Next
	}
}

// check demands everything of the box that the model knows.
func (w *world) check() {
	if difference := w.compare(); difference != "" {
		w.wrong("%s", difference)
	}
	w.checkContents()
	w.checkConsents()
	for _, token := range w.model.order {
		w.checkSession(token)
	}
	for _, id := range w.model.uploads {
		w.checkPending(id)
	}
	for _, id := range w.model.ended {
		for _, p := range w.people {
			if _, err := w.in.Describe(w.ctx(), p.id, id); problem.KindOf(err) != problem.NotFound {
				w.wrong("upload %s was cancelled: %v", id, err)
			}
		}
	}
}

// checkContents reads everything that anybody keeps.
func (w *world) checkContents() {
	for ref := range w.model.refs() {
		data, err := w.read(ref)
		if w.model.damaged[ref] {
			continue
		}
		if err != nil {
			w.wrong("a content that is kept cannot be read: %v", err)
		}
		if sha256.Sum256(data) != ref || !bytes.Equal(data, w.model.contents[ref]) {
			w.wrong("content %s has other bytes", ref)
		}
	}
}

func (w *world) checkConsents() {
	for _, p := range w.people {
		if w.model.limited(p.id) != (w.ledger.Limited(p.id) != nil) {
			w.wrong("%s is %s, must be left with their data alone: %v", p.name, w.ledger.Standing(p.id), w.model.limited(p.id))
		}
		states, err := w.ledger.State(w.ctx(), p.id)
		w.must(err)
		for _, s := range states {
			if want := w.model.granted(p.id, s.Purpose); (s.State == consent.Granted) != want {
				w.wrong("%s's consent to %s is %s, must be granted: %v", p.name, s.Purpose, s.State, want)
			}
		}
	}
}

func (w *world) checkSession(token string) {
	s := w.model.sessions[token]
	_, err := w.acc.Authenticate(w.ctx(), token)
	switch {
	case err != nil && problem.KindOf(err) != problem.Unauthenticated:
		w.must(err)
	case err == nil && !s.live:
		w.wrong("session %d was ended, and opens the box", s.principal.Session)
	case err != nil && s.live && s.sure:
		w.wrong("session %d does not open the box", s.principal.Session)
	}
}

func (w *world) checkPending(id string) {
	x := w.model.pending[id]
	info, err := w.in.Describe(w.ctx(), x.user, id)
	if problem.KindOf(err) == problem.NotFound && !x.sure {
		return
	}
	w.must(err)
	if info.Finished == nil && (info.Offset < x.safe || info.Offset > int64(len(x.content))) {
		w.wrong("upload %s stands at %d of %d, and %d were safe", id, info.Offset, len(x.content), x.safe)
	}
}

// verify demands the chains and the database to be whole.
func (w *world) verify() {
	records, err := w.audit.Verify(w.ctx())
	w.must(err)
	decisions, err := w.ledger.Verify(w.ctx())
	w.must(err)
	if records.Bad != nil || decisions.Bad != nil {
		w.wrong("a chain does not hold: %+v, %+v", records.Bad, decisions.Bad)
	}
	problems, err := w.db.Check(w.ctx())
	w.must(err)
	if len(problems) > 0 {
		w.wrong("the database: %q", problems)
	}
}

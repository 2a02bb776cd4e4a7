package catalog_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// The model is what the catalogue is meant to be, written so that it is
// obviously right: maps of names, counted from scratch every time.
type model struct {
	items map[ident.ItemID]*modelItem
	dirs  map[string]bool // of existing folders, "" not among them
}

type modelItem struct {
	path     string
	content  string
	versions []string // oldest first
	trashed  bool
}

func newModel() *model {
	return &model{items: map[ident.ItemID]*modelItem{}, dirs: map[string]bool{}}
}

func (m *model) at(path string) (ident.ItemID, *modelItem) {
	for id, it := range m.items {
		if it.path == path && !it.trashed {
			return id, it
		}
	}
	return 0, nil
}

func parents(path string) (list []string) {
	for i, c := range path {
		if c == '/' {
			list = append(list, path[:i])
		}
	}
	return list
}

func dir(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

// blocked reports whether a folder chain cannot be made because of a file.
func (m *model) blocked(folders []string) bool {
	return slices.ContainsFunc(folders, func(p string) bool { _, it := m.at(p); return it != nil })
}

func (m *model) mkdirs(folders []string) {
	for _, p := range folders {
		m.dirs[p] = true
	}
}

func (m *model) taken(path string) bool { _, it := m.at(path); return it != nil || m.dirs[path] }

// counts are all the numbers that follow from the rows.
func (m *model) counts() (u catalog.Usage, live, any map[string]bool) {
	live, any = map[string]bool{}, map[string]bool{}
	for _, it := range m.items {
		if !it.trashed {
			u.Items++
		}
		for _, c := range append(slices.Clone(it.versions), it.content) {
			u.Bytes += int64(len(c))
			any[c] = true
			if !it.trashed {
				live[c] = true
			}
		}
	}
	for c := range any {
		u.Distinct += int64(len(c))
	}
	u.Quota = -1
	return u, live, any
}

type walk struct {
	t     *testing.T
	rng   *rand.Rand
	box   *box
	users map[ident.UserID]*model
	dead  map[string]bool
	trace []string
}

var (
	walkDirs  = []string{"", "a", "a/b", "a/b/c", "b", "ab", "é"}
	walkNames = []string{"x.jpg", "y", "a", "b", "X.jpg"}
)

func walkContents() (list []string) {
	for i := range 12 {
		list = append(list, strings.Repeat(string(rune('A'+i)), i*3)) // the first is empty
	}
	return list
}

func seed(t *testing.T) uint64 {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("YUNBOX_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("YUNBOX_SEED=%d runs it again", n)
	return n
}

func TestCatalogueAgreesWithModel(t *testing.T) { // R01 R13 R27
	n := seed(t)
	w := &walk{
		t: t, rng: rand.New(rand.NewPCG(n, 1)), box: open(t), dead: map[string]bool{},
		users: map[ident.UserID]*model{ann: newModel(), bob: newModel()},
	}
	for i := range 700 {
		w.step()
		if i%5 == 0 || t.Failed() {
			w.compare()
		}
		if t.Failed() {
			t.Fatalf("the last steps:\n%s", strings.Join(w.trace[max(0, len(w.trace)-12):], "\n"))
		}
	}
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

func (w *walk) path() string {
	d, n := pick(w.rng, walkDirs), pick(w.rng, walkNames)
	if d == "" {
		return n
	}
	return d + "/" + n
}

// someItem returns an id of u, or one of somebody else or of nobody.
func (w *walk) someItem(u ident.UserID) (ident.ItemID, *modelItem) {
	m := w.users[u]
	if w.rng.IntN(20) == 0 {
		for id := range w.users[ann+bob-u].items {
			return id, nil
		}
		return 12345, nil
	}
	ids := slices.Sorted(maps.Keys(m.items))
	if len(ids) == 0 {
		return 12345, nil
	}
	id := pick(w.rng, ids)
	return id, m.items[id]
}

// verdict compares an error with the kind that the model expects, "" for none.
func (w *walk) verdict(want problem.Kind, err error, format string, args ...any) bool {
	w.trace = append(w.trace, fmt.Sprintf(format, args...)+fmt.Sprintf(" → %v", err))
	if got := problem.KindOf(err); got != want {
		w.t.Errorf(format+": %v, the model says %q", append(args, err, want)...)
		return false
	}
	return err == nil
}

func (w *walk) step() {
	u := pick(w.rng, []ident.UserID{ann, ann, bob})
	switch w.rng.IntN(20) {
	default:
		w.add(u)
	case 0, 1, 2:
		w.trash(u)
	case 3, 4:
		w.restore(u)
	case 5, 6, 7:
		w.purge(u)
	case 8, 9:
		w.move(u)
	case 10:
		w.moveFolder(u)
	case 11:
		w.makeFolder(u)
	case 12:
		w.trashFolder(u)
	case 13, 14:
		w.copy(u)
	case 15:
		w.date(u)
	}
}

func (w *walk) add(u ident.UserID) {
	m, path, content := w.users[u], w.path(), pick(w.rng, walkContents())
	want := problem.Kind("")
	if m.blocked(parents(path)) || m.dirs[path] {
		want = problem.Conflict
	}
	_, live, _ := m.counts()
	a, err := w.box.try(entry(u, path, content))
	if !w.verdict(want, err, "%d add %s = %.3s", u, path, content) {
		return
	}
	delete(w.dead, content)
	m.mkdirs(parents(path))
	outcome := catalog.Created
	if _, it := m.at(path); it == nil {
		m.items[a.Item.ID] = &modelItem{path: path, content: content}
	} else if it.content == content {
		outcome = catalog.Unchanged
	} else {
		outcome = catalog.Replaced
		it.versions, it.content = append(it.versions, it.content), content
	}
	if a.Outcome != outcome || a.Had != live[content] {
		w.t.Errorf("%s, had %v; the model says %s, %v", a.Outcome, a.Had, outcome, live[content])
	}
}

func (w *walk) copy(u ident.UserID) {
	m, to := w.users[u], w.path()
	id, it := w.someItem(u)
	want := problem.Kind("")
	switch {
	case it == nil:
		want = problem.NotFound
	case it.trashed || m.blocked(parents(to)) || m.dirs[to]:
		want = problem.Conflict
	}
	var a catalog.Added
	err := w.box.db.Write(w.t.Context(), func(tx *db.Tx) (err error) {
		a, err = w.box.CopyIn(tx, u, id, to, 9)
		return err
	})
	if !w.verdict(want, err, "%d copy %v to %s", u, it, to) {
		return
	}
	m.mkdirs(parents(to))
	if _, there := m.at(to); there == nil {
		m.items[a.Item.ID] = &modelItem{path: to, content: it.content}
	} else if there.content != it.content {
		there.versions, there.content = append(there.versions, there.content), it.content
	}
}

// date changes nothing that the model knows of.
func (w *walk) date(u ident.UserID) {
	id, it := w.someItem(u)
	want := problem.Kind("")
	switch {
	case it == nil:
		want = problem.NotFound
	case it.trashed:
		want = problem.Conflict
	}
	when := time.UnixMilli(int64(w.rng.IntN(3)))
	err := w.box.db.Write(w.t.Context(), func(tx *db.Tx) error { return w.box.SetMTimeIn(tx, u, id, when) })
	if !w.verdict(want, err, "%d date %v", u, it) {
		return
	}
	if got, err := w.box.Item(w.t.Context(), u, id); err != nil || !got.MTime.Equal(when) {
		w.t.Errorf("dated %s, %v", got.MTime, err)
	}
}

func (w *walk) trash(u ident.UserID) {
	id, it := w.someItem(u)
	want := problem.Kind("")
	if it == nil {
		want = problem.NotFound
	}
	if w.verdict(want, w.box.Trash(w.t.Context(), u, id), "%d trash %v", u, it) {
		it.trashed = true
	}
}

func (w *walk) restore(u ident.UserID) {
	m := w.users[u]
	id, it := w.someItem(u)
	want := problem.Kind("")
	if it == nil {
		want = problem.NotFound
	}
	got, err := w.box.Restore(w.t.Context(), u, id)
	if !w.verdict(want, err, "%d restore %v", u, it) || !it.trashed {
		return
	}
	folder := dir(it.path)
	for folder != "" && m.blocked(append(parents(folder), folder)) {
		folder = dir(folder)
	}
	name := it.path[len(dir(it.path)):]
	name = strings.TrimPrefix(name, "/")
	if folder != "" {
		m.mkdirs(append(parents(folder), folder))
		folder += "/"
	}
	path := folder + name
	for n := 2; m.taken(path); n++ {
		stem, ext := name, ""
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			stem, ext = name[:i], name[i:]
		}
		path = fmt.Sprintf("%s%s (%d)%s", folder, stem, n, ext)
	}
	it.path, it.trashed = path, false
	if got.Path != path {
		w.t.Errorf("restored as %q, the model says %q", got.Path, path)
	}
}

func (w *walk) purge(u ident.UserID) {
	m := w.users[u]
	id, it := w.someItem(u)
	want := problem.Kind("")
	switch {
	case it == nil:
		want = problem.NotFound
	case !it.trashed:
		want = problem.Conflict
	}
	if !w.verdict(want, w.box.Purge(w.t.Context(), u, id), "%d purge %v", u, it) {
		return
	}
	delete(m.items, id)
	_, _, anns := w.users[ann].counts()
	_, _, bobs := w.users[bob].counts()
	for _, c := range append(it.versions, it.content) {
		if !anns[c] && !bobs[c] {
			w.dead[c] = true
		}
	}
}

func (w *walk) move(u ident.UserID) {
	m, to := w.users[u], w.path()
	id, it := w.someItem(u)
	want := problem.Kind("")
	switch {
	case it == nil:
		want = problem.NotFound
	case it.trashed:
		want = problem.Conflict
	case it.path == to:
	case m.blocked(parents(to)) || m.taken(to):
		want = problem.Conflict
	}
	_, err := w.box.Move(w.t.Context(), u, id, to)
	if w.verdict(want, err, "%d move %v to %s", u, it, to) {
		m.mkdirs(parents(to))
		it.path = to
	}
}

func (w *walk) moveFolder(u ident.UserID) {
	m, from, to := w.users[u], pick(w.rng, walkDirs[1:]), w.path()
	want := problem.Kind("")
	switch {
	case from == to:
	case strings.HasPrefix(to, from+"/"):
		want = problem.Invalid
	case !m.dirs[from]:
		want = problem.NotFound
	case m.blocked(parents(to)) || m.taken(to):
		want = problem.Conflict
	}
	if !w.verdict(want, w.box.MoveFolder(w.t.Context(), u, from, to), "%d move folder %s to %s", u, from, to) || from == to {
		return
	}
	m.mkdirs(parents(to))
	for d := range maps.Clone(m.dirs) {
		if d == from || strings.HasPrefix(d, from+"/") {
			delete(m.dirs, d)
			m.dirs[to+d[len(from):]] = true
		}
	}
	for _, it := range m.items {
		if !it.trashed && strings.HasPrefix(it.path, from+"/") {
			it.path = to + it.path[len(from):]
		}
	}
}

func (w *walk) makeFolder(u ident.UserID) {
	m, path := w.users[u], w.path()
	want := problem.Kind("")
	if m.blocked(append(parents(path), path)) {
		want = problem.Conflict
	}
	_, err := w.box.MakeFolder(w.t.Context(), u, path)
	if w.verdict(want, err, "%d make folder %s", u, path) {
		m.mkdirs(append(parents(path), path))
	}
}

func (w *walk) trashFolder(u ident.UserID) {
	m, path := w.users[u], pick(w.rng, walkDirs[1:])
	want := problem.Kind("")
	if !m.dirs[path] {
		want = problem.NotFound
	}
	if !w.verdict(want, w.box.TrashFolder(w.t.Context(), u, path), "%d trash folder %s", u, path) {
		return
	}
	for d := range maps.Clone(m.dirs) {
		if d == path || strings.HasPrefix(d, path+"/") {
			delete(m.dirs, d)
		}
	}
	for _, it := range m.items {
		if strings.HasPrefix(it.path, path+"/") {
			it.trashed = true
		}
	}
}

// compare asks the catalogue everything and the model the same.
func (w *walk) compare() {
	ctx, t := w.t.Context(), w.t
	total := catalog.Totals{}
	everything := map[string]bool{}
	maps.Copy(everything, w.dead)
	var refs []storage.Ref
	for _, c := range walkContents() {
		refs = append(refs, entry(ann, "", c).Ref)
	}
	for u, m := range w.users {
		usage, live, any := m.counts()
		got, err := w.box.Usage(ctx, u)
		seq := got.Seq
		got.Seq = 0
		if err != nil || got != usage {
			t.Errorf("usage of %d: %+v, %v; the model says %+v", u, got, err, usage)
		}
		if seq > 0 {
			total.Users++
		}
		total.Items, total.LogicalBytes = total.Items+usage.Items, total.LogicalBytes+usage.Bytes
		maps.Copy(everything, any)
		known, err := w.box.Known(ctx, u, refs)
		if err != nil || len(known) != len(live) {
			t.Errorf("%d knows %d contents, %v; the model says %d", u, len(known), err, len(live))
		}
		for _, c := range walkContents() {
			if slices.Contains(known, entry(u, "", c).Ref) != live[c] {
				t.Errorf("does %d know %.3s? The model says %v", u, c, live[c])
			}
		}
		w.compareListings(u, m)
		w.compareFeed(u, seq)
	}
	for c := range everything {
		total.Blobs++
		total.PhysicalBytes += int64(len(c))
		isLive, err := w.box.Live(ctx, entry(ann, "", c).Ref)
		if err != nil || isLive == w.dead[c] {
			t.Errorf("%.3s: live %v, %v; the model says dead %v", c, isLive, err, w.dead[c])
		}
	}
	if got, err := w.box.Totals(ctx); err != nil || got != total {
		t.Errorf("totals %+v, %v; the model says %+v", got, err, total)
	}
	dead, err := w.box.Dead(ctx, 100)
	if err != nil || len(dead) != len(w.dead) {
		t.Errorf("%d dead, %v; the model says %d", len(dead), err, len(w.dead))
	}
	if w.rng.IntN(10) == 0 { // the sweep came by
		if err := w.box.Forget(ctx, dead); err != nil {
			t.Error(err)
		}
		clear(w.dead)
	}
}

func (w *walk) list(u ident.UserID, q catalog.Query) (items []catalog.Item, folders []catalog.Folder) {
	for {
		p, err := w.box.List(w.t.Context(), u, q)
		if err != nil {
			w.t.Errorf("list %+v: %v", q, err)
			return nil, nil
		}
		if n := len(p.Items) + len(p.Folders); n > q.Limit {
			w.t.Errorf("%d entries on a page of %d", n, q.Limit)
		}
		items, folders = append(items, p.Items...), append(folders, p.Folders...)
		if q.Cursor = p.Next; q.Cursor == "" {
			return items, folders
		}
	}
}

func (w *walk) compareListings(u ident.UserID, m *model) {
	t, limit := w.t, 1+w.rng.IntN(6)
	expect := func(what string, got []catalog.Item, keep func(*modelItem) bool, order func(a, b catalog.Item) int) {
		var want []string
		for _, it := range m.items {
			if keep(it) {
				want = append(want, it.path)
			}
		}
		slices.Sort(want)
		if !slices.IsSortedFunc(got, order) {
			t.Errorf("%s of %d is out of order", what, u)
		}
		have := make([]string, 0, len(got))
		for _, it := range got {
			have = append(have, it.Path)
			if mi := m.items[it.ID]; mi == nil || mi.path != it.Path || entry(u, "", mi.content).Ref != it.Ref {
				t.Errorf("%s of %d: %+v; the model says %+v", what, u, it, mi)
			}
		}
		if slices.Sort(have); !slices.Equal(have, want) {
			t.Errorf("%s of %d: %q; the model says %q", what, u, have, want)
		}
	}
	byPath := func(a, b catalog.Item) int {
		return cmp.Or(cmp.Compare(dir(a.Path), dir(b.Path)), cmp.Compare(a.Name, b.Name))
	}
	newest := func(a, b catalog.Item) int { return cmp.Compare(b.ID, a.ID) }
	all, _ := w.list(u, catalog.Query{Recursive: true, Limit: limit})
	expect("all", all, func(it *modelItem) bool { return !it.trashed }, byPath)
	album, _ := w.list(u, catalog.Query{Recursive: true, Source: "album", Limit: limit})
	expect("source", album, func(it *modelItem) bool { return !it.trashed }, newest)
	trash, _ := w.list(u, catalog.Query{Trash: true, Limit: limit})
	expect("trash", trash, func(it *modelItem) bool { return it.trashed }, func(a, b catalog.Item) int {
		return cmp.Or(b.Trashed.Compare(a.Trashed), cmp.Compare(b.ID, a.ID))
	})
	folder := pick(w.rng, walkDirs)
	if folder != "" && !m.dirs[folder] {
		if _, err := w.box.List(t.Context(), u, catalog.Query{Folder: folder}); problem.KindOf(err) != problem.NotFound {
			t.Errorf("a folder that is not there: %v", err)
		}
		return
	}
	tree, _ := w.list(u, catalog.Query{Folder: folder, Recursive: true, Limit: limit})
	expect("tree", tree, func(it *modelItem) bool {
		return !it.trashed && (folder == "" || strings.HasPrefix(it.path, folder+"/"))
	}, byPath)
	if folder != "" {
		w.compareTree(u, m, folder, limit)
	}
	here, folders := w.list(u, catalog.Query{Folder: folder, Limit: limit})
	expect("folder", here, func(it *modelItem) bool { return !it.trashed && dir(it.path) == folder }, byPath)
	if other, _ := w.list(u, catalog.Query{Folder: folder, Source: "wechat", Limit: limit}); len(other) != 0 {
		t.Errorf("of another source: %+v", other)
	}
	var want, have []string
	for d := range m.dirs {
		if dir(d) == folder {
			want = append(want, d)
		}
	}
	for _, f := range folders {
		have = append(have, f.Path)
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("folders in %q of %d: %q; the model says %q", folder, u, have, want)
	}
}

// compareTree compares what a copy of a folder would find in it.
func (w *walk) compareTree(u ident.UserID, m *model, folder string, limit int) {
	var items, size int64
	for _, it := range m.items {
		if !it.trashed && strings.HasPrefix(it.path, folder+"/") {
			items, size = items+1, size+int64(len(it.content))
		}
	}
	if n, bytes, err := w.box.TreeSize(w.t.Context(), u, folder); err != nil || n != items || bytes != size {
		w.t.Errorf("%q has %d items, %d bytes, %v; the model says %d, %d", folder, n, bytes, err, items, size)
	}
	var want, have []string
	for d := range m.dirs {
		if strings.HasPrefix(d, folder+"/") {
			want = append(want, d)
		}
	}
	for after := ""; ; {
		page, err := w.box.FoldersBelow(w.t.Context(), u, folder, after, limit)
		if err != nil || len(page) > limit {
			w.t.Errorf("%d folders on a page of %d, %v", len(page), limit, err)
		}
		if len(page) == 0 {
			break
		}
		for _, f := range page {
			have = append(have, f.Path)
			if f.ID == 0 || f.Changed.IsZero() {
				w.t.Errorf("%+v", f)
			}
		}
		after = have[len(have)-1]
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		w.t.Errorf("folders below %q: %q; the model says %q", folder, have, want)
	}
}

// compareFeed checks that the feed has each number once, up to the newest, and
// that it names every item that there is.
func (w *walk) compareFeed(u ident.UserID, newest int64) {
	var at int64
	named := map[ident.ItemID]bool{}
	for {
		list, err := w.box.Since(w.t.Context(), u, at, 0)
		if err != nil {
			w.t.Error(err)
			return
		}
		for _, c := range list {
			if c.Seq != at+1 {
				w.t.Errorf("change %d follows %d", c.Seq, at)
			}
			at = c.Seq
			named[c.Item] = true
			if mi := w.users[u].items[c.Item]; mi != nil && mi.path != c.Path || mi == nil && c.Path != "" {
				w.t.Errorf("%+v; the model says %+v", c, mi)
			}
		}
		if len(list) == 0 {
			break
		}
	}
	if at != newest {
		w.t.Errorf("the feed of %d ends at %d, its usage says %d", u, at, newest)
	}
	for id := range w.users[u].items {
		if !named[id] {
			w.t.Errorf("the feed of %d never named %v", u, id)
		}
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	b := open(t)
	for i := range 5 {
		b.add(ann, fmt.Sprintf("f%d/x", i), "1")
		b.add(ann, fmt.Sprintf("x%d", i), "1")
	}
	queries := []catalog.Query{{}, {Recursive: true}, {Recursive: true, Folder: "f1"}, {Recursive: true, Source: "album"}, {Trash: true}}
	var cursors []string
	for _, q := range queries {
		q.Limit = 1
		p, err := b.List(t.Context(), ann, q)
		must(t, err)
		cursors = append(cursors, p.Next)
	}
	cursors = append(cursors, "!", "AAAA", "eA")
	var refused int
	for _, q := range queries {
		for _, c := range cursors {
			q.Cursor = c
			_, err := b.List(t.Context(), ann, q)
			if err != nil && problem.KindOf(err) != problem.Invalid {
				t.Errorf("%+v: %v", q, err)
			}
			if errors.As(err, new(*problem.Error)) {
				refused++
			}
		}
	}
	if refused < 20 {
		t.Errorf("only %d were refused", refused)
	}
}

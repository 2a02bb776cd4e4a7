package inbox

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// The hub hears of changes and tells the folders. Nothing that it does not hear
// is lost: it only spares them waiting for the next scan.
type hub struct {
	in *Inbox
	w  *fsnotify.Watcher
}

func newHub(in *Inbox) (*hub, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &hub{in, w}, nil
}

// run passes on what comes until ctx ends. It never waits for a folder, so that
// the system's own queue stays short.
func (h *hub) run(ctx context.Context) {
	defer h.w.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-h.w.Events:
			if !ok {
				return
			}
			h.changed(e)
		case err, ok := <-h.w.Errors:
			if !ok {
				return
			}
			h.lost(err)
		}
	}
}

// lost has everything looked at: after an overflow nobody knows what changed.
func (h *hub) lost(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		h.in.log.Warn("watching folders", "err", reasonOf(err))
	}
	for _, f := range h.in.all() {
		f.lookAgain()
	}
}

func (h *hub) changed(e fsnotify.Event) {
	for _, f := range h.in.all() {
		if e.Name == f.conf.Path { // the folder itself went, or came back
			f.lookAgain()
			continue
		}
		rel, ok := strings.CutPrefix(e.Name, strings.TrimSuffix(f.conf.Path, "/")+"/")
		if !ok {
			continue
		}
		if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
			f.unwatchBelow(rel)
		}
		if !strings.HasPrefix(rel, TrashName+"/") && rel != TrashName && rel != MarkerName {
			f.hint(path.Dir(rel))
		}
	}
}

// mounted has every folder look whether its volume went or came.
func (in *Inbox) mounted() {
	for _, f := range in.all() {
		select {
		case f.mounts <- struct{}{}:
		default:
		}
	}
}

func (in *Inbox) all() []*folder {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := make([]*folder, 0, len(in.folders))
	for _, f := range in.folders {
		list = append(list, f)
	}
	return list
}

// watch asks the system to tell of changes in a folder below this one, and says
// whether it will. again: the system may have forgotten it, as it does when a
// volume is mounted over it.
func (f *folder) watch(rel string, again bool) bool {
	h := f.in.hub
	if h == nil || f.conf.ID == 0 {
		f.blind()
		return false
	}
	was := f.isWatched(rel)
	if was && !again {
		return true
	}
	if !was && f.in.watches.Add(1) > int64(f.in.opt.Watches) {
		f.in.watches.Add(-1)
		f.blind()
		return false
	}
	if err := h.w.Add(filepath.Join(f.conf.Path, rel)); err != nil {
		if was {
			f.unwatchBelow(rel)
		} else {
			f.in.watches.Add(-1)
		}
		f.blind() // the system has a limit of its own
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched[rel] = struct{}{}
	return true
}

func (f *folder) blind() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scanOnly = true
}

func (f *folder) isBlind() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.scanOnly
}

func (f *folder) isWatched(rel string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.watched[rel]
	return ok
}

// unwatchBelow forgets a folder that was removed or renamed, and those in it. The
// system follows a renamed folder under its old name, which would mislead.
func (f *folder) unwatchBelow(rel string) {
	if !f.isWatched(rel) {
		return
	}
	f.drop(func(w string) bool { return w == rel || strings.HasPrefix(w, rel+"/") })
}

// unwatch forgets all.
func (f *folder) unwatch() { f.drop(func(string) bool { return true }) }

func (f *folder) drop(which func(rel string) bool) {
	f.mu.Lock()
	var list []string
	for w := range f.watched {
		if which(w) {
			list = append(list, w)
			delete(f.watched, w)
		}
	}
	f.mu.Unlock()
	f.in.watches.Add(-int64(len(list)))
	for _, w := range list {
		if h := f.in.hub; h != nil {
			_ = h.w.Remove(filepath.Join(f.conf.Path, w)) // the system may have forgotten it first
		}
	}
}

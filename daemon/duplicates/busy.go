package duplicates

import (
	"time"

	"yunbox.local/daemon/ident"
	"yunbox.local/dedup"
)

// Work is a folder that is being looked through or changed.
type Work struct {
	User  ident.UserID // whose it is
	Began time.Time
	dedup.Progress
}

// Work returns what is being done; ok is false if nothing is. Who began it ends it, by
// going away.
func (r *Room) Work() (w Work, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		return w, false
	}
	return *r.now, true
}

// at notes what is being done; nil: nothing is.
func (r *Room) at(w *Work) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = w
}

// told notes how far it is, and tells who asked for it.
func (s *session) told(emit func(any)) func(dedup.Progress) {
	return func(p dedup.Progress) {
		s.mu.Lock()
		if s.now != nil {
			s.now.Progress = p
		}
		s.mu.Unlock()
		emit(progressEvent{"progress", p})
	}
}

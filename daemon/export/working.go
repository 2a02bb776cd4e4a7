package export

import (
	"cmp"
	"slices"
	"time"

	"yunbox.local/daemon/ident"
)

// Work is an export as a part of what the box does.
type Work struct {
	User ident.UserID
	Info
	Began   time.Time // when its list began to be made; zero: it waits for its turn, or an earlier run made it
	Ended   time.Time // when that ended; zero: it has not
	Total   int64     // entries that the list will have; 0: not known yet
	Readers int       // how many fetch it now
}

// progress is how far the making of an export is.
type progress struct {
	began, ended time.Time
	total        int64
	readers      int
}

// told changes how far e is.
func (r *Room) told(e *Export, change func(*progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&e.progress)
}

// Work lists the exports that there are, the oldest first.
func (r *Room) Work() (list []Work) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for u, e := range r.people {
		if r.now().Before(e.Expires) {
			list = append(list, Work{User: u, Info: e.info(), Began: e.began, Ended: e.ended, Total: e.total, Readers: e.readers})
		}
	}
	slices.SortFunc(list, func(a, b Work) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.User, b.User)) })
	return list
}

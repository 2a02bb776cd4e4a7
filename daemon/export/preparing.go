package export

// Preparing returns how many exports are being made or wait for that.
func (r *Room) Preparing() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.people {
		if s := e.state.Load(); s != nil && *s == Preparing {
			n++
		}
	}
	return n
}

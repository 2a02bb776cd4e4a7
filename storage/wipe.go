package storage

// Wipe overwrites at once what removed blobs may have left in the intent log, also those
// that an earlier process removed. Else that is done ten seconds after the last upload,
// and when the store is closed. Uploads of small contents wait meanwhile.
func (s *Store) Wipe() error {
	l := s.intent
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return nil // what was removed since the start was struck out
	}
	l.stale = true
	return l.empty()
}

package backup

// Stop ends what the box does by itself to a second copy now, and reports whether it
// did something. It goes on where it was when it is due again. What somebody runs by
// hand ends with their command.
func (b *Backup) Stop() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.giveWay == nil {
		return false
	}
	b.giveWay()
	return true
}

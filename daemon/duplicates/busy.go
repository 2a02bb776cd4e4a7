package duplicates

// Busy reports whether a folder is being looked through or changed. Who began that ends
// it, by going away.
func (r *Room) Busy() bool { return len(r.busy) > 0 }

package ftp

// DefaultLimits are those of a box.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

//go:build !linux

package daemon

func synchronised() bool { return false }

//go:build !linux

package db

// OneArena does nothing here: see malloc_linux.go.
func OneArena() {}

func trim() {}

//go:build !unix

package main

import "os"

// lockFile keeps the file open; where there is no flock, two pushes of one folder
// at a time cost time, nothing else.
func lockFile(name string) (*os.File, error) { return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) }

//go:build !amd64

package storage

const together = false

func twoHashes(*[8]uint32, *[5]uint32, []byte) { panic("storage: not for this processor") }

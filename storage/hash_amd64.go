package storage

// together says whether twoHashes works on this processor.
var together = hasSHA()

// twoHashes updates the states of SHA-256 and SHA-1 with the whole blocks of 64
// bytes at the front of p.
//
//go:noescape
func twoHashes(h256 *[8]uint32, h1 *[5]uint32, p []byte)

// hasSHA says whether the processor has the SHA instructions (CPUID 7, EBX bit 29),
// and with them SSE 4.1.
func hasSHA() bool

package ident_test

import (
	"testing"

	"yunbox.local/daemon/ident"
)

func TestWordsAreTheFirstBits(t *testing.T) {
	if got := ident.Words([32]byte{}); got != [6]string{"abandon", "abandon", "abandon", "abandon", "abandon", "abandon"} {
		t.Errorf("all zero bits are %v", got)
	}
	var ones [32]byte
	for i := range ones {
		ones[i] = 0xff
	}
	if got := ident.Words(ones); got != [6]string{"zoo", "zoo", "zoo", "zoo", "zoo", "zoo"} {
		t.Errorf("all one bits are %v", got)
	}
	// Every one of the first 66 bits counts, and counts in its own word.
	zero := ident.Words([32]byte{})
	for bit := range 66 {
		var sum [32]byte
		sum[bit/8] = 1 << (7 - bit%8)
		for i, w := range ident.Words(sum) {
			if (w != zero[i]) != (i == bit/11) {
				t.Errorf("bit %d: word %d is %q", bit, i, w)
			}
		}
	}
}

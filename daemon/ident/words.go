package ident

import (
	_ "embed"
	"strings"
)

// The English list of BIP-39: 2,048 words that differ in their first four
// letters.
//
//go:embed words.txt
var wordList string

// Words says the first 66 bits of a key's SHA-256 as six words of 11 bits each,
// for two people, or a person and a page, to compare by eye. A client computes
// them from the key that it saw itself: words that the other side sends would be
// those of whoever is in the middle.
func Words(sum [32]byte) (words [6]string) {
	list := strings.Fields(wordList)
	for i := range words {
		index := 0
		for bit := i * 11; bit < (i+1)*11; bit++ {
			index = index<<1 | int(sum[bit/8]>>(7-bit%8)&1)
		}
		words[i] = list[index]
	}
	return words
}

package catalog

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"yunbox.local/daemon/problem"
)

const (
	// MaxName is the most bytes that one part of a path may have: what every file
	// system takes that a person may copy the files to.
	MaxName = 255
	// MaxPath is the most bytes that a path may have in all.
	MaxPath = 2048
)

// CleanPath returns the one spelling under which the catalogue keeps p: parts
// joined by single slashes, none at either end, in Unicode normal form C (a Mac
// sends "é" as two characters and means the same file). Names stay
// case-sensitive.
//
// It refuses, as problem.Invalid, what could name something else than it shows
// or could not be copied to a disk: an empty path, empty parts, "." and "..",
// invalid UTF-8, control characters, characters that turn the reading direction
// around (Unicode bidirectional embeddings, overrides and isolates; the marks
// U+200E and U+200F, which Arabic and Hebrew names need, stay), parts of more
// than MaxName and paths of more than MaxPath bytes.
func CleanPath(p string) (string, error) {
	if len(p) > 4*MaxPath { // normalising cannot save it; do not work on megabytes
		return "", badPath("it has %d bytes, %d are the most", len(p), MaxPath)
	}
	if !utf8.ValidString(p) {
		return "", badPath("it is not valid UTF-8")
	}
	if i := strings.IndexFunc(p, forbidden); i >= 0 {
		r, _ := utf8.DecodeRuneInString(p[i:])
		return "", badPath("it holds the character U+%04X, which is invisible or changes how the rest reads", r)
	}
	p = norm.NFC.String(p)
	if len(p) > MaxPath {
		return "", badPath("it has %d bytes, %d are the most", len(p), MaxPath)
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "":
			return "", badPath("it has an empty part")
		case part == "." || part == "..":
			return "", badPath("the part %q is not a name", part)
		case len(part) > MaxName:
			return "", badPath("one part has %d bytes, %d are the most", len(part), MaxName)
		}
	}
	return p, nil
}

// CleanFolder is CleanPath for a folder, where "" is the person's root.
func CleanFolder(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	return CleanPath(p)
}

func forbidden(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

func badPath(format string, args ...any) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "catalog.path", Title: "This name cannot be kept",
		Detail: "The path is refused because " + fmt.Sprintf(format, args...) + ".",
		Hint:   "Rename the file on the device and send it again.",
	}
}

// split takes a clean path apart into its folder and its name.
func split(p string) (folder, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

// Base returns the last part of a clean path.
func Base(p string) string {
	_, name := split(p)
	return name
}

// join is the opposite of split.
func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}

// chain returns folder and everything above it, the root "" first.
func chain(folder string) []string {
	list := make([]string, 1, 8)
	if folder == "" {
		return list
	}
	for i := range len(folder) {
		if folder[i] == '/' {
			list = append(list, folder[:i])
		}
	}
	return append(list, folder)
}

// numbered returns the n-th try at a free name: "a.jpg", "a (2).jpg", …,
// shortened where it would be too long.
func numbered(name string, n int) string {
	if n < 2 {
		return name
	}
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 16 {
		stem, ext = name[:i], name[i:]
	}
	tail := fmt.Sprintf(" (%d)%s", n, ext)
	for len(stem)+len(tail) > MaxName {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return stem + tail
}

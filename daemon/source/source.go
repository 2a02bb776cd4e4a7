// Package source says where a file comes from, and when it was taken, by the
// path under which its device knows it.
//
// Phones, cameras and chat programs name their folders and files in ways of
// their own. Protocols that have no word for the source of a file carry these
// names all the same, so the box can ask for the right consent and keep what
// WeChat and QQ saved apart from the camera roll. What a client declares always
// comes before what is found here.
//
// Everything is a table: one of folders, one of file names. A path costs work
// that is linear in its length, and one of more than MaxPath bytes tells
// nothing. The package keeps no state and is safe for concurrent use.
package source

import (
	"slices"
	"strings"
	"time"
)

// The sources. They are the ones that the purposes of consent name.
const (
	Album      = "album"      // the camera roll of a phone
	WeChat     = "wechat"     // saved or received in WeChat
	QQ         = "qq"         // saved or received in QQ
	TIM        = "tim"        // the same in TIM, the QQ for offices
	Camera     = "camera"     // a camera of its own, its card or its stick
	Screenshot = "screenshot" // pictures and films of a screen
	Download   = "download"   // a browser's downloads
	Other      = "other"      // anything else
)

// List returns every source.
func List() []string {
	return []string{Album, WeChat, QQ, TIM, Camera, Screenshot, Download, Other}
}

// Confidence says how a source is known, from sure to not at all.
type Confidence string

// The degrees of confidence.
const (
	Declared Confidence = "declared" // the client said it
	Folder   Confidence = "folder"   // it lies in a folder that only this source fills
	Name     Confidence = "name"     // it has a name that only this source gives
	Guess    Confidence = "guess"    // folder or name are usual for it, and for others
	None     Confidence = "none"     // nothing speaks for anything: the source is Other
)

// Rank orders degrees: 4 for Declared down to 0 for None; -1 for no degree.
func (c Confidence) Rank() int {
	return slices.Index([]Confidence{None, Guess, Name, Folder, Declared}, c)
}

// MaxPath is the most bytes of a path that are looked at: more than any path
// that the box keeps. The source of a longer one is Other.
const MaxPath = 8 << 10

// Of finds the source of the file that a device names path. Parts are divided by
// / or \, upper and lower case are the same, and so are the two ways in which
// Unicode writes an accent. It never answers Declared; None goes with Other.
//
// A chat's own folder comes first, then a chat's own file name (a picture that
// WeChat saved stays WeChat's, also in DCIM/Camera), then other folders, other
// names, and at last what is only likely.
func Of(path string) (string, Confidence) {
	parts := fold(path)
	if len(parts) == 0 {
		return Other, None
	}
	folder, fc := byFolder(parts[:len(parts)-1])
	name, nc := byName(parts[len(parts)-1])
	switch {
	case fc == Folder && chat(folder):
		return folder, fc
	case nc == Name && chat(name):
		return name, nc
	case fc == Folder && folder == Album && nc == Name && name == Screenshot:
		return name, nc // many phones keep screenshots in the camera's folder
	case fc == Folder:
		return folder, fc
	case nc == Name:
		return name, nc
	case fc == Guess:
		return folder, fc
	case nc == Guess:
		return name, nc
	}
	return Other, None
}

func chat(s string) bool { return s == WeChat || s == QQ || s == TIM }

// Capture is when a picture was taken, as its name tells. Chats name a picture
// by the moment at which it was saved, having removed what the camera wrote.
type Capture struct {
	Time time.Time // UTC, milliseconds
	// Local: the name has a clock's time and does not say in which part of the
	// world; Time is then that clock's time written as if it were UTC.
	Local bool
}

// Taken returns the capture time that the last part of path carries. Times
// before 1990 and after 2106 are none.
func Taken(path string) (c Capture, ok bool) {
	parts := fold(path)
	if len(parts) == 0 {
		return Capture{}, false
	}
	name := parts[len(parts)-1]
	for _, r := range names {
		if c, timed, ok := r.match(name); ok && timed {
			return c, true
		}
	}
	return Capture{}, false
}

var (
	oldest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	newest = time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC)
)

// fold takes a path apart and makes its parts comparable with the tables.
func fold(path string) []string {
	if len(path) > MaxPath {
		return nil
	}
	parts := strings.FieldsFunc(compose(strings.ToLower(path)), func(r rune) bool { return r == '/' || r == '\\' })
	for i, p := range parts {
		parts[i] = strings.Trim(p, " ")
	}
	return parts
}

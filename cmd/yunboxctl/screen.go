package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is what a view may use of the terminal it is written to: a serial console has
// no colours and knows ASCII only, a pipe has no width.
type screen struct {
	w             io.Writer
	width, height int  // 80 by 24 where that is not known
	terminal      bool // there is one: lines are cut to its width
	colour        bool
	ascii         bool
	moves         bool // the cursor can be moved
}

func screenOf(w io.Writer) screen {
	s := screen{w: w, width: 80, height: 24, terminal: isTerminal(w), ascii: asciiOnly(os.Getenv)}
	if f, ok := w.(*os.File); ok && s.terminal {
		if x, y, err := term.GetSize(int(f.Fd())); err == nil && x > 20 && y > 4 {
			s.width, s.height = x, y
		}
	}
	kind := os.Getenv("TERM")
	s.moves = s.terminal && kind != "" && kind != "dumb"
	s.colour = s.moves && os.Getenv("NO_COLOR") == ""
	return s
}

// asciiOnly says whether the environment asks for nothing but ASCII: the locale C, or
// none at all, as on a serial console.
func asciiOnly(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToUpper(v)
			return !strings.Contains(v, "UTF-8") && !strings.Contains(v, "UTF8")
		}
	}
	return true
}

// text makes s fit for this screen.
func (s screen) text(line string) string {
	line = shown(line)
	if !s.ascii {
		return line
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r < utf8.RuneSelf:
			return r
		case r == '–' || r == '—':
			return '-'
		}
		return '?'
	}, line)
}

// narrow: what stands there has to be broken, since little of it would be left.
func (s screen) narrow() bool { return s.terminal && s.width < 80 }

// broken writes a line, broken between words on a narrow terminal, with what follows
// indented.
func (s screen) broken(text, colour string, indent int) {
	if !s.narrow() {
		s.line(text, colour)
		return
	}
	room := max(s.width-indent, 1)
	head, rest := text[:min(indent, len(text))], text[min(indent, len(text)):]
	if strings.TrimSpace(head) != "" && len(strings.TrimRight(head, " ")) == indent {
		head, rest = "", text // no column of its own
	}
	for i, part := range wrap(rest, room) {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		s.line(head+part, colour)
	}
}

// line writes a line, cut where the terminal ends.
func (s screen) line(text, colour string) {
	text = strings.TrimRight(s.text(text), " ")
	if s.terminal {
		text = cut(text, s.width)
	}
	if s.colour && colour != "" {
		text = colour + text + "\x1b[0m"
	}
	io.WriteString(s.w, text+"\n")
}

// cut shortens text to so many columns; signs of East Asian scripts take two.
func cut(text string, width int) string {
	used := 0
	for i, r := range text {
		w := columnsOf(r)
		if used+w > width {
			for used > width-1 && i > 0 { // room for the mark
				last, n := utf8.DecodeLastRuneInString(text[:i])
				i -= n
				used -= columnsOf(last)
			}
			return text[:i] + "~"
		}
		used += w
	}
	return text
}

func columnsOf(r rune) int {
	if r >= 0x1100 && (r <= 0x115F || r >= 0x2E80 && r <= 0xA4CF || r >= 0xAC00 && r <= 0xD7A3 || r >= 0xF900 && r <= 0xFAFF || r >= 0xFE30 && r <= 0xFE6F || r >= 0xFF00 && r <= 0xFF60 || r >= 0xFFE0 && r <= 0xFFE6 || r >= 0x1F300) {
		return 2
	}
	return 1
}

// widthOf is how many columns text takes.
func widthOf(text string) (columns int) {
	for _, r := range text {
		columns += columnsOf(r)
	}
	return columns
}

// wrap breaks text into lines of so many columns, between words, and within those that
// are longer.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && widthOf(line)+1+widthOf(word) > width {
			lines = append(lines, line)
			line = ""
		}
		for widthOf(word) > max(width, 2) {
			end, used := 0, 0
			for i, r := range word {
				if used += columnsOf(r); used > max(width, 2) {
					end = i
					break
				}
			}
			lines = append(lines, word[:end])
			word = word[end:]
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// The colours of a terminal.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	bold   = "\x1b[1m"
)

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
	"rsc.io/qr"
)

// terminal returns the terminal that a person can be asked on: standard input, if
// it is one.
func (a *app) terminal() (*os.File, bool) {
	in, ok := a.stdin.(*os.File)
	return in, ok && term.IsTerminal(int(in.Fd()))
}

// prompt writes to the terminal itself, so that the question is seen when standard
// error goes to a file.
func (a *app) prompt(terminal *os.File, text string) {
	if _, err := terminal.WriteString(text); err != nil { // it was opened for reading only
		fmt.Fprint(a.stderr, text)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width of the terminal behind w in columns, 80 if it has none.
func width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 20 {
			return n
		}
	}
	return 80
}

// readPassword reads a line without echo.
func (a *app) readPassword(terminal *os.File, prompt string) (string, error) {
	a.prompt(terminal, prompt)
	b, err := term.ReadPassword(int(terminal.Fd()))
	a.prompt(terminal, "\n")
	return string(b), err
}

// readLine reads one line byte by byte, so that what follows is left for others.
func readLine(r io.Reader) string {
	var line []byte
	b := make([]byte, 1)
	for len(line) < 1024 {
		if n, err := r.Read(b); n == 0 || err != nil || b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	return string(line)
}

// drawQR draws text as a QR code of half blocks, two modules a character, dark on
// light with a margin of four modules whatever the terminal's colours are.
func drawQR(w io.Writer, text string) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return // too long for any code; the text itself is shown in any case
	}
	const margin = 4
	black := func(x, y int) bool { return code.Black(x, y) }
	color := screenOf(w).moves // NO_COLOR does not count: scanners need dark on light
	for y := -margin; y < code.Size+margin; y += 2 {
		var line strings.Builder
		for x := -margin; x < code.Size+margin; x++ {
			switch top, bottom := black(x, y), black(x, y+1); {
			case top && bottom:
				line.WriteByte(' ')
			case top:
				line.WriteRune('▄')
			case bottom:
				line.WriteRune('▀')
			default:
				line.WriteRune('█')
			}
		}
		if color { // white on black: the blocks are the light modules
			fmt.Fprintf(w, "\x1b[97;40m%s\x1b[0m\n", line.String())
		} else {
			fmt.Fprintln(w, line.String())
		}
	}
}

// columns writes rows aligned in columns.
func columns(w io.Writer, rows [][]string) {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], widthOf(c))
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			line.WriteString(c)
			if i < len(r)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-widthOf(c)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// listed is columns, or what is said where there is nothing to list.
func listed(w io.Writer, rows [][]string, none string) {
	if len(rows) == 0 {
		fmt.Fprintln(w, none)
		return
	}
	columns(w, rows)
}

// shown makes a name from the disk or the network safe for a terminal: control
// characters, such as escape sequences, become visible.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}

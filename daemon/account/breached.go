package account

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxBreachedLine is far above "<40 hex digits>:<count>\r\n".
const maxBreachedLine = 128

var errNoList = errors.New("it is no list of SHA-1 sums, one a line, in their order")

// breached reports whether a list has a password: the lines begin with the SHA-1 of
// each in hex, in the order of the sums, as the downloader of haveibeenpwned.com writes
// them (40 GB, a billion lines). It reads some 30 blocks of the file and nothing else;
// nothing leaves the box.
func breached(list io.ReaderAt, size int64, password string) (bool, error) {
	sum := sha1.Sum([]byte(password))
	want := []byte(strings.ToUpper(hex.EncodeToString(sum[:])))
	low, high := int64(0), size // of beginnings of lines
	for low < high {
		begin, line, err := lineAt(list, low, high, low+(high-low)/2)
		if err != nil {
			return false, err
		}
		have := bytes.TrimRight(line, "\r\n")
		if len(have) < 40 || len(have) > 40 && have[40] != ':' {
			return false, errNoList
		}
		if _, err := hex.Decode(make([]byte, 20), have[:40]); err != nil {
			return false, errNoList
		}
		switch c := bytes.Compare(bytes.ToUpper(have[:40]), want); {
		case c == 0:
			return true, nil
		case c < 0:
			low = begin + int64(len(line))
		default:
			high = begin
		}
	}
	return false, nil
}

// lineAt returns the line that the byte at belongs to, and where it begins. low is the
// beginning of a line, and high the end of one.
func lineAt(list io.ReaderAt, low, high, at int64) (begin int64, line []byte, err error) {
	from := max(low, at-maxBreachedLine)
	buf := make([]byte, min(2*maxBreachedLine, high-from))
	if n, err := list.ReadAt(buf, from); n < len(buf) {
		return 0, nil, errors.Join(errNoList, err)
	}
	start := bytes.LastIndexByte(buf[:at-from], '\n') + 1
	if start == 0 && from > low {
		return 0, nil, errNoList
	}
	end := bytes.IndexByte(buf[at-from:], '\n')
	switch {
	case end >= 0:
		end += int(at-from) + 1
	case from+int64(len(buf)) == high:
		end = len(buf) // the last one has no end
	default:
		return 0, nil, errNoList
	}
	return from + int64(start), buf[start:end], nil
}

// refuseBreached refuses a password that stands in the list of the settings. A list that
// cannot be read is no reason to refuse one: the log says it.
func (a *Accounts) refuseBreached(ctx context.Context, op, password string) error {
	if a.opt.Breached == "" || ctx.Err() != nil {
		return ctx.Err()
	}
	found, err := a.inBreach(password)
	if err != nil {
		a.slog.Warn("the list of breached passwords cannot be used", "err", err)
		return nil
	}
	if found {
		return invalid(op, "That password was found in what was stolen from some service.", "Whoever has such lists tries it first. Take a few words that belong together only for you.")
	}
	return nil
}

func (a *Accounts) inBreach(password string) (found bool, err error) {
	list, err := os.Open(a.opt.Breached)
	if err != nil {
		return false, err
	}
	defer list.Close() //nolint:errcheck // read only
	info, err := list.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is no file", a.opt.Breached)
	}
	// As it is typed, and as it is hashed here.
	for _, form := range []string{password, normalPassword(password)} {
		if found, err = breached(list, info.Size(), form); found || err != nil {
			break
		}
	}
	return found, err
}

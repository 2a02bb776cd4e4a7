package content

import (
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRanges is how many parts of a file one request may ask for; one that asks for
// more gets all of it (RFC 9110 §17.15).
const maxRanges = 64

// give is http.ServeContent with the Range of RFC 9110 §14: that takes units that it
// does not know and specifiers that make no sense for ones that cannot be satisfied,
// and answers "the last 0 bytes" with a range that is none.
func give(w http.ResponseWriter, r *http.Request, mtime time.Time, content io.ReadSeeker, refuse func(http.ResponseWriter, *http.Request, error)) {
	if asked := r.Header.Values("Range"); len(asked) > 0 {
		tidy := ""
		if len(asked) == 1 {
			tidy = tidyRange(asked[0])
		}
		r = r.Clone(r.Context())
		r.Header.Set("Range", tidy) // "" is as none
	}
	http.ServeContent(&partialWriter{ResponseWriter: w, r: r, refuse: refuse}, r, "", mtime, content)
}

// tidyRange returns a Range that http.ServeContent understands, or "" for one that is
// to be ignored (RFC 9110 §14.2).
func tidyRange(s string) string {
	unit, set, ok := strings.Cut(s, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Count(set, ",") >= maxRanges {
		return ""
	}
	var out []string
	none := false // a part is asked for that no file has
	for part := range strings.SplitSeq(set, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue // RFC 9110 §5.6.1.2
		}
		from, to, ok := strings.Cut(part, "-")
		first, okFirst := position(from)
		last, okLast := position(to)
		switch {
		case !ok || !okFirst && from != "" || !okLast && to != "" || from == "" && to == "" || okFirst && okLast && first > last:
			return ""
		case from == "" && last == 0:
			none = true
		case from == "":
			out = append(out, "-"+strconv.FormatInt(last, 10))
		case to == "":
			out = append(out, strconv.FormatInt(first, 10)+"-")
		default:
			out = append(out, strconv.FormatInt(first, 10)+"-"+strconv.FormatInt(last, 10))
		}
	}
	if len(out) == 0 && none {
		out = append(out, strconv.FormatInt(math.MaxInt64, 10)+"-")
	}
	if len(out) == 0 {
		return ""
	}
	return "bytes=" + strings.Join(out, ",")
}

// position reads digits; what no file reaches is as far as it goes.
func position(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

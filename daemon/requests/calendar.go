package requests

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// WorkingDays is within how many working days a request is answered (policy 11).
const WorkingDays = 15

// calendar says which days are worked on: Monday to Friday, unless the file of a year
// says otherwise of one of its days.
type calendar struct {
	files fs.FS // "2026.txt"; nil: there are none
	years map[int]map[string]bool
}

// ReadYear reads the file of one year. Each line is a date and a word: "2026-10-01 off"
// is a holiday, "2026-10-10 work" a weekend that is worked on; # begins a comment.
func ReadYear(r io.Reader, year int) (map[string]bool, error) {
	days := map[string]bool{}
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		day, err := time.Parse(time.DateOnly, f[0])
		if len(f) != 2 || err != nil || day.Year() != year || f[1] != "off" && f[1] != "work" {
			return nil, fmt.Errorf("requests: line %d is not “%d-MM-DD off” or “work”", n, year)
		}
		days[f[0]] = f[1] == "work"
	}
	return days, lines.Err()
}

func (c *calendar) works(day time.Time) (bool, error) {
	days, read := c.years[day.Year()]
	if !read && c.files != nil {
		f, err := c.files.Open(fmt.Sprintf("%d.txt", day.Year()))
		switch {
		case err == nil:
			days, err = ReadYear(f, day.Year())
			if err := errors.Join(err, f.Close()); err != nil {
				return false, err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		}
		c.years[day.Year()] = days
	}
	if work, said := days[day.Format(time.DateOnly)]; said {
		return work, nil
	}
	return day.Weekday() != time.Saturday && day.Weekday() != time.Sunday, nil
}

// after returns the n-th working day after a day.
func (c *calendar) after(day time.Time, n int) (time.Time, error) {
	c.years = map[int]map[string]bool{} // whoever runs the box may have changed a file
	for n > 0 {
		day = day.AddDate(0, 0, 1)
		works, err := c.works(day)
		if err != nil {
			return day, err
		}
		if works {
			n--
		}
	}
	return day, nil
}

package requests

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func day(t *testing.T, s string) time.Time {
	t.Helper()
	d, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// R29: 15 working days, by the calendar of each year, weekends where there is none.
func TestWorkingDays(t *testing.T) {
	files := fstest.MapFS{"2026.txt": {Data: []byte("# National Day\n2026-10-01 off\n2026-10-02 off\n2026-10-05 off\n2026-10-06 off\n2026-10-07 off\n2026-10-10 work # a Saturday\n")}}
	for _, c := range []struct {
		name, from string
		n          int
		want       string
		files      fstest.MapFS
	}{
		{"a week", "2026-11-26", 1, "2026-11-27", nil},
		{"over a weekend", "2026-11-27", 1, "2026-11-30", nil},
		{"three weeks", "2026-11-26", 15, "2026-12-17", nil},
		{"over the year", "2026-12-28", 15, "2027-01-18", nil},
		{"holidays", "2026-09-30", 1, "2026-10-08", files},
		{"a Saturday that is worked on", "2026-10-09", 1, "2026-10-10", files},
		{"no file for that year", "2027-10-01", 1, "2027-10-04", files},
	} {
		cal := &calendar{}
		if c.files != nil {
			cal.files = c.files
		}
		got, err := cal.after(day(t, c.from), c.n)
		if err != nil || got.Format(time.DateOnly) != c.want {
			t.Errorf("%s: %v %v, want %s", c.name, got.Format(time.DateOnly), err, c.want)
		}
	}
}

func TestBadCalendarsAreRefused(t *testing.T) {
	for _, text := range []string{"2026-10-01\n", "2026-10-01 maybe\n", "2025-10-01 off\n", "2026-13-01 off\n", "2026-10-01 off off\n"} {
		if _, err := ReadYear(strings.NewReader(text), 2026); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	cal := &calendar{files: fstest.MapFS{"2026.txt": {Data: []byte("nonsense\n")}}}
	if _, err := cal.after(day(t, "2026-01-01"), 1); err == nil {
		t.Error("a calendar that says nothing was taken")
	}
}

func FuzzReadYear(f *testing.F) {
	f.Add("2026-10-01 off\n# x\n2026-10-10 work")
	f.Fuzz(func(t *testing.T, text string) {
		days, err := ReadYear(strings.NewReader(text), 2026)
		for d := range days {
			if err == nil && !strings.HasPrefix(d, "2026-") {
				t.Errorf("%q gives %q", text, d)
			}
		}
	})
}

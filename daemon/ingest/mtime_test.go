package ingest

import (
	"testing"
	"time"
)

func TestParseMTime(t *testing.T) {
	for s, want := range map[string]string{
		"0":                             "1970-01-01T00:00:00Z",
		"-0.5":                          "",
		"-1":                            "",
		"1700000000":                    "2023-11-14T22:13:20Z",
		"1700000000.123":                "2023-11-14T22:13:20.123Z",
		"1700000000.":                   "2023-11-14T22:13:20Z",
		"1700000000.9999999999999":      "2023-11-14T22:13:20.999Z",
		"4294967295.999":                "2106-02-07T06:28:15.999Z",
		"4294967296":                    "",
		"2038-01-19T03:14:08Z":          "2038-01-19T03:14:08Z",
		"2026-11-26T12:51:00.25+08:00":  "2026-11-26T04:51:00.25Z",
		"1969-12-31T23:59:59Z":          "",
		"2107-01-01T00:00:00Z":          "",
		"1e9":                           "",
		"":                              "",
		".5":                            "",
		"1.-5":                          "",
		"99999999999999999999":          "",
		"Thu, 26 Nov 2026 04:51:00 GMT": "",
	} {
		got, err := ParseMTime(s)
		if want == "" {
			if err == nil {
				t.Errorf("%q was read as %v", s, got)
			}
		} else if err != nil || got.Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %v, %v; want %s", s, got, err, want)
		}
	}
}

// What is taken can be written and is read as the same time.
func FuzzParseMTime(f *testing.F) {
	f.Add("1700000000.123")
	f.Add("2026-11-26T12:51:00.25+08:00")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseMTime(s)
		if err != nil {
			return
		}
		again, err := ParseMTime(got.Format(time.RFC3339Nano))
		if err != nil || !again.Equal(got) {
			t.Fatalf("%q became %v, and that %v, %v", s, got, again, err)
		}
	})
}

package report

import "testing"

func TestSteps(t *testing.T) { // R19
	for n, want := range map[int64]string{-1: "0", 0: "0", 1: "1-9", 9: "1-9", 10: "10-99", 99: "10-99", 100: "100-999", 12345: "10000-99999", 1<<63 - 1: "1e17-", 1e18: "1e17-", 9e17: "100000000000000000-999999999999999999"} {
		if got := step(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"0.2.0", "0.1.0", true}, {"0.1.0", "0.1.0", false}, {"0.10.0", "0.9.9", true}, {"1.0.0-rc.1", "1.0.0", false}, {"1.0.0", "1.0.0-rc.1", true}, {"0.0.9", "0.1.0", false},
	} {
		if got := newer(c.a, c.b); got != c.want {
			t.Errorf("%s is newer than %s: %v", c.a, c.b, got)
		}
	}
}

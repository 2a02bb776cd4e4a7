package web

import (
	"strings"
	"testing"
)

// Nobody gets gzip who did not name it, or everything (RFC 9110 §12.5.3).
func FuzzAcceptEncoding(f *testing.F) {
	for _, s := range []string{"", "gzip", "gzip;q=0", "*;q=0.5", "br, gzip;q=1.000", "identity", "gzip;q=", ";q=1", "GZIP ; Q=0.001", "x-gzip", "gzip, gzip;q=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if acceptsGzip(header) && !strings.Contains(strings.ToLower(header), "gzip") && !strings.Contains(header, "*") {
			t.Errorf("%q is taken for gzip", header)
		}
	})
}

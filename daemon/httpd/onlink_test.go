package httpd

import (
	"net"
	"net/netip"
	"testing"
)

func TestOnLink(t *testing.T) { // R03
	var own []net.Addr
	for _, s := range []string{"192.168.1.5/24", "10.8.0.2/32", "2001:db8:1::5/64", "fe80::1/64", "127.0.0.1/8"} {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	for from, want := range map[string]bool{
		"192.168.1.77": true, "::ffff:192.168.1.77": true, "192.168.2.77": false, "8.8.8.8": false, "127.0.0.1": true, "::1": true,
		"fe80::5%eth0": true, "169.254.3.4": true, "2001:db8:1::99": true, "2001:db8:2::99": false, "10.8.0.1": false, "10.8.0.2": true,
	} {
		if got := onLink(netip.MustParseAddr(from), own); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
}

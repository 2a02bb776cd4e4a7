package discovery

import (
	"net/netip"
	"syscall"
	"testing"
)

// The messages of rtnetlink come from the kernel, but the parser of them is ours.
func FuzzAddressMessage(f *testing.F) {
	f.Add([]byte{2, 24, 0x80, 0, 1, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 5, 8, 0, 2, 0, 192, 0, 2, 5, 8, 0, 8, 0, 0x80, 0, 0, 0})
	f.Add([]byte{10, 64, 0x40, 0, 1, 0, 0, 0, 20, 0, 1, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5})
	f.Add([]byte{10, 200, 0, 0, 1, 0, 0, 0, 4, 0, 8, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWADDR, Len: uint32(len(data)) + syscall.SizeofNlMsghdr}, Data: data}
		if _, a, ok := parseAddr(&m); ok && (!a.prefix.IsValid() || a.prefix.Addr().Is4In6()) {
			t.Fatalf("%x is %v", data, a)
		}
	})
}

func TestAddressMessages(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want address
	}{
		"IPv4":      {[]byte{2, 24, 0x80, 0, 3, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 5, 8, 0, 2, 0, 192, 0, 2, 6}, address{prefix: netip.MustParsePrefix("192.0.2.6/24")}},
		"secondary": {[]byte{2, 24, 0x01, 0, 3, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 5}, address{prefix: netip.MustParsePrefix("192.0.2.5/24")}},
		"tentative": {[]byte{10, 64, 0x40, 0, 3, 0, 0, 0, 20, 0, 1, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5}, address{prefix: netip.MustParsePrefix("2001:db8::5/64"), unready: true}},
		"temporary, said in the longer flags": {[]byte{10, 64, 0, 0, 3, 0, 0, 0, 20, 0, 1, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 8, 0, 8, 0, 1, 1, 0, 0},
			address{prefix: netip.MustParsePrefix("2001:db8::5/64"), passing: true}},
	} {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWADDR}, Data: c.data}
		if index, a, ok := parseAddr(&m); !ok || index != 3 || a != c.want {
			t.Errorf("%s: %d %+v %t", name, index, a, ok)
		}
	}
}

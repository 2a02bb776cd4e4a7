package main

import (
	"encoding/json"
	"net/netip"
	"testing"

	"yunbox.local/discovery"
)

func TestFoundBoxes(t *testing.T) { // R02
	got, err := json.Marshal(boxesOf([]discovery.Found{
		{Name: "云盒", Host: "yunbox-7f3a.local", Port: 8443, Text: map[string]string{"id": "abc", "st": "u"},
			Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::5")}},
		{Name: "bare", Host: "x.local", Port: 1},
	}))
	want := `[{"name":"云盒","id":"abc","state":"u","host":"yunbox-7f3a.local","port":8443,"addresses":["https://yunbox-7f3a.local:8443/","https://192.0.2.5:8443/","https://[2001:db8::5]:8443/"]},` +
		`{"name":"bare","id":"","state":"","host":"x.local","port":1,"addresses":["https://x.local:1/"]}]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, s := range []discovery.State{discovery.Unbound, discovery.Bound, discovery.Pairing, discovery.Maintenance} {
		if stateText(string(s)) == "unknown" {
			t.Errorf("state %s has no words", s)
		}
	}
}

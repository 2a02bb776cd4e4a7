package discovery

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/grandcat/zeroconf"
)

const (
	// maxFound bounds what a network full of forged announcements can make us keep.
	maxFound = 256
	// round is how long one question waits for answers. The library asks once and
	// takes only answers that are complete in one packet, which they are not if part of
	// them was multicast a moment ago: so it is asked anew.
	round = 1500 * time.Millisecond
)

// Found is a service that somebody on the network announces. None of it is proven.
type Found struct {
	Name  string            // instance name, unescaped
	Host  string            // host name without the final dot
	Port  int               // 0 to 65535
	Addrs []netip.Addr      // without zones
	Text  map[string]string // keys in lower case
}

// Browse looks for services of a kind, such as ServiceBox, for the given time or
// until ctx ends, and returns at most 256 of them ordered by name. It sees those
// that answer in that time; an empty list is no proof that there are none.
func Browse(ctx context.Context, kind string, d time.Duration) ([]Found, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	seen := make(map[string]Found)
	err := browse(ctx, kind, func(f Found) bool {
		if _, ok := seen[f.Name]; ok || len(seen) < maxFound {
			seen[f.Name] = f
		}
		return true
	})
	list := make([]Found, 0, len(seen))
	for _, f := range seen {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Found) int { return cmp.Compare(a.Name, b.Name) })
	return list, err
}

// ErrUnseen is the answer of Check when the box was not seen.
var ErrUnseen = errors.New("discovery: the box does not see its own announcement on the network")

// Check is the box's own look whether it can be seen: it asks the network for the
// box with a public id as any phone would, and returns what came back, at once when
// it came, or ErrUnseen after the given time (two seconds are plenty), or what kept
// it from asking. It runs beside an Announcer, in the same process or another.
func Check(ctx context.Context, id string, d time.Duration) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var hit *Found
	err := browse(ctx, ServiceBox, func(f Found) bool {
		if strings.EqualFold(f.Text["id"], id) {
			hit = &f
		}
		return hit == nil
	})
	if hit != nil {
		return *hit, nil
	}
	return Found{}, cmp.Or(err, ErrUnseen)
}

// browse asks in rounds and calls each with what is found, also several times with
// the same, until ctx ends or each returns false. Where another program has the port of
// mDNS for itself, which the library needs, it asks as simple resolvers do.
func browse(ctx context.Context, kind string, each func(Found) bool) error {
	links, err := currentLinks()
	if err != nil || len(links) == 0 {
		return err
	}
	for ctx.Err() == nil {
		r, err := zeroconf.NewResolver(zeroconf.SelectIfaces(interfaces(links)))
		if err != nil { // the library wants both families; one is enough
			if r, err = zeroconf.NewResolver(zeroconf.SelectIfaces(interfaces(links)), zeroconf.SelectIPTraffic(zeroconf.IPv4)); err != nil {
				return ask(ctx, links, kind, func(_ link, _ netip.Addr, f Found) bool { return each(f) })
			}
		}
		if more, err := browseOnce(ctx, r, kind, each); err != nil || !more {
			return err
		}
	}
	return nil
}

func browseOnce(ctx context.Context, r *zeroconf.Resolver, kind string, each func(Found) bool) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, round)
	defer cancel()
	entries := make(chan *zeroconf.ServiceEntry)
	failed := r.Browse(ctx, kind, domain, entries)
	more = true
	for e := range entries { // the library closes it when ctx ends
		more = more && each(Found{
			Name: unescapeLabel(e.Instance), Host: trimFinalDot(e.HostName), Port: e.Port,
			Addrs: addrs(e.AddrIPv4, e.AddrIPv6), Text: parseText(e.Text),
		})
		if !more {
			cancel()
		}
	}
	return more, failed
}

func addrs(lists ...[]net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ips := range lists {
		for _, ip := range ips {
			if a, ok := netip.AddrFromSlice(ip); ok {
				all = append(all, a.Unmap())
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func trimFinalDot(s string) string {
	if n := len(s); n > 0 && s[n-1] == '.' {
		return s[:n-1]
	}
	return s
}

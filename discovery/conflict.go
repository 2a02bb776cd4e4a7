package discovery

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// simultaneous looks at somebody's probe for a name that we are probing for just
// now. Whose data are later in the alphabet wins; the other one waits until the
// winner can defend the name (RFC 6762 § 8.2).
func (r *responder) simultaneous(l *linkState, m *dns.Msg, now time.Time) {
	for _, c := range l.claims() {
		if c.state == held {
			continue
		}
		// The services of one instance share its name, so they win or lose together:
		// by the first of them that the other one asks for.
		for _, name := range c.names {
			theirs := rdata(m.Ns, fold(name))
			if len(theirs) == 0 {
				continue
			}
			if c.which == ofHost && r.allOwn(m.Ns, fold(name)) {
				break // ours, on another link to the same network, come back changed
			}
			var records []dns.RR
			for _, rec := range l.byName[fold(name)] {
				if rec.unique && !rec.negative {
					records = append(records, rec.rr)
				}
			}
			if slices.CompareFunc(rdata(records, fold(name)), theirs, bytes.Compare) < 0 {
				c.restart(now.Add(loserWait))
				r.trouble = now
			}
			break
		}
	}
}

// rdata are the records of a name in the order of § 8.2.1: class, type, data.
func rdata(list []dns.RR, name string) [][]byte {
	var all [][]byte
	for _, rr := range list {
		h := rr.Header()
		if fold(h.Name) != name || h.Class&^flush != dns.ClassINET {
			continue
		}
		wire, data, err := wireOf(rr)
		if err != nil || data > len(wire) {
			continue
		}
		all = append(all, append([]byte{byte(h.Rrtype >> 8), byte(h.Rrtype)}, wire[data:]...))
	}
	slices.SortFunc(all, bytes.Compare)
	return slices.CompactFunc(all, bytes.Equal)
}

// allOwn reports whether the addresses that somebody claims for a name are all of
// this machine.
func (r *responder) allOwn(list []dns.RR, name string) bool {
	n := 0
	for _, rr := range list {
		if fold(rr.Header().Name) != name {
			continue
		}
		if a, ok := addr(rr); !ok || !r.own[a] {
			return false
		}
		n++
	}
	return n > 0
}

// response looks at what others say: the same as we, which saves us saying it
// (§ 7.4) or must be set right (§ 6.6), or another thing under our name (§ 9).
func (r *responder) response(l *linkState, p packet, m *dns.Msg, now time.Time) {
	var lost [2]bool  // probed for, and somebody has it
	var again [2]bool // held, and somebody else uses it
	for i, rr := range slices.Concat(m.Answer, m.Extra) {
		h := rr.Header()
		if h.Class&^flush != dns.ClassINET {
			continue
		}
		if rec := l.find(rr); rec != nil {
			switch {
			case rec.claim.state != held:
			case h.Ttl < rec.ttl()/2:
				rec.ask(p.fam, now.Add(sharedDelay()), quiet)
			case i < len(m.Answer) && p.group && h.Ttl >= rec.ttl() && !rec.defend[p.fam] && !rec.unique:
				rec.due[p.fam] = time.Time{}
			}
			continue
		}
		if h.Ttl == 0 {
			continue // whoever says goodbye is no rival
		}
		if a, ok := addr(rr); ok && r.own[a] {
			continue // ours, of another link to the same network
		}
		name := fold(h.Name)
		for _, c := range l.claims() {
			if !slices.ContainsFunc(c.names, func(n string) bool { return fold(n) == name }) {
				continue
			}
			if c.state != held {
				lost[c.which] = true
			} else if c.which == ofHost && (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA) ||
				c.which == ofInstance && (h.Rrtype == dns.TypeSRV || h.Rrtype == dns.TypeTXT) {
				again[c.which] = true
			}
		}
	}
	for _, c := range l.claims() {
		if again[c.which] && !lost[c.which] {
			r.log.Warn("another device on the network uses the box's name; asking whose it is", "name", c.names[0], "link", l.iface.Name)
			r.conflict(now)
			c.restart(now.Add(r.startDelay()))
		}
	}
	r.rename(lost, now)
}

// find is our record that says the same, nil if there is none.
func (l *linkState) find(rr dns.RR) *record {
	for _, rec := range l.byName[fold(rr.Header().Name)] {
		if rec.is(rr) {
			return rec
		}
	}
	return nil
}

// conflict remembers one; too many make us slow (§ 8.1).
func (r *responder) conflict(now time.Time) {
	if r.naming.conflict(now) {
		r.storm = true
	}
}

// rename takes the next name in place of those that somebody else has, on all
// links, and begins to probe for it.
func (r *responder) rename(lost [2]bool, now time.Time) {
	if lost == [2]bool{} {
		return
	}
	r.conflict(now)
	before := r.names()
	r.lose(lost)
	for _, l := range r.links {
		r.leave(l, lost)
	}
	at := now.Add(r.startDelay())
	var broken error
	for _, l := range r.links {
		broken = cmp.Or(broken, r.rebuild(l, func(*record) bool { return false }, now))
		for _, c := range l.claims() {
			if lost[c.which] || r.storm && c.state != held { // in a storm all names wait together
				c.restart(at)
			}
		}
	}
	after := r.names()
	r.log.Warn("another device on the network has the box's name", "had", before, "takes", after)
	if broken != nil {
		r.log.Error("the box's records cannot be made", "err", broken)
	}
}

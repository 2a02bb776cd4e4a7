package discovery

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// gathering is an answer that waits for the rest of a list of known answers (§ 7.2).
type gathering struct {
	from     netip.AddrPort
	fam      family
	due      time.Time
	extended int
	records  []*record
}

// reply is an answer to one asker.
type reply struct {
	to        netip.AddrPort
	fam       family
	due       time.Time
	records   []*record
	legacy    bool // the asker is a simple resolver: it wants a conventional answer (§ 6.7)
	id        uint16
	questions []dns.Question
}

// handle takes one packet from the network, which may hold anything, and reports
// whether there is work for step now.
func (r *responder) handle(p packet) (work bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		if e := recover(); e != nil { // a defect must not be everybody's off switch
			r.log.Error("a packet of mDNS could not be handled", "panic", e)
		}
	}()
	l := r.links[p.link]
	r.count(time.Now())
	if l == nil || r.closed || len(p.raw) > maxPacket || !l.onLink(p.peer.Addr()) {
		return false
	}
	// Our own packets come back, also over a second link to the same network.
	if r.own[p.peer.Addr().WithZone("")] && slices.Contains(r.sent[:], maphash.Bytes(r.seed, p.raw)) {
		return false
	}
	var m dns.Msg
	if m.Unpack(p.raw) != nil || m.Opcode != dns.OpcodeQuery || m.Rcode != dns.RcodeSuccess {
		return false
	}
	now := time.Now()
	switch {
	case !m.Response:
		r.query(l, p, &m, now)
	case p.peer.Port() == mdnsPort: // § 6: others are not of mDNS
		r.response(l, p, &m, now)
	}
	r.stepLink(l, now)
	return true
}

// count notes down that a packet came. Where too many do, the box may not be found.
func (r *responder) count(now time.Time) {
	if now.Sub(r.second) >= time.Second {
		r.second, r.packets = now, 0
	}
	if r.packets++; r.packets >= flood {
		r.trouble = now
	}
}

// query answers questions, or plans to.
func (r *responder) query(l *linkState, p packet, m *dns.Msg, now time.Time) {
	if len(m.Question) > maxQuestions {
		return
	}
	legacy := p.peer.Port() != mdnsPort
	probe := len(m.Ns) > 0
	if probe && !legacy {
		r.simultaneous(l, m, now)
	}
	if !legacy {
		l.known(p, m, now)
	}
	var group, single []*record
	for _, q := range m.Question {
		for _, rec := range l.matching(q) {
			if slices.ContainsFunc(m.Answer, rec.knownBy) {
				continue
			}
			recent := !rec.last[p.fam].IsZero() && now.Sub(rec.last[p.fam]) < time.Duration(rec.ttl())*time.Second/4
			switch {
			case legacy, !p.group, q.Qclass&flush != 0 && recent && !probe: // § 5.4, 5.5
				single = appendNew(single, rec)
			default: // who probes is told aloud: another program on its machine may have the port
				group = appendNew(group, rec)
			}
		}
	}
	if m.Truncated && !legacy && len(l.gathering) < maxGathering && len(group) > 0 {
		l.gathering = append(l.gathering, &gathering{from: p.peer, fam: p.fam, due: now.Add(moreMin + rand.N(moreMax-moreMin)), records: group})
		group = nil
	}
	if probe {
		for _, rec := range group {
			rec.ask(p.fam, now, quietDefend)
			rec.defend[p.fam] = true
		}
	} else {
		l.schedule(p.fam, group, now)
	}
	if len(single) == 0 {
		return
	}
	if len(l.replies) == maxReplies {
		r.trouble = now
		return
	}
	u := &reply{to: p.peer, fam: p.fam, due: now, records: single, legacy: legacy}
	if legacy {
		u.id, u.questions = m.Id, m.Question
	}
	if slices.ContainsFunc(single, shared) {
		u.due = now.Add(sharedDelay())
	}
	l.replies = append(l.replies, u)
}

func shared(rec *record) bool { return !rec.unique }

func sharedDelay() time.Duration { return sharedMin + rand.N(sharedMax-sharedMin) }

func appendNew(list []*record, rec *record) []*record {
	if slices.Contains(list, rec) {
		return list
	}
	return append(list, rec)
}

// knownBy reports whether the asker has the record and need not hear it (§ 7.1).
func (rec *record) knownBy(known dns.RR) bool {
	return known.Header().Ttl >= rec.ttl()/2 && rec.is(known)
}

// known takes from the answers that are being gathered for this asker what it
// knows, and waits on if there is more to come.
func (l *linkState) known(p packet, m *dns.Msg, now time.Time) {
	for _, g := range l.gathering {
		if g.from != p.peer {
			continue
		}
		g.records = slices.DeleteFunc(g.records, func(rec *record) bool { return slices.ContainsFunc(m.Answer, rec.knownBy) })
		if m.Truncated && g.extended < maxExtended {
			g.extended++
			g.due = now.Add(moreMin + rand.N(moreMax-moreMin))
		}
	}
}

// schedule plans a multicast answer: at once if nobody else can give it, else after
// a random time in which the answers to several questions become one packet (§ 6).
func (l *linkState) schedule(fam family, records []*record, now time.Time) {
	due := now
	if slices.ContainsFunc(records, shared) {
		due = now.Add(sharedDelay())
		for _, rec := range l.records {
			if t := rec.due[fam]; !t.Before(now.Add(sharedMin)) && !t.After(now.Add(sharedMax)) {
				due = t
			}
		}
	}
	for _, rec := range records {
		rec.ask(fam, due, quiet)
	}
}

// reply sends a unicast answer, unless the link has had too many.
func (r *responder) reply(l *linkState, u *reply, now time.Time) {
	l.tokens = min(unicastRate, l.tokens+now.Sub(l.tokensAt).Seconds()*unicastRate)
	l.tokensAt = now
	if l.tokens < 1 {
		r.trouble = now
		return
	}
	if !l.can[u.fam] {
		return
	}
	l.tokens--
	records := slices.DeleteFunc(u.records, func(rec *record) bool { return rec.claim.state != held })
	for _, raw := range packed(l, records, l.alsoUseful(records), u) {
		r.send(packet{link: l.iface.Index, fam: u.fam, peer: u.to, raw: raw})
	}
}

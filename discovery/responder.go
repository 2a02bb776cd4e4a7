package discovery

import (
	"cmp"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The times of RFC 6762.
const (
	probeWait   = 250 * time.Millisecond // before the first probe, at most, and between probes (§ 8.1)
	probes      = 3                      // of each name (§ 8.1)
	loserWait   = time.Second            // for whoever lost against a simultaneous probe (§ 8.2)
	stormWait   = 5 * time.Second        // before each probe after a storm of conflicts (§ 8.1)
	again       = time.Second            // from the first announcement to the second (§ 8.3)
	quiet       = time.Second            // between two multicasts of one record on a link (§ 6)
	quietDefend = 250 * time.Millisecond // likewise, in defence against a probe (§ 6)
	sharedMin   = 20 * time.Millisecond  // delay of an answer that others give too (§ 6)
	sharedMax   = 120 * time.Millisecond
	moreMin     = 400 * time.Millisecond // for the rest of a list of known answers (§ 7.2)
	moreMax     = 500 * time.Millisecond
)

// What one link may make us remember and send.
const (
	maxGathering = 16 // askers whose known answers come in several packets
	maxExtended  = 8  // times that such an asker may ask for patience
	maxReplies   = 32 // unicast answers on their way
	unicastRate  = 50 // unicast answers a second
	maxQuestions = 64 // in one packet
	maxPacket    = 9000
	maxRepeats   = 8
	flood        = 300 // packets a second, of which some may get no answer
	ownMemory    = 64  // packets of ours that are recognised when they come back
)

// packet is one datagram, either way.
type packet struct {
	link  int
	fam   family
	peer  netip.AddrPort // who sent it, or shall get it
	group bool           // to the multicast group
	raw   []byte         // only valid during the call
}

// responder is the protocol of RFC 6762 for one box on any number of links. It has
// no goroutine and no socket: packets are given to handle, step says when it wants
// to be called next. It is safe for concurrent use.
type responder struct {
	log  *slog.Logger
	send func(packet) // called with the lock held; must not block for long
	seed maphash.Seed

	mu sync.Mutex
	naming
	links  map[int]*linkState
	own    map[netip.Addr]bool // addresses of this machine
	sent   [ownMemory]uint64   // hashes of the latest packets
	sentAt int
	storm  bool // of conflicts, until a name is held
	closed bool

	packets int       // that came since second
	second  time.Time // each begins when a packet comes and the last one is over
}

// state of a name.
type claimState int

const (
	waiting claimState = iota // to probe
	probing
	held
)

// claim is a name, on one link, that must be asked for before it may be used.
type claim struct {
	which int
	names []string // absolute, escaped; of the instance one for each of its services, ServiceBox first
	state claimState
	sent  int       // probes
	next  time.Time // when something is to be done, unless held
}

// linkState is what the responder knows of one link.
type linkState struct {
	link
	host, instance claim
	records        []*record
	byName         map[string][]*record
	repeats        []repeat
	gathering      []*gathering
	replies        []*reply
	tokens         float64 // unicast answers that may be sent
	tokensAt       time.Time
}

// repeat is an announcement that is said a second time.
type repeat struct {
	at   time.Time
	keys []string
}

func newResponder(log *slog.Logger, s Service, kept Names, send func(packet)) *responder {
	return &responder{
		log: log, send: send, seed: maphash.MakeSeed(), naming: newNaming(s, kept),
		links: make(map[int]*linkState), own: make(map[netip.Addr]bool),
	}
}

// step does what is due and returns when it wants to be called again, or the zero
// time if only a packet or a change can bring it new work.
func (r *responder) step() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next time.Time
	now := time.Now()
	for _, l := range r.sorted() {
		r.stepLink(l, now)
		next = earlier(next, l.next())
	}
	return next
}

func (r *responder) sorted() []*linkState {
	list := make([]*linkState, 0, len(r.links))
	for _, l := range r.links {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *linkState) int { return cmp.Compare(a.iface.Index, b.iface.Index) })
	return list
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (l *linkState) next() time.Time {
	var next time.Time
	for _, c := range l.claims() {
		if c.state != held {
			next = earlier(next, c.next)
		}
	}
	for _, a := range l.repeats {
		next = earlier(next, a.at)
	}
	for _, g := range l.gathering {
		next = earlier(next, g.due)
	}
	for _, u := range l.replies {
		next = earlier(next, u.due)
	}
	for _, rec := range l.records {
		for fam := range families {
			if l.can[fam] {
				next = earlier(next, rec.due[fam])
			}
		}
	}
	return next
}

func (l *linkState) claims() [2]*claim { return [2]*claim{&l.host, &l.instance} }

func (r *responder) stepLink(l *linkState, now time.Time) {
	if r.closed {
		return
	}
	r.probe(l, now)
	l.repeats = slices.DeleteFunc(l.repeats, func(a repeat) bool {
		if a.at.After(now) {
			return false
		}
		for _, rec := range l.records {
			if slices.Contains(a.keys, rec.key) && rec.claim.state == held {
				rec.want(now)
			}
		}
		return true
	})
	l.gathering = slices.DeleteFunc(l.gathering, func(g *gathering) bool {
		if g.due.After(now) {
			return false
		}
		l.schedule(g.fam, g.records, now)
		return true
	})
	for fam := range families {
		r.multicast(l, fam, now)
	}
	l.replies = slices.DeleteFunc(l.replies, func(u *reply) bool {
		if u.due.After(now) {
			return false
		}
		r.reply(l, u, now)
		return true
	})
}

// probe asks for the names that are not ours yet, and takes those that nobody
// claimed (§ 8.1). The names of one link are asked for in one packet.
func (r *responder) probe(l *linkState, now time.Time) {
	m := &dns.Msg{Compress: true}
	for _, c := range l.claims() {
		if c.state == held || c.next.After(now) {
			continue
		}
		if c.sent == probes {
			c.state = held
			r.storm = r.storm && !r.settled()
			l.announce(func(rec *record) bool { return rec.claim == c }, now)
			continue
		}
		c.state = probing
		c.sent++
		c.next = now.Add(probeWait)
		for _, name := range c.names {
			m.Question = append(m.Question, dns.Question{Name: name, Qtype: dns.TypeANY, Qclass: dns.ClassINET | flush})
		}
		for _, rec := range l.records {
			if rec.claim == c && rec.unique && !rec.negative {
				m.Ns = append(m.Ns, dns.Copy(rec.rr)) // without the flush bit (§ 10.2)
			}
		}
	}
	if len(m.Question) == 0 {
		return
	}
	if raw, err := m.Pack(); err == nil {
		r.toGroup(l, ip4, raw)
		r.toGroup(l, ip6, raw)
	}
}

// settled reports whether all names are held on all links.
func (r *responder) settled() bool {
	for _, l := range r.links {
		if l.host.state != held || l.instance.state != held {
			return false
		}
	}
	return true
}

// startDelay is how long to wait before the first probe.
func (r *responder) startDelay() time.Duration {
	if r.storm {
		return stormWait + rand.N(probeWait)
	}
	return rand.N(probeWait)
}

// restart begins to probe for a name.
func (c *claim) restart(at time.Time) { c.state, c.sent, c.next = waiting, 0, at }

// want makes a record due on both families. Where it was said within the last
// second it is said when that second is over.
func (rec *record) want(at time.Time) {
	for fam := range families {
		rec.ask(fam, at, quiet)
	}
}

func (rec *record) ask(fam family, at time.Time, gap time.Duration) {
	if !rec.last[fam].IsZero() {
		at = later(at, rec.last[fam].Add(gap))
	}
	rec.due[fam] = earlier(rec.due[fam], at)
}

// announce says records now and once more after a second (§ 8.3).
func (l *linkState) announce(which func(*record) bool, now time.Time) {
	again := repeat{at: now.Add(again)}
	for _, rec := range l.records {
		if !rec.negative && which(rec) {
			rec.want(now)
			again.keys = append(again.keys, rec.key)
		}
	}
	if len(l.repeats) == maxRepeats { // the earlier ones are said again by what answers
		l.repeats = l.repeats[1:]
	}
	if len(again.keys) > 0 {
		l.repeats = append(l.repeats, again)
	}
}

// multicast sends what is due on one link and family.
func (r *responder) multicast(l *linkState, fam family, now time.Time) {
	var ready []*record
	for _, rec := range l.records {
		if due := rec.due[fam]; due.IsZero() || due.After(now) {
			continue
		}
		if rec.claim.state != held || !l.can[fam] {
			rec.due[fam], rec.defend[fam] = time.Time{}, false
			continue
		}
		ready = append(ready, rec)
	}
	if len(ready) == 0 {
		return
	}
	extra := slices.DeleteFunc(l.alsoUseful(ready), func(rec *record) bool {
		return !rec.last[fam].IsZero() && now.Sub(rec.last[fam]) < quiet
	})
	for _, raw := range packed(l, ready, extra, nil) {
		r.toGroup(l, fam, raw)
	}
	for _, rec := range slices.Concat(ready, extra) {
		rec.last[fam], rec.due[fam], rec.defend[fam] = now, time.Time{}, false
	}
}

// packed makes as many packets as are needed for the link. u is the unicast reply that they
// are, nil for the group.
func packed(l *linkState, answers, extra []*record, u *reply) [][]byte {
	var list [][]byte
	var m *dns.Msg
	fresh := func() {
		m = &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Compress: true}
		if u != nil && u.legacy {
			m.Id, m.Question = u.id, u.questions
		}
	}
	finish := func() {
		if raw, err := m.Pack(); err == nil && len(m.Answer) > 0 {
			list = append(list, raw)
		}
	}
	room := min(max(l.iface.MTU-48, 512), 1440) // headers of IPv6 and UDP
	legacy := u != nil && u.legacy
	out := func(rec *record) dns.RR {
		if legacy {
			return rec.out(min(rec.ttl(), legacyTTL), true)
		}
		return rec.out(rec.ttl(), false)
	}
	fresh()
	for _, rec := range answers {
		m.Answer = append(m.Answer, out(rec))
		if len(m.Answer) > 1 && m.Len() > room {
			m.Answer = m.Answer[:len(m.Answer)-1]
			finish()
			fresh()
			m.Answer = append(m.Answer, out(rec))
		}
	}
	for _, rec := range extra { // they are a courtesy: what does not fit is left out
		m.Extra = append(m.Extra, out(rec))
		if m.Len() > room {
			m.Extra = m.Extra[:len(m.Extra)-1]
			break
		}
	}
	finish()
	return list
}

// goodbye tells a link that records end (§ 10.1).
func (r *responder) goodbye(l *linkState, gone []*record) {
	for batch := range slices.Chunk(gone, 24) {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Compress: true}
		for _, rec := range batch {
			m.Answer = append(m.Answer, rec.out(0, false))
		}
		raw, err := m.Pack()
		if err != nil {
			continue
		}
		r.toGroup(l, ip4, raw)
		r.toGroup(l, ip6, raw)
	}
}

// endable are the records that were said, for which a goodbye is due.
func (l *linkState) endable(which func(*record) bool) []*record {
	var list []*record
	for _, rec := range l.records {
		if rec.claim.state == held && !rec.negative && !rec.stays && which(rec) {
			list = append(list, rec)
		}
	}
	return list
}

func (r *responder) toGroup(l *linkState, fam family, raw []byte) {
	if !l.can[fam] {
		return
	}
	r.sent[r.sentAt] = maphash.Bytes(r.seed, raw)
	r.sentAt = (r.sentAt + 1) % ownMemory
	r.send(packet{link: l.iface.Index, fam: fam, group: true, raw: raw})
}

// setLinks follows the network. A link that is new is probed on; where addresses
// changed they are announced at once (§ 8.4).
func (r *responder) setLinks(list []link) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.own = make(map[netip.Addr]bool)
	here := make(map[int]bool, len(list))
	var broken error
	for _, k := range list {
		here[k.iface.Index] = true
		for _, p := range k.nets {
			r.own[p.Addr()] = true
		}
		l, known := r.links[k.iface.Index]
		if !known || l.iface.Name != k.iface.Name {
			l = &linkState{link: k, host: claim{which: ofHost}, instance: claim{which: ofInstance}, tokens: unicastRate, tokensAt: now}
			at := now.Add(r.startDelay())
			l.host.restart(at)
			l.instance.restart(at)
			r.links[k.iface.Index] = l
			broken = cmp.Or(broken, r.build(l))
			continue
		}
		same, could := slices.Equal(l.addrs, k.addrs), l.can
		l.link = k
		if !same {
			broken = cmp.Or(broken, r.rebuild(l, func(rec *record) bool { return rec.claim == &l.host }, now))
		}
		if could != k.can { // a family came late: the names were asked for in the other
			l.announce(func(*record) bool { return true }, now)
		}
	}
	for index := range r.links {
		if !here[index] {
			delete(r.links, index)
		}
	}
	return broken
}

// rebuild makes a link's records anew, says goodbye to those that ended and
// announces those that are new, with all that which picks if any of them changed.
func (r *responder) rebuild(l *linkState, which func(*record) bool, now time.Time) error {
	said := l.endable(func(*record) bool { return true })
	before := make(map[string]bool, len(l.records))
	for _, rec := range l.records {
		before[rec.key] = true
	}
	l.gathering, l.replies = nil, nil // they hold records of before
	if err := r.build(l); err != nil {
		return err
	}
	after := make(map[string]bool, len(l.records))
	for _, rec := range l.records {
		after[rec.key] = true
	}
	r.goodbye(l, slices.DeleteFunc(said, func(rec *record) bool {
		// What is unique and has a successor ends with the flush bit of that.
		return after[rec.key] || rec.unique && slices.ContainsFunc(l.byName[rec.name], func(n *record) bool {
			return n.rr.Header().Rrtype == rec.rr.Header().Rrtype
		})
	}))
	l.announce(func(rec *record) bool {
		return rec.claim.state == held && (!before[rec.key] || which(rec))
	}, now)
	return nil
}

// update changes what is announced. Another name is asked for first, and so are
// the names of services that were not there.
func (r *responder) update(s Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	now, old := time.Now(), r.service
	before, err := old.kinds()
	if err != nil {
		return err
	}
	after, err := s.kinds()
	if err != nil {
		return err
	}
	fresh := r.describe(s)
	for _, k := range after {
		if !slices.ContainsFunc(before, func(b kind) bool { return b.name == k.name }) {
			fresh[ofInstance] = true
		}
	}
	at := now.Add(r.startDelay())
	var broken error
	for _, l := range r.links {
		r.leave(l, fresh)
		broken = cmp.Or(broken, r.rebuild(l, func(*record) bool { return false }, now))
		for _, c := range l.claims() {
			if fresh[c.which] {
				c.restart(at)
			}
		}
	}
	return broken
}

// leave says goodbye to names that are given up.
func (r *responder) leave(l *linkState, which [2]bool) {
	r.goodbye(l, l.endable(func(rec *record) bool { return which[rec.claim.which] }))
	for _, c := range l.claims() {
		if which[c.which] {
			c.restart(time.Time{}) // so that nothing is said twice by rebuild
		}
	}
}

// close says goodbye to everybody. Nothing is said after that but by a second call.
func (r *responder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, l := range r.sorted() {
		r.goodbye(l, l.endable(func(*record) bool { return true }))
	}
}

// status of the names: what they are, whether they are held anywhere and where.
func (r *responder) status() (n Names, all bool, where []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.sorted() {
		if l.host.state == held && l.instance.state == held {
			where = append(where, l.iface.Name)
		}
	}
	return r.names(), len(where) > 0 && r.settled(), where
}

// disturbed implements speaker.
func (r *responder) disturbed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.naming.disturbed(time.Now())
}

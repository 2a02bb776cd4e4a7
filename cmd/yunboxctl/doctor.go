package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"crypto/tls"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/doctor"
	"yunbox.local/daemon/problem"
	"yunbox.local/discovery"
)

// seeTime is how long the box may take to answer when it is looked for on the network.
const seeTime = 3 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	var quick bool
	c := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong with the box and its computer", Args: cobra.NoArgs,
		Long: `doctor looks at the disk's own health (SMART, where smartctl is installed), at room and
inodes, clock, network, the box's certificate, whether it can be found by mDNS, at the
catalogue, access rights, the kernel, and at how long ago contents were read back and
copied. It says of each what to do. It changes nothing, and also works when the box does
not run; as root it sees most.

With --json it is {"worst":…,"findings":[{"check","state","says","do"},…]}, with a state
of ok, warn, fail or unknown. It exits with 1 if something fails, with 0 otherwise.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.local(); err != nil {
				return err
			}
			list := a.examine(cmd.Context(), quick)
			worst := doctor.Worst(list)
			err := a.print(map[string]any{"worst": worst, "findings": list}, func(w io.Writer) { tell(screenOf(w), list) })
			if err == nil && worst == doctor.Fail {
				return &codeError{problem.ExitFailed}
			}
			return err
		},
	}
	c.Flags().BoolVar(&quick, "quick", false, "leave out what takes longer than a second: mDNS and the disk's own health")
	return c
}

// tell writes findings, those that need something first.
func tell(x screen, list []doctor.Finding) {
	counts := map[doctor.State]int{}
	for _, f := range list {
		counts[f.State]++
		colour := map[doctor.State]string{doctor.Fail: red, doctor.Warn: yellow}[f.State]
		for i, text := range wrap(f.Says, x.width-22) {
			head := strings.Repeat(" ", 22)
			if i == 0 {
				head = fmt.Sprintf("%-8s%-14s", f.State, f.Check)
			}
			x.line(head+text, colour)
		}
		if f.Do != "" {
			for i, text := range wrap(f.Do, x.width-25) {
				mark := "   "
				if i == 0 {
					mark = "-> "
				}
				x.line(strings.Repeat(" ", 22)+mark+text, "")
			}
		}
	}
	x.line(fmt.Sprintf("%s: %d fail, %d to look after, %d well, %d not known", plural(int64(len(list)), "check", "checks"),
		counts[doctor.Fail], counts[doctor.Warn], counts[doctor.OK], counts[doctor.Unknown]), bold)
}

// examine does all checks, the slow ones beside each other.
func (a *app) examine(ctx context.Context, quick bool) []doctor.Finding {
	var mu sync.Mutex
	var list []doctor.Finding
	add := func(f ...doctor.Finding) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, f...)
	}
	var all sync.WaitGroup
	all.Go(func() { add(a.examineBox(ctx, quick)...) })
	if !quick {
		disks := doctor.Disks(a.state)
		if len(disks) == 0 {
			add(doctor.Finding{Check: "disk-health", State: doctor.Unknown, Says: "The kernel does not say which disk the box lies on."})
		}
		for _, disk := range disks {
			all.Go(func() { add(doctor.Health(ctx, disk)) })
		}
	}
	add(doctor.Volume(a.state)...)
	add(doctor.SystemClock(), doctor.Kernel(), doctor.Owned(a.state))
	links, err := doctor.Links()
	if err != nil {
		add(doctor.Finding{Check: "network", State: doctor.Unknown, Says: "The network interfaces cannot be listed."})
	} else {
		add(doctor.Network(links))
	}
	all.Wait()
	order := []doctor.State{doctor.Fail, doctor.Warn, doctor.OK, doctor.Unknown}
	slices.SortStableFunc(list, func(x, y doctor.Finding) int {
		if d := slices.Index(order, x.State) - slices.Index(order, y.State); d != 0 {
			return d
		}
		return strings.Compare(x.Check, y.Check)
	})
	return list
}

// examineBox asks the box, and looks at it from outside.
func (a *app) examineBox(ctx context.Context, quick bool) []doctor.Finding {
	s, err := a.localStatus(ctx)
	if err != nil {
		f := doctor.Finding{Check: "box", State: doctor.Fail, Says: "The box does not answer.", Do: "`systemctl status yunboxd` and `yunboxctl logs` say why; `systemctl start yunboxd` starts it."}
		switch problem.KindOf(err) {
		case problem.Damaged:
			f.Says, f.Do = "The box serves nobody before its catalogue was rebuilt.", "`yunboxctl rebuild`"
		case problem.Forbidden:
			f.State, f.Says, f.Do = doctor.Unknown, "The box does not talk to this user.", "Run it with sudo."
		}
		return []doctor.Finding{f}
	}
	list := []doctor.Finding{{Check: "box", State: doctor.OK, Says: "The box answers, version " + s.Version + "."}}
	c, err := a.local()
	if err != nil {
		return list
	}
	var inside struct {
		Findings []doctor.Finding `json:"findings"`
	}
	if err := c.call(ctx, "GET", "/local/doctor", nil, &inside); err != nil {
		list = append(list, doctor.Finding{Check: "database", State: doctor.Fail, Says: "The box cannot look at itself.", Do: "`yunboxctl logs` says why."})
	}
	list = append(list, inside.Findings...)
	list = append(list, certificate(ctx, s))
	if !quick {
		list = append(list, a.seen(ctx, c, s))
	}
	return list
}

// certificate connects as an app does that has pinned the box's key.
func certificate(ctx context.Context, s boxStatus) doctor.Finding {
	f := doctor.Finding{Check: "certificate", State: doctor.Fail, Do: "`systemctl restart yunboxd` makes a new one; `yunboxctl logs` says why if not."}
	known, err := parsePin(s.Fingerprint)
	if err != nil || len(s.Addresses) == 0 {
		f.Says = "The box names no address or no key."
		return f
	}
	at, err := url.Parse(nearest(s.Addresses))
	if err != nil {
		f.Says = "The box's address makes no sense."
		return f
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: known.tlsConfig(at.Hostname())}
	conn, err := dialer.DialContext(ctx, "tcp", at.Host)
	if err != nil {
		f.Says = "No connection with the box's own key can be made from here."
		return f
	}
	defer conn.Close()
	certs := conn.(*tls.Conn).ConnectionState().PeerCertificates
	return judge(certs[0], s.Addresses, time.Now())
}

// judge says whether a certificate is good for all addresses of the box.
func judge(cert *x509.Certificate, addresses []string, now time.Time) doctor.Finding {
	f := doctor.Finding{Check: "certificate", State: doctor.Fail, Do: "`systemctl restart yunboxd` makes a new one; `yunboxctl logs` says why if not."}
	left := int(cert.NotAfter.Sub(now) / (24 * time.Hour))
	missing := 0
	for _, a := range addresses {
		if u, err := url.Parse(a); err != nil || cert.VerifyHostname(u.Hostname()) != nil {
			missing++
		}
	}
	switch {
	case now.Before(cert.NotBefore):
		f.State, f.Says, f.Do = doctor.Warn, "The box's certificate begins in the future.", "Is the clock right?"
	case now.After(cert.NotAfter):
		f.Says = "The box's certificate has expired."
	case missing > 0:
		f.Says = fmt.Sprintf("The box's certificate does not name %d of its %d addresses.", missing, len(addresses))
	default:
		return doctor.Finding{Check: "certificate", State: doctor.OK, Says: fmt.Sprintf("The box's certificate names all its addresses (%d), and lasts for %d days more; it is renewed by itself.", len(addresses), left)}
	}
	return f
}

// avahiDo is what to do where Avahi does not announce the box.
const avahiDo = "`systemctl restart avahi-daemon`; `journalctl -u avahi-daemon` says why it failed."

// seen looks for the box on the network as an app does.
func (a *app) seen(ctx context.Context, c *client, s boxStatus) doctor.Finding {
	f := doctor.Finding{Check: "mdns", State: doctor.Unknown}
	var conf configAnswer
	if err := c.call(ctx, "GET", "/local/config", nil, &conf); err == nil && conf.value("mdns") == "off" {
		f.Says = "The box is not announced on the network: mdns is off."
		return f
	}
	found, err := discovery.Browse(ctx, discovery.ServiceBox, seeTime)
	if err != nil {
		f.Says = "The network cannot be looked through from here."
		return f
	}
	return sight(found, s)
}

// hidden says whether the box listens on its own computer only.
func (s *boxStatus) hidden() bool {
	for _, address := range s.Addresses {
		u, err := url.Parse(address)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && !ip.IsLoopback() {
			return false
		}
	}
	return len(s.Addresses) > 0
}

// sight judges what was seen of a box on the network.
func sight(found []discovery.Found, s boxStatus) doctor.Finding {
	f := doctor.Finding{Check: "mdns", State: doctor.Warn, Says: "The box does not find itself on the network by mDNS.", Do: "Is UDP port 5353 open in the firewall, and multicast let through? Apps reach it by its address all the same."}
	by := " It should be announced by "
	for _, x := range found {
		if strings.EqualFold(x.Text["id"], s.ID) {
			f.State, f.Do, by = doctor.OK, "", " It is announced by "
			f.Says = fmt.Sprintf("The box finds itself on the network, with %s that it answers to.", plural(int64(len(x.Addrs)), "address", "addresses"))
			break
		}
	}
	if f.State == doctor.OK && s.hidden() {
		f.State, f.Do = doctor.Warn, "Set https to \":8443\" or another address that others reach, or mdns to \"off\"."
		f.Says = "The box is announced on the network, but it listens on this computer only: nothing else reaches it."
	}
	if s.Network == nil {
		return f
	}
	f.Says += by + speaker(s.Network.MDNS) + "."
	if s.Network.Error != "" {
		f.State = doctor.Warn
		f.Says += " In the way: " + s.Network.Error + "."
		f.Do = "Which program has UDP port 5353 for itself? `ss -ulpn sport = 5353` shows it. Apps reach the box by its address all the same."
		if s.Network.MDNS == "avahi" {
			f.Do = avahiDo + " May services be published by it (disable-user-service-publishing)? With mdns = \"on\" the box does it itself where it can have the port."
		}
	}
	return f
}

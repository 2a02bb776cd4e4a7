package discovery

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
)

// Whether another program has the port, or the box itself keeps it busy: only the first
// excuses a version that is not found. R18
func TestWhoKeepsThePortBusy(t *testing.T) {
	alone := func(_, _ string, _ syscall.RawConn) error { return nil } // a version that forgot to share
	type holder struct {
		fam    family
		shares bool
		other  bool // another program has it
	}
	const own, others = "own", "others"
	for name, c := range map[string]struct {
		holders []holder
		fam     family
		control func(string, string, syscall.RawConn) error
		want    string // who keeps it busy; "": it can be had
	}{
		"nobody":                                   {nil, ip4, share, ""},
		"another program that shares":              {[]holder{{ip4, true, true}}, ip4, share, ""},
		"another program, the other family":        {[]holder{{ip6, false, true}}, ip4, share, ""},
		"another program":                          {[]holder{{ip4, false, true}}, ip4, share, others},
		"another program, over IPv6":               {[]holder{{ip6, false, true}}, ip6, share, others},
		"another program, and one that shares":     {[]holder{{ip4, true, true}, {ip6, false, true}}, ip6, share, others},
		"itself":                                   {[]holder{{ip4, false, false}}, ip4, share, own},
		"itself, over IPv6":                        {[]holder{{ip6, false, false}}, ip6, share, own},
		"itself, shared":                           {[]holder{{ip4, true, false}}, ip4, share, ""},
		"a program that shares, and it does not":   {[]holder{{ip4, true, true}}, ip4, alone, own},
		"itself shared once, then not":             {[]holder{{ip6, true, false}}, ip6, alone, own},
		"itself over IPv6, another over IPv4":      {[]holder{{ip4, true, true}, {ip6, false, false}}, ip6, share, own},
		"another over IPv4, where it does not ask": {[]holder{{ip4, false, true}}, ip4, alone, others},
	} {
		t.Run(name, func(t *testing.T) {
			port := 0
			for _, h := range c.holders {
				control := alone
				if h.shares {
					control = share
				}
				p, err := listen(h.fam, port, control)
				if err != nil {
					if h.fam == ip6 && errors.Is(err, syscall.EAFNOSUPPORT) {
						t.Skip(err)
					}
					t.Fatal(err)
				}
				defer p.Close()
				port = p.LocalAddr().(*net.UDPAddr).Port
				if !h.other {
					continue
				}
				f, err := p.(*net.UDPConn).File()
				if err != nil {
					t.Fatal(err)
				}
				sleeper := exec.Command("sleep", "60")
				sleeper.ExtraFiles = append(sleeper.ExtraFiles, f)
				if err := sleeper.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
				if err := errors.Join(f.Close(), p.Close()); err != nil {
					t.Fatal(err)
				}
			}
			p, err := listen(c.fam, port, c.control)
			got := ""
			switch {
			case err == nil:
				p.Close()
			case errors.Is(err, ErrOwnPort) && !errors.Is(err, syscall.EADDRINUSE) && busy(err):
				got = own
			case errors.Is(err, syscall.EADDRINUSE) && busy(err):
				got = others
			default:
				got = fmt.Sprint(err)
			}
			if got != c.want {
				t.Errorf("%q, not %q: %v", got, c.want, err)
			}
		})
	}
}

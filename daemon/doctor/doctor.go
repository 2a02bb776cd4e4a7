// Package doctor looks at the computer that the box runs on, as who maintains it would:
// the disk's own health, room, the clock, the network, the kernel, and whom the files
// belong to. It works without a daemon, changes nothing, and fails for nothing that is
// not there: what cannot be found out is said to be unknown.
//
// No sentence has a name, an address or a path of a person in it, so that findings can
// be shown to others.
package doctor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// State is how bad a finding is.
type State string

// The states, the worst last.
const (
	Unknown State = "unknown" // it cannot be found out here; no reason to worry
	OK      State = "ok"
	Warn    State = "warn" // look after it when there is time
	Fail    State = "fail" // look after it now
)

// A Finding is the outcome of one check.
type Finding struct {
	Check string `json:"check"` // stable name: "disk-space"
	State State  `json:"state"`
	Says  string `json:"says"` // one sentence
	Do    string `json:"do"`   // what to do next; "": nothing
}

// Worst returns the worst state of a list, Unknown for an empty one.
func Worst(list []Finding) State {
	order := []State{Unknown, OK, Warn, Fail}
	worst := 0
	for _, f := range list {
		worst = max(worst, slices.Index(order, f.State))
	}
	return order[worst]
}

func ok(check, format string, args ...any) Finding {
	return Finding{check, OK, fmt.Sprintf(format, args...), ""}
}

func unknown(check, says, do string) Finding { return Finding{check, Unknown, says, do} }

// Space judges the room and the inodes of a volume. inodes is 0 where the file system
// has no fixed number of them.
func Space(free, total, inodesFree, inodes int64) Finding {
	const check = "disk-space"
	if total <= 0 {
		return unknown(check, "The file system does not say how much room it has.", "")
	}
	percent := float64(free) / float64(total) * 100
	do := "Let people empty their trash, or move to a larger disk; what is stored stays safe."
	says := fmt.Sprintf("%s of %s are free (%d %%).", size(free), size(total), int(percent))
	switch {
	case free < 256<<20 || percent < 1:
		return Finding{check, Fail, says, "Free space now: uploads are refused soon. " + do}
	case percent < 10 && free < 50<<30:
		return Finding{check, Warn, says, do}
	case inodes > 0 && inodesFree*100 < inodes:
		return Finding{check, Fail, says + fmt.Sprintf(" But only %d of %d inodes are.", inodesFree, inodes), "The file system takes hardly any more files, however small: move to one with more inodes."}
	case inodes > 0 && inodesFree*10 < inodes:
		return Finding{check, Warn, says + fmt.Sprintf(" But only %d of %d inodes are.", inodesFree, inodes), "The file system was made with few inodes: plan to move to one with more."}
	}
	return ok(check, "%s", says)
}

func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	x, i := float64(n), 0
	for x >= 1000 && i < len(units)-1 {
		x, i = x/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", x, units[i])
}

// made is a moment before which this program did not exist.
var made = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Clock judges the time of the system. synchronised is whether the kernel says that
// something keeps it right, known whether it says anything.
func Clock(now time.Time, synchronised, known bool) Finding {
	const check = "clock"
	switch {
	case now.Before(made):
		return Finding{check, Fail, "The clock is not set: it says " + now.UTC().Format(time.DateOnly) + ".", "Connect the box to a network with a time server, or set it: `timedatectl set-time`."}
	case !known:
		return unknown(check, "The clock is set; whether something keeps it right is not known.", "")
	case !synchronised:
		return Finding{check, Warn, "The clock is set, but no time server keeps it right.", "`timedatectl set-ntp true`, and let the box reach a time server: the router often is one."}
	}
	return ok(check, "The clock is set and kept right by a time server.")
}

// Link is a network interface as Network judges it.
type Link struct {
	Up, Carrier bool
	Addresses   []net.IP
}

// Links lists the interfaces of this machine but loopback.
func Links() ([]Link, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		l := Link{Up: i.Flags&net.FlagUp != 0, Carrier: i.Flags&net.FlagRunning != 0}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				l.Addresses = append(l.Addresses, n.IP)
			}
		}
		links = append(links, l)
	}
	return links, nil
}

// Network judges whether somebody at home can reach this machine.
func Network(links []Link) Finding {
	const check = "network"
	up, carrier, reachable, makeshift := 0, 0, 0, 0
	for _, l := range links {
		if !l.Up {
			continue
		}
		up++
		if !l.Carrier {
			continue
		}
		carrier++
		for _, ip := range l.Addresses {
			switch {
			case ip.IsGlobalUnicast():
				reachable++
			case ip.IsLinkLocalUnicast() && ip.To4() != nil:
				makeshift++
			}
		}
	}
	switch {
	case reachable > 0:
		return ok(check, "%d of %d interfaces have a link, with %d addresses in all.", carrier, len(links), reachable)
	case up == 0:
		return Finding{check, Fail, "No network interface is switched on.", "`ip link` shows them; `ip link set NAME up`, or set the network up in the system's settings."}
	case carrier == 0:
		return Finding{check, Fail, "No network interface has a link.", "Plug the cable in, or join the Wi-Fi."}
	case makeshift > 0:
		return Finding{check, Warn, "There is a link, but the router gave no address.", "Is the router's DHCP on? Until then only devices without a router's address find the box."}
	}
	return Finding{check, Fail, "There is a link, but no address.", "Is the router's DHCP on?"}
}

// Owned judges the access rights of what lies in the state directory: secrets are for
// the daemon's user only, and everything belongs to it.
func Owned(state string) Finding {
	const check = "permissions"
	owner, mode, err := ownerOf(state)
	switch {
	case os.IsNotExist(err):
		return Finding{check, Fail, "The state directory does not exist.", "Name the right one with --state; if its disk is away, attach and mount it."}
	case err != nil:
		return unknown(check, "The state directory cannot be looked at.", "Run it with sudo.")
	case mode&0o022 != 0:
		return Finding{check, Fail, "The state directory can be written by other users of this computer.", "`chmod go-w` it: only the daemon's user may write there."}
	}
	var wrong []string
	foreign := false
	for _, name := range []string{
		"keys", "keys/*", "box.db", "box.db-wal", "journal", "journal/*", "backup", "run", "run/yunboxd.sock", "VOLUME", "VOLUME.copy", "RECORDS", "blobs", "staging", "tree", "dedup",
	} {
		list, err := filepath.Glob(filepath.Join(state, name))
		if err != nil {
			continue // the state directory's name is a pattern itself
		}
		for _, path := range list {
			who, mode, err := ownerOf(path)
			if os.IsPermission(err) {
				return unknown(check, "Not everything in the state directory can be looked at.", "Run it with sudo.")
			}
			if err != nil {
				continue // it went a moment ago
			}
			top, _, _ := strings.Cut(name, "/")
			secret := top == "keys" || top == "box.db" || top == "journal"
			if who != owner {
				foreign = true
				wrong = append(wrong, name)
			} else if mode&0o022 != 0 || secret && mode&0o077 != 0 {
				wrong = append(wrong, name)
			}
		}
	}
	wrong = slices.Compact(wrong)
	switch {
	case foreign:
		return Finding{check, Fail, "Not everything in the state directory belongs to the same user: " + strings.Join(wrong, " ") + ".", "Give it back to the daemon's user: `chown -R --reference=STATE STATE`."}
	case len(wrong) > 0:
		return Finding{check, Fail, "Other users of this computer could get at " + strings.Join(wrong, " ") + ".", "`chmod -R go-rwx` these: they are for the daemon's user only."}
	}
	return ok(check, "Everything in the state directory belongs to one user, and secrets to nobody else.")
}

// Since judges how long ago something was done that is to be done within so many days.
// The zero time means never.
func Since(check, what string, last, now time.Time, within int, do string) Finding {
	if last.IsZero() {
		return Finding{check, Warn, what + ": never so far.", do}
	}
	days := int(now.Sub(last) / (24 * time.Hour))
	says := fmt.Sprintf("%s: %d days ago.", what, days)
	if days == 0 {
		says = what + ": less than a day ago."
	}
	if days > within {
		return Finding{check, Warn, says, do}
	}
	return ok(check, "%s", says)
}

package main

import (
	"io"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/discovery"
)

// foundBox is a box that somebody announces on the network.
type foundBox struct {
	Name      string   `json:"name"`
	ID        string   `json:"id"`
	State     string   `json:"state"` // as announced: "u", "b", "p", "m"
	Model     string   `json:"model,omitempty"`
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	Addresses []string `json:"addresses"` // of its page, its name first
}

func boxesOf(found []discovery.Found) []foundBox {
	boxes := make([]foundBox, 0, len(found))
	for _, f := range found {
		b := foundBox{
			Name: f.Name, ID: f.Text["id"], State: f.Text["st"], Model: f.Text["md"], Host: f.Host, Port: f.Port, Addresses: []string{},
		}
		add := func(host string) {
			b.Addresses = append(b.Addresses, "https://"+net.JoinHostPort(host, strconv.Itoa(f.Port))+"/")
		}
		add(f.Host)
		for _, a := range f.Addrs {
			if !a.IsLinkLocalUnicast() { // of no use without the link that it is on
				add(a.String())
			}
		}
		boxes = append(boxes, b)
	}
	return boxes
}

func stateText(st string) string {
	switch discovery.State(st) {
	case discovery.Unbound:
		return "waits for its owner"
	case discovery.Bound:
		return "has an owner"
	case discovery.Pairing:
		return "has an owner, lets somebody join"
	case discovery.Maintenance:
		return "in maintenance"
	}
	return "unknown"
}

func (a *app) discoverCommand() *cobra.Command {
	var patience time.Duration
	c := &cobra.Command{
		Use:   "discover",
		Short: "List the boxes on this network",
		Long: `Looks for boxes on the network by multicast DNS and lists them. What they say can be
forged by anybody on the network: only the label, or what this program pinned when it
was bound, tells which box is yours. An empty list is no proof that there is none: a
guest network or another one may keep multicast away.`,
		Args: cobra.NoArgs,
	}
	c.Flags().DurationVar(&patience, "timeout", 3*time.Second, "how long to look")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if patience <= 0 || patience > time.Minute {
			return usagef("--timeout must be more than 0s and at most 1m")
		}
		found, err := discovery.Browse(cmd.Context(), discovery.ServiceBox, patience)
		if err != nil {
			return unreachable(err)
		}
		boxes := boxesOf(found)
		return a.print(boxes, func(w io.Writer) {
			var rows [][]string
			for _, b := range boxes {
				rows = append(rows, []string{shown(b.Name), shown(b.Addresses[0]), stateText(b.State)})
				for _, address := range b.Addresses[1:] {
					rows = append(rows, []string{"", shown(address)})
				}
			}
			listed(w, rows, "no box answered on this network")
		})
	}
	return c
}

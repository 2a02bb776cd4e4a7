package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

type payload struct {
	URL     *string `json:"url"`
	Payload string  `json:"payload"`
}

func (p *payload) write(w io.Writer) {
	fmt.Fprintln(w, p.Payload)
	if p.URL == nil {
		fmt.Fprintln(w, "no address is set: nothing is sent, to nobody")
		return
	}
	fmt.Fprintf(w, "would be sent to %s, who then also sees your internet address\n", shown(*p.URL))
}

// sendShown shows what would be sent, and sends that if the person says so.
func (a *app) sendShown(name, short, long, path, local string, after func(*client, *cobra.Command, payload) error) *cobra.Command {
	var only, yes bool
	c := &cobra.Command{
		Use: name, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			connect := func() (*client, error) { return a.person(cmd.Context()) }
			if a.state != "" {
				// Root cannot consent, and so sends nothing.
				path, connect, only = local, a.local, true
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var p payload
			if err := c.call(cmd.Context(), "GET", path, nil, &p); err != nil {
				return err
			}
			if only {
				return a.print(p, p.write)
			}
			if !a.json {
				p.write(a.stdout)
			}
			if p.URL == nil {
				return &codeError{problem.ExitFailed}
			}
			if !yes {
				if ok, asked := a.ask("Send exactly this?"); !asked {
					return usagef("%s needs --yes when nobody can be asked, or --show", name)
				} else if !ok {
					return &codeError{problem.ExitFailed}
				}
			}
			return after(c, cmd, p)
		},
	}
	c.Flags().BoolVar(&only, "show", false, "show what would be sent, and send nothing")
	c.Flags().BoolVar(&yes, "yes", false, "send it without asking")
	return c
}

func (a *app) statisticsCommand() *cobra.Command {
	return a.sendShown("statistics", "Show the anonymous sums that could be sent, and send them",
		`statistics shows sums in steps of ten of those people who consented to that, asks, and
sends exactly them. It needs your consent to statistics, and an address in the box's
settings; there is none by default. With --state DIR it only shows.`,
		"/v1/statistics", "/local/statistics", func(c *client, cmd *cobra.Command, p payload) error {
			if err := c.call(cmd.Context(), "POST", "/v1/statistics", map[string]string{"payload": p.Payload}, nil); err != nil {
				return err
			}
			return a.print(map[string]bool{"sent": true}, func(w io.Writer) { fmt.Fprintln(w, "sent") })
		})
}

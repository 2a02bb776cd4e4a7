package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// boxOffer is an offer of GET /v1/ownership.
type boxOffer struct {
	From string    `json:"from"`
	To   string    `json:"to"`
	Mine bool      `json:"mine"`
	Due  time.Time `json:"due"`
}

func (o boxOffer) write(w io.Writer) {
	until := o.Due.Local().Format(time.DateOnly)
	if o.Mine {
		fmt.Fprintf(w, "you offer the box to %s, until %s: they accept with \"yunboxctl owner accept\" or on the box's page\n", shown(o.To), until)
		return
	}
	fmt.Fprintf(w, "%s offers you the box, until %s: \"yunboxctl owner accept\" or \"yunboxctl owner end\"\n", shown(o.From), until)
}

func (a *app) ownerCommand() *cobra.Command {
	var yes bool
	top := &cobra.Command{
		Use: "owner", Short: "Hand the box over to another person, or accept it", Args: cobra.NoArgs,
		Long: `owner hands the box over: its owner offers it to another adult who has an account on it,
and they accept. Then they are the owner, and whoever was it is a member. An offer ends by
itself after 7 days. Who wants to leave a box that they own does this before "yunboxctl cancel".`,
	}
	show := &cobra.Command{
		Use: "show", Short: "Show whether the box is being handed over, by you or to you", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var out struct {
				Offer *boxOffer `json:"offer"`
			}
			if err := c.call(cmd.Context(), "GET", "/v1/ownership", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if out.Offer == nil {
					fmt.Fprintln(w, "nobody hands this box over, to you or for you")
					return
				}
				out.Offer.write(w)
			})
		},
	}
	offer := &cobra.Command{
		Use: "offer NAME", Short: "Offer the box that you own to somebody on it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.person(ctx)
			if err != nil {
				return err
			}
			if err := a.confirm(yes, "Give this box to "+shown(args[0])+"? When they accept you are a member of it.", "give"); err != nil {
				return err
			}
			var out boxOffer
			if err := a.proving(ctx, c, func() error { return c.call(ctx, "POST", "/v1/ownership", map[string]string{"to": args[0]}, &out) }); err != nil {
				return err
			}
			return a.print(out, out.write)
		},
	}
	offer.Flags().BoolVar(&yes, "yes", false, "you are sure: do not ask")
	accept := &cobra.Command{
		Use: "accept", Short: "Accept the box that is offered to you", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.person(ctx)
			if err == nil {
				err = a.proving(ctx, c, func() error { return c.call(ctx, "PUT", "/v1/ownership", nil, nil) })
			}
			if err != nil {
				return err
			}
			return a.print(map[string]bool{"owner": true}, func(w io.Writer) { fmt.Fprintln(w, "the box is yours: you are its owner") })
		},
	}
	end := &cobra.Command{
		Use: "end", Short: "Take your offer back, or decline one", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err == nil {
				err = c.call(cmd.Context(), "DELETE", "/v1/ownership", nil, nil)
			}
			if err != nil {
				return err
			}
			return a.print(map[string]bool{"ended": true}, func(w io.Writer) { fmt.Fprintln(w, "the box stays with its owner") })
		},
	}
	top.AddCommand(show, offer, accept, end)
	return top
}

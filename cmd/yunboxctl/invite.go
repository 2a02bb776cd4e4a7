package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) inviteCommand() *cobra.Command {
	var admin bool
	c := &cobra.Command{
		Use: "invite", Short: "Invite one person to the box", Args: cobra.NoArgs,
		Long: `invite shows a QR code, and the same as text, by which one person can make themselves an
account within ten minutes: they choose name and password, which nobody else gets to
see. It holds the key of the box, so nothing on the network can answer in its place.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			role := "member"
			if admin {
				role = "admin"
			}
			var i struct {
				URI     string    `json:"uri"`
				Role    string    `json:"role"`
				Expires time.Time `json:"expires"`
			}
			err = a.proving(cmd.Context(), c, func() error {
				return c.call(cmd.Context(), "POST", "/v1/invitations", map[string]string{"role": role}, &i)
			})
			if err != nil {
				return err
			}
			return a.print(i, func(w io.Writer) {
				drawQR(w, i.URI)
				fmt.Fprintf(w, "%s\n\nFor one %s, until %s:\n  yunboxctl join 'URI' --username NAME\n", i.URI, i.Role, i.Expires.Local().Format("15:04"))
			})
		},
	}
	c.Flags().BoolVar(&admin, "admin", false, "the person will manage the box, too")
	return c
}

func (a *app) joinCommand() *cobra.Command {
	var username string
	var fromStdin bool
	c := &cobra.Command{
		Use: "join URI", Short: "Make yourself an account with an invitation", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pair, err := parseInvitation(args[0])
			if err != nil {
				return err
			}
			if username == "" {
				return usagef("choose a name with --username")
			}
			password, err := a.password(fromStdin, "Your new password: ")
			if err != nil {
				return err
			}
			c, err := a.stranger(cmd.Context(), pair)
			if err != nil {
				return err
			}
			var s session
			in := map[string]any{"secret": pair.secret, "username": username, "password": password, "device": deviceName()}
			if err := c.call(cmd.Context(), "POST", "/v1/join", in, &s); err != nil {
				return err
			}
			return a.signedIn(c, s, "welcome; signed in")
		},
	}
	c.Flags().StringVar(&username, "username", "", "your name on the box")
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return c
}

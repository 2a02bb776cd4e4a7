package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/ident"
)

// cameraToken is an app token of scope camera.
type cameraToken struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Scope    string     `json:"scope"`
	Created  time.Time  `json:"created"`
	LastUsed *time.Time `json:"last_used"`
}

func (a *app) cameraCommand() *cobra.Command {
	top := &cobra.Command{
		Use: "camera", Short: "Passwords with which cameras leave photos on the box (FTP)",
		Long: `camera makes and revokes passwords for cameras that send photos by FTP or FTPS.

A camera signs in with your user name and its own password, and can do nothing but
leave files in the folder Camera/NAME. FTP must be on at the box: its setting ftp, or where
it was installed as a package, "systemctl enable --now yunboxd-ftp.socket" there. And you
must consent to camera_transfer.`,
	}
	add := &cobra.Command{
		Use: "add NAME", Short: "Make a password for a camera", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var m me
			if err := c.call(cmd.Context(), "GET", "/v1/me", nil, &m); err != nil {
				return err
			}
			var made struct {
				cameraToken
				FTPPort *int   `json:"ftp_port,omitempty"`
				Token   string `json:"token"`
			}
			in := map[string]string{"name": args[0], "scope": "camera"}
			err = a.proving(cmd.Context(), c, func() error { return c.call(cmd.Context(), "POST", "/v1/tokens", in, &made) })
			if err != nil {
				return err
			}
			return a.print(made, func(w io.Writer) {
				rows := [][]string{{"server", shown(c.base.Hostname())}}
				if made.FTPPort != nil {
					rows = append(rows, []string{"port", fmt.Sprint(*made.FTPPort)})
				} else {
					rows = append(rows, []string{"port", "none yet: the camera gateway is off, start yunboxd with --ftp ADDR"})
				}
				columns(w, append(rows, [][]string{
					{"user", shown(m.Username)}, {"password", made.Token}, {"mode", "passive; FTPS (explicit TLS)"},
					{"folder", "Camera/" + shown(made.Name)},
				}...))
				fmt.Fprintln(w, "The password is shown this once. Hyphens may be left out.")
			})
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List your cameras' passwords, without the secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var all struct{ Tokens []cameraToken }
			if err := c.call(cmd.Context(), "GET", "/v1/tokens", nil, &all); err != nil {
				return err
			}
			cameras := []cameraToken{}
			for _, t := range all.Tokens {
				if t.Scope == "camera" {
					cameras = append(cameras, t)
				}
			}
			return a.print(map[string]any{"cameras": cameras}, func(w io.Writer) {
				rows := [][]string{{"ID", "NAME", "LAST USED"}}
				for _, t := range cameras {
					used := "never"
					if t.LastUsed != nil {
						used = t.LastUsed.Local().Format("2006-01-02 15:04")
					}
					rows = append(rows, []string{t.ID, shown(t.Name), used})
				}
				columns(w, rows)
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Revoke a camera's password; its photos stay", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := ident.Parse[ident.ItemID](args[0]); err != nil { // all ids look alike
				return usagef("%q is not an id: see `yunboxctl camera list`", args[0])
			}
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), "DELETE", "/v1/tokens/"+args[0], nil, nil); err != nil {
				return err
			}
			return a.print(map[string]bool{"removed": true}, func(w io.Writer) { fmt.Fprintln(w, "revoked") })
		},
	}
	top.AddCommand(add, list, remove)
	return top
}

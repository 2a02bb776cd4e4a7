package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// session is the answer to binding and signing in.
type session struct {
	Token string `json:"token"`
	User  struct {
		ID       string `json:"id"`
		Username string `json:"username"`
		Role     string `json:"role"`
	} `json:"user"`
	Device  *string   `json:"device"`
	Expires time.Time `json:"expires"`
}

// signedIn saves a new session and tells about it.
func (a *app) signedIn(c *client, s session, what string) error {
	err := a.saveProfile(profile{Box: c.base.String(), Fingerprint: c.pin.String(), Username: s.User.Username, Token: s.Token})
	if err != nil {
		return fmt.Errorf("signed in, but the profile could not be saved: %w", err)
	}
	return a.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "%s as %s (%s) until %s\n", what, shown(s.User.Username), s.User.Role, s.Expires.Local().Format("2006-01-02"))
	})
}

// deviceName is how this machine introduces itself.
func deviceName() map[string]string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "computer"
	}
	if len(name) > 60 {
		name = strings.ToValidUTF8(name[:60], "")
	}
	return map[string]string{"name": name, "kind": "computer"}
}

func (a *app) loginCommand() *cobra.Command {
	var username, code string
	var fromStdin bool
	c := &cobra.Command{
		Use: "login", Short: "Sign in to a box", Args: cobra.NoArgs,
		Long: "login signs in and saves the session and the box's key in the profile, for the commands that follow.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if username == "" {
				return usagef("who signs in? --username NAME")
			}
			c, err := a.stranger(cmd.Context(), pairing{})
			if err != nil {
				return err
			}
			password, err := a.password(fromStdin, "Password of "+username+": ")
			if err != nil {
				return err
			}
			var s session
			err = a.withCode(code, func(code string) error {
				in := map[string]any{"username": username, "password": password, "device": deviceName()}
				if code != "" {
					in["otp"] = code
				}
				return c.call(cmd.Context(), "POST", "/v1/session", in, &s)
			})
			if err != nil {
				return err
			}
			return a.signedIn(c, s, "signed in")
		},
	}
	c.Flags().StringVar(&username, "username", "", "your name on the box")
	c.Flags().StringVar(&code, "code", "", "code of your authenticator, or a recovery code, if your account has a second factor")
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return c
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Sign out and forget the session", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			// A session that the box has ended already is as good as ended now.
			if err := c.call(cmd.Context(), "DELETE", "/v1/session", nil, nil); err != nil && problem.KindOf(err) != problem.Unauthenticated {
				return err
			}
			p, err := a.loadProfile()
			if err != nil {
				return err
			}
			if p.Token == c.token {
				p.Token = "" // where the box is and its key are kept
				if err := a.saveProfile(p); err != nil {
					return err
				}
			}
			return a.print(map[string]bool{"signed_out": true}, func(w io.Writer) { fmt.Fprintln(w, "signed out") })
		},
	}
}

// me is GET /v1/me.
type me struct {
	ID       string `json:"id"`
	Username string `json:"username"`
	Role     string `json:"role"`
	Usage    struct {
		Items    int64  `json:"items"`
		Bytes    int64  `json:"bytes"`
		Distinct int64  `json:"distinct_bytes"`
		Quota    *int64 `json:"quota"`
	} `json:"usage"`
	Policy struct {
		Current  string  `json:"current"`
		Accepted *string `json:"accepted"`
	} `json:"policy"`
}

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who is signed in, and what is kept for them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/v1/me", nil, &raw); err != nil {
				return err
			}
			var m me
			if err := json.Unmarshal(raw, &m); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				quota, accepted := "no limit", "not accepted yet: `yunboxctl policy show`, `yunboxctl policy accept`"
				if m.Usage.Quota != nil {
					quota = problem.Bytes(*m.Usage.Quota)
				}
				if m.Policy.Accepted != nil {
					accepted = "revision " + *m.Policy.Accepted + " accepted"
					if *m.Policy.Accepted != m.Policy.Current {
						accepted += ", revision " + m.Policy.Current + " is new"
					}
				}
				columns(w, [][]string{
					{"box", c.base.String()}, {"name", shown(m.Username)}, {"role", m.Role},
					{"files", fmt.Sprintf("%d, %s", m.Usage.Items, problem.Bytes(m.Usage.Bytes))}, {"share", quota}, {"policy", accepted},
				})
			})
		},
	}
}

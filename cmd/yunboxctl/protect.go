package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// askCode asks for the code of a second factor, which is no secret once it was used.
func (a *app) askCode() (string, bool) {
	f, ok := a.terminal()
	if !ok {
		return "", false
	}
	a.prompt(f, "Code of your authenticator, or a recovery code: ")
	return strings.TrimSpace(readLine(f)), true
}

// withCode calls f, and again with a code if the box wants one. code may be known
// already.
func (a *app) withCode(code string, f func(code string) error) error {
	err := f(code)
	if problem.KindOf(err) != problem.CodeRequired || code != "" {
		return err
	}
	code, asked := a.askCode()
	if !asked {
		return &problem.Error{Kind: problem.CodeRequired, Op: "client", Title: "A code is needed, too",
			Detail: "This account has a second factor.", Hint: "Give the code of your authenticator, or a recovery code, with --code."}
	}
	return f(code)
}

// proving makes a request, and proves first who asks if the box wants that.
func (a *app) proving(ctx context.Context, c *client, f func() error) error {
	err := f()
	if problem.KindOf(err) != problem.StepUpRequired {
		return err
	}
	terminal, ok := a.terminal()
	if !ok {
		p := *problem.As(err)
		p.Hint = "Sign in again with `yunboxctl login`, then repeat the command within five minutes."
		return &p
	}
	password, err := a.readPassword(terminal, "Your password again: ")
	if err != nil {
		return err
	}
	err = a.withCode("", func(code string) error {
		return c.call(ctx, "POST", "/v1/session/proof", map[string]string{"password": password, "otp": code}, nil)
	})
	if err != nil {
		return err
	}
	return f()
}

func (a *app) factorCommand() *cobra.Command {
	top := &cobra.Command{
		Use: "factor", Short: "Protect your account with a second factor: codes of an authenticator app",
		Long: `factor sets up codes that change every 30 seconds (TOTP) and are asked for when you
sign in. Programs and cameras go on using their app tokens.`,
	}
	show := &cobra.Command{
		Use: "show", Short: "Show whether it is on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var f struct {
				On    bool       `json:"on"`
				Since *time.Time `json:"since"`
				Codes int64      `json:"recovery_codes"`
			}
			if err := c.call(cmd.Context(), "GET", "/v1/me/second-factor", nil, &f); err != nil {
				return err
			}
			return a.print(f, func(w io.Writer) {
				if !f.On || f.Since == nil {
					fmt.Fprintln(w, "off: the password alone signs in")
					return
				}
				fmt.Fprintf(w, "on since %s, %s left\n", f.Since.Local().Format(time.DateOnly), plural(f.Codes, "recovery code", "recovery codes"))
			})
		},
	}
	begin := &cobra.Command{
		Use: "begin", Short: "Make a secret for an authenticator app", Args: cobra.NoArgs,
		Long: "begin shows the QR code for the app. Nothing changes until `yunboxctl factor confirm`.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var e struct {
				Secret string `json:"secret"`
				URI    string `json:"uri"`
			}
			err = a.proving(cmd.Context(), c, func() error { return c.call(cmd.Context(), "POST", "/v1/me/second-factor", nil, &e) })
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) {
				drawQR(w, e.URI)
				fmt.Fprintf(w, "\nScan this with the app, or type the secret into it: %s\nThen: yunboxctl factor confirm --code CODE\n", e.Secret)
			})
		},
	}
	codes := func(use, short, method, path string, body func(code string) any) *cobra.Command {
		var code string
		c := &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.person(cmd.Context())
				if err != nil {
					return err
				}
				var in any
				if body != nil {
					if code == "" {
						code, _ = a.askCode()
					}
					if code == "" {
						return usagef("which code does the app show? --code CODE")
					}
					in = body(code)
				}
				var out struct {
					Codes []string `json:"recovery_codes"`
				}
				if err := a.proving(cmd.Context(), c, func() error { return c.call(cmd.Context(), method, path, in, &out) }); err != nil {
					return err
				}
				return a.print(out, func(w io.Writer) {
					fmt.Fprintln(w, "Recovery codes, for the day when the authenticator is lost. Each is good once.\nThey are shown this once: write them down or print them.")
					for _, code := range out.Codes {
						fmt.Fprintln(w, " ", code)
					}
				})
			},
		}
		if body != nil {
			c.Flags().StringVar(&code, "code", "", "what the app shows now")
		}
		return c
	}
	off := &cobra.Command{
		Use: "off", Short: "Switch it off", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.proving(cmd.Context(), c, func() error { return c.call(cmd.Context(), "DELETE", "/v1/me/second-factor", nil, nil) }); err != nil {
				return err
			}
			return a.print(map[string]bool{"on": false}, func(w io.Writer) { fmt.Fprintln(w, "off: the password alone signs in") })
		},
	}
	top.AddCommand(show, begin,
		codes("confirm", "Switch it on with the first code", "PUT", "/v1/me/second-factor", func(code string) any { return map[string]string{"otp": code} }),
		codes("codes", "Make new recovery codes", "POST", "/v1/me/second-factor/recovery-codes", nil),
		off)
	return top
}

func (a *app) sessionCommand() *cobra.Command {
	top := &cobra.Command{Use: "session", Short: "See where you are signed in, and sign out there"}
	list := &cobra.Command{
		Use: "list", Short: "List where you are signed in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var out struct {
				Sessions []struct {
					ID       string    `json:"id"`
					Name     *string   `json:"name"`
					Kind     *string   `json:"kind"`
					Created  time.Time `json:"created"`
					LastSeen time.Time `json:"last_seen"`
					Current  bool      `json:"current"`
				} `json:"sessions"`
			}
			if err := c.call(cmd.Context(), "GET", "/v1/sessions", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				rows := [][]string{{"ID", "DEVICE", "KIND", "SINCE", "LAST SEEN", ""}}
				for _, s := range out.Sessions {
					name, kind, here := "not said", "", ""
					if s.Name != nil {
						name = shown(*s.Name)
					}
					if s.Kind != nil {
						kind = *s.Kind
					}
					if s.Current {
						here = "this one"
					}
					rows = append(rows, []string{s.ID, name, kind, s.Created.Local().Format(time.DateOnly), s.LastSeen.Local().Format("2006-01-02 15:04"), here})
				}
				columns(w, rows)
			})
		},
	}
	var others bool
	end := &cobra.Command{
		Use: "end [ID]", Short: "Sign out elsewhere", Args: cobra.MaximumNArgs(1),
		Long: "end signs out the session ID, as `yunboxctl session list` shows it, or with\n--others all but this one. App tokens stay.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if others == (len(args) == 1) {
				return usagef("say which session, or --others")
			}
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			out := struct {
				Ended int64 `json:"ended"`
			}{1}
			if others {
				err = c.call(cmd.Context(), "DELETE", "/v1/sessions", nil, &out)
			} else {
				err = c.call(cmd.Context(), "DELETE", "/v1/sessions/"+url.PathEscape(args[0]), nil, nil)
			}
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "signed out: %s\n", plural(out.Ended, "session", "sessions")) })
		},
	}
	end.Flags().BoolVar(&others, "others", false, "all but this one")
	top.AddCommand(list, end)
	return top
}

// resetFactorCommand is for people who lost authenticator and recovery codes.
func (a *app) resetFactorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reset-factor NAME", Short: "Switch off the second factor of a person who lost it", Args: cobra.ExactArgs(1),
		Long: "reset-factor lets a person in by the password alone again. It signs them out\neverywhere, is recorded, and they are told.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), "PATCH", "/local/users/"+url.PathEscape(args[0]), map[string]bool{"second_factor": false}, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"username": args[0], "second_factor": false}, func(w io.Writer) {
				fmt.Fprintf(w, "%s signs in with the password alone, and is signed out everywhere\n", shown(args[0]))
			})
		},
	}
}

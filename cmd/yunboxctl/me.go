package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// meCommand is for what people tell about themselves.
func (a *app) meCommand() *cobra.Command {
	top := &cobra.Command{
		Use: "me", Short: "See and correct what you told about yourself",
		Long: `me handles e-mail address, phone number, nickname, gender and city. All of them are
optional, lie encrypted on the box, and need your consent to profile_details.`,
	}
	var plain bool
	show := &cobra.Command{
		Use: "show", Short: "Show it masked, or with --plain as it is", Args: cobra.NoArgs,
		Long: "show --plain is recorded in the box's audit record: it is you who asks for it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var out struct {
				Details []struct {
					Detail  string    `json:"detail"`
					Masked  *string   `json:"masked"`
					Value   *string   `json:"value,omitempty"`
					Changed time.Time `json:"changed"`
				} `json:"details"`
				Avatar  bool `json:"avatar"`
				Allowed bool `json:"allowed"`
			}
			if err := c.call(cmd.Context(), "GET", "/v1/me/profile", nil, &out); err != nil {
				return err
			}
			if plain {
				values := map[string]string{}
				if err := c.call(cmd.Context(), "POST", "/v1/me/profile/reveal", struct{}{}, &values); err != nil {
					return err
				}
				for i, d := range out.Details {
					if v, ok := values[d.Detail]; ok {
						out.Details[i].Value = &v
					}
				}
			}
			return a.print(out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.Details))
				for _, d := range out.Details {
					value := "cannot be read any more: tell it again"
					if d.Masked != nil {
						value = *d.Masked
					}
					if d.Value != nil {
						value = *d.Value
					}
					rows = append(rows, []string{d.Detail, shown(value), d.Changed.Local().Format(time.DateOnly)})
				}
				if len(rows) == 0 {
					fmt.Fprintln(w, "nothing")
				}
				columns(w, rows)
				if out.Avatar {
					fmt.Fprintln(w, "and a picture")
				}
			})
		},
	}
	show.Flags().BoolVar(&plain, "plain", false, "show the values themselves")
	set := &cobra.Command{
		Use: "set DETAIL [VALUE]", Short: "Tell or correct email, phone, nickname, gender or city", Args: cobra.RangeArgs(1, 2),
		Long: "set reads the value from standard input if it is left out, so that it does not stay in\nthe shell's history.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			value := ""
			if len(args) == 2 {
				value = args[1]
			} else {
				value = readLine(a.stdin)
			}
			if err := c.call(cmd.Context(), "PUT", "/v1/me/profile/"+url.PathEscape(args[0]), map[string]string{"value": value}, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"detail": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "kept: %s\n", shown(args[0])) })
		},
	}
	remove := &cobra.Command{
		Use: "delete DETAIL", Short: "Delete email, phone, nickname, gender, city or avatar", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), "DELETE", "/v1/me/profile/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"detail": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "deleted: %s\n", shown(args[0])) })
		},
	}
	top.AddCommand(show, set, remove, a.signInsCommand(), a.usageCommand())
	return top
}

type signInEntry struct {
	User    *string   `json:"user,omitempty"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Outcome string    `json:"outcome"`
	Device  *string   `json:"device"`
	Name    *string   `json:"name"`
	Address *string   `json:"address"`
	Until   time.Time `json:"until"`
}

func (a *app) printSignIns(list []signInEntry, everybody bool) error {
	return a.print(map[string]any{"sign_ins": list}, func(w io.Writer) {
		words := map[string]string{"signed_in": "signed in", "refused": "refused", "code_refused": "right password, wrong code"}
		or := func(s *string, none string) string {
			if s == nil {
				return none
			}
			return shown(*s)
		}
		var rows [][]string
		for _, s := range list {
			row := []string{s.Time.Local().Format(time.DateTime), words[s.Outcome], or(s.Address, "address not known"), or(s.Name, "")}
			if everybody {
				row = append([]string{row[0], or(s.User, "(no such name)")}, row[1:]...)
			}
			rows = append(rows, row)
		}
		listed(w, rows, "nobody signed in, and nobody tried")
	})
}

func (a *app) signInsCommand() *cobra.Command {
	var plain bool
	c := &cobra.Command{
		Use: "sign-ins", Short: "Show where you signed in from in the last 30 days, and wrong tries", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var out struct {
				SignIns []signInEntry `json:"sign_ins"`
			}
			method, path := "GET", "/v1/me/sign-ins?limit=200"
			if plain {
				method, path = "POST", "/v1/me/sign-ins/reveal?limit=200"
			}
			if err := c.call(cmd.Context(), method, path, nil, &out); err != nil {
				return err
			}
			return a.printSignIns(out.SignIns, false)
		},
	}
	c.Flags().BoolVar(&plain, "plain", false, "show whole addresses; it is recorded that you did")
	return c
}

// securityCommand shows root who tried to come in.
func (a *app) securityCommand() *cobra.Command {
	limit := 50
	c := &cobra.Command{
		Use: "security-log", Short: "Show who signed in to the box on this machine and who tried, of the last 30 days", Args: cobra.NoArgs,
		Long: "security-log shows the newest entries of everybody. Addresses of the network are masked.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 1000 {
				return usagef("--limit is between 1 and 1000")
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				SignIns []signInEntry `json:"sign_ins"`
			}
			if err := c.call(cmd.Context(), "GET", "/local/sign-ins?limit="+strconv.Itoa(limit), nil, &out); err != nil {
				return err
			}
			return a.printSignIns(out.SignIns, true)
		},
	}
	c.Flags().IntVar(&limit, "limit", limit, "how many, 1 to 1000")
	return c
}

func (a *app) usageCommand() *cobra.Command {
	var of string
	var remove bool
	c := &cobra.Command{
		Use: "usage", Short: "Show or delete what is noted of your use of the page, if you agreed to that", Args: cobra.NoArgs,
		Long: "usage --of NAME shows whoever maintains the box what somebody who agreed to it did before\nsomething was slow or did not work. That is recorded.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if of != "" && remove {
				return usagef("only the person themself deletes it")
			}
			open := func() (*client, error) { return a.person(cmd.Context()) }
			method, path := "GET", "/v1/me/usage?limit=200"
			if of != "" {
				open, path = a.local, "/local/users/"+url.PathEscape(of)+"/usage"
			}
			c, err := open()
			if err != nil {
				return err
			}
			if remove {
				if err := c.call(cmd.Context(), "DELETE", "/v1/me/usage", nil, nil); err != nil {
					return err
				}
				return a.print(struct{}{}, func(w io.Writer) { fmt.Fprintln(w, "deleted") })
			}
			var out struct {
				Uses []struct {
					Time     time.Time `json:"time"`
					Page     string    `json:"page"`
					Browser  string    `json:"browser"`
					Language string    `json:"language"`
					Address  *string   `json:"address"`
				} `json:"uses"`
			}
			if err := c.call(cmd.Context(), method, path, nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				var rows [][]string
				for _, u := range out.Uses {
					address := ""
					if u.Address != nil {
						address = *u.Address
					}
					rows = append(rows, []string{u.Time.Local().Format(time.DateTime), shown(u.Page), address, shown(u.Language), shown(u.Browser)})
				}
				columns(w, rows)
			})
		},
	}
	c.Flags().StringVar(&of, "of", "", "on the box itself: of that person")
	c.Flags().BoolVar(&remove, "delete", false, "delete it")
	return c
}

// keysCommand changes the keys of the vault.
func (a *app) keysCommand() *cobra.Command {
	top := &cobra.Command{Use: "keys", Short: "Handle the keys that personal details are encrypted with"}
	rotate := &cobra.Command{
		Use: "rotate", Short: "Change all of them, and encrypt everything anew", Args: cobra.NoArgs,
		Long: `rotate makes another master key, other keys for everybody and another one by which people
are found, and encrypts what they told about themselves anew. Cut off, it goes on by itself;
nobody is missed meanwhile. The keys that encrypted it before stay until the next
rotation, so that a second copy that is being written can be read: run it twice, with a
second copy in between, if somebody may know the keys.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.eachLine(cmd.Context(), "/local/vault/rotate", "{}", "change of keys", func(event string, line []byte) error {
				var p struct {
					People int   `json:"people"`
					Done   int   `json:"done"`
					Values int64 `json:"values"`
					Lost   int64 `json:"lost"`
				}
				if err := json.Unmarshal(line, &p); err != nil || a.json {
					return err
				}
				if event != "done" {
					return nil
				}
				fmt.Fprintf(a.stdout, "changed the keys of %s, %s encrypted anew\n", plural(int64(p.Done), "person", "people"), plural(p.Values, "value", "values"))
				if p.Lost > 0 {
					fmt.Fprintf(a.stdout, "%s cannot be read by any key and stayed as they are\n", plural(p.Lost, "value", "values"))
				}
				return nil
			})
		},
	}
	top.AddCommand(rotate)
	return top
}

// findUserCommand is for people who forgot their user name.
func (a *app) findUserCommand() *cobra.Command {
	var email, phone string
	c := &cobra.Command{
		Use: "find", Short: "Find who told an e-mail address or a phone number, and forgot their user name", Args: cobra.NoArgs,
		Long: "find compares fingerprints: no address is shown or decrypted. That it was\nasked for is recorded with whom it found.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (email == "") == (phone == "") {
				return usagef("say either --email or --phone")
			}
			in := map[string]string{"detail": "email", "value": email}
			if phone != "" {
				in = map[string]string{"detail": "phone", "value": phone}
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Users []string `json:"users"`
			}
			if err := c.call(cmd.Context(), "POST", "/local/users/find", in, &out); err != nil {
				return err
			}
			err = a.print(out, func(w io.Writer) {
				for _, name := range out.Users {
					fmt.Fprintln(w, shown(name))
				}
			})
			if err == nil && len(out.Users) == 0 && !a.json {
				err = errors.New("nobody told that")
			}
			return err
		},
	}
	c.Flags().StringVar(&email, "email", "", "the address")
	c.Flags().StringVar(&phone, "phone", "", "the number")
	return c
}

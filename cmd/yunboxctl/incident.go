package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

type incidentText struct {
	Title    string `json:"title"`
	What     string `json:"what"`
	Effect   string `json:"effect"`
	Measures string `json:"measures"`
	Advice   string `json:"advice"`
	Remedies string `json:"remedies"`
}

type incidentInfo struct {
	ID        string                  `json:"id"`
	Happened  time.Time               `json:"happened"`
	Contact   string                  `json:"contact"`
	Text      map[string]incidentText `json:"text"`
	Sent      *time.Time              `json:"sent"`
	Published *time.Time              `json:"published"`
	Ended     *time.Time              `json:"ended"`
	Reach     struct {
		People  int64 `json:"people"`
		Seen    int64 `json:"seen"`
		Mailed  int64 `json:"mailed"`
		Waiting int64 `json:"waiting"`
		Failed  int64 `json:"failed"`
	} `json:"reach"`
	People []struct {
		Username string     `json:"username"`
		Seen     *time.Time `json:"seen"`
		Mail     string     `json:"mail"`
	} `json:"people"`
}

func (i *incidentInfo) title() string {
	for _, lang := range []string{language(), "en", "zh"} {
		if t, ok := i.Text[lang]; ok {
			return t.Title
		}
	}
	return ""
}

func (i *incidentInfo) state() string {
	switch {
	case i.Sent == nil:
		return "draft"
	case i.Published != nil && i.Ended == nil:
		return "sent, published"
	}
	return "sent"
}

func (i *incidentInfo) write(w io.Writer) {
	fmt.Fprintf(w, "%s  %s  %s\n", i.ID, i.state(), shown(i.title()))
	if i.Sent == nil {
		fmt.Fprintf(w, "  nobody sees it before: yunboxctl incident send %s\n", i.ID)
		return
	}
	fmt.Fprintf(w, "  sent to %s: %d have read it; e-mails: %d sent, %d waiting, %d failed\n", plural(i.Reach.People, "person", "people"), i.Reach.Seen, i.Reach.Mailed, i.Reach.Waiting, i.Reach.Failed)
	for _, p := range i.People {
		seen := "not read yet"
		if p.Seen != nil {
			seen = "read " + p.Seen.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "    %s: %s, e-mail: %s\n", shown(p.Username), seen, p.Mail)
	}
}

const incidentTemplate = `{
  "happened": %q,
  "contact": "name, and how to reach you",
  "scope": {"everyone": true},
  "text": {
    "en": {"title": "", "what": "", "effect": "", "measures": "", "advice": "", "remedies": ""},
    "zh": {"title": "", "what": "", "effect": "", "measures": "", "advice": "", "remedies": ""}
  }
}
`

func (a *app) incidentCommand() *cobra.Command {
	top := &cobra.Command{
		Use: "incident", Short: "Tell people what went wrong with their data",
		Long: `incident keeps notices about incidents with personal data: what happened and what it may
mean, what was done, what people can do, what they are entitled to, and whom to ask. A
notice is a draft until it is sent. People find it on the page, and get an e-mail if the
settings name a mail server and they gave an address.`,
	}
	one := func(c *client, cmd *cobra.Command, method, path string, body any) error {
		var raw json.RawMessage
		if err := c.call(cmd.Context(), method, path, body, &raw); err != nil {
			return err
		}
		var i incidentInfo
		if err := json.Unmarshal(raw, &i); err != nil {
			return err
		}
		return a.print(raw, i.write)
	}
	var file string
	var everyone bool
	var people, touched []string
	create := &cobra.Command{
		Use: "new", Short: "Write a draft from a file", Args: cobra.NoArgs,
		Long: `new reads a draft as JSON from --file, or from standard input with "-". yunboxctl incident
template prints one to fill in; a language that is not needed is left out.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			text, err := a.readText(file, 1<<20)
			if err != nil {
				return err
			}
			var draft map[string]any
			if err := json.Unmarshal([]byte(text), &draft); err != nil {
				return usagef("the draft is no JSON: %v", err)
			}
			switch {
			case everyone:
				draft["scope"] = map[string]any{"everyone": true}
			case len(touched) > 0:
				draft["scope"] = map[string]any{"touched": touched}
			case len(people) > 0:
				draft["scope"], draft["names"] = map[string]any{}, people
			}
			return one(c, cmd, "POST", "/local/incidents", draft)
		},
	}
	create.Flags().StringVar(&file, "file", "-", "`FILE` with the draft")
	create.Flags().BoolVar(&everyone, "all", false, "it concerns everybody")
	create.Flags().StringArrayVar(&people, "person", nil, "it concerns the person of that `NAME` (repeatable)")
	create.Flags().StringArrayVar(&touched, "touched", nil, "it concerns whoever has data of that `CATEGORY`, as yunboxctl data lists them (repeatable)")
	template := &cobra.Command{
		Use: "template", Short: "Print a draft to fill in", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.stdout, incidentTemplate, time.Now().UTC().Format(time.RFC3339))
			return err
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List notices and drafts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/local/incidents", nil, &raw); err != nil {
				return err
			}
			var out struct {
				Incidents []incidentInfo `json:"incidents"`
			}
			if err := json.Unmarshal(raw, &out); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				if len(out.Incidents) == 0 {
					fmt.Fprintln(w, "there are none")
				}
				for _, i := range out.Incidents {
					i.write(w)
				}
			})
		},
	}
	show := &cobra.Command{
		Use: "show ID", Short: "Show who was told, how, and who has read it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			return one(c, cmd, "GET", "/local/incidents/"+url.PathEscape(args[0]), nil)
		},
	}
	var publish, yes bool
	send := &cobra.Command{
		Use: "send ID", Short: "Send a draft to the people whom it concerns", Args: cobra.ExactArgs(1),
		Long: `send cannot be taken back. With --publish everybody who opens the page sees the
notice; without it only if somebody could not be reached within three days.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			if !yes {
				if ok, asked := a.ask("Send it? What people were told cannot be changed."); !asked {
					return usagef("incident send needs --yes when nobody can be asked")
				} else if !ok {
					return &codeError{problem.ExitFailed}
				}
			}
			return one(c, cmd, "POST", "/local/incidents/"+url.PathEscape(args[0])+"/send", map[string]bool{"publish": publish})
		},
	}
	send.Flags().BoolVar(&publish, "publish", false, "show it to everybody who opens the page")
	send.Flags().BoolVar(&yes, "yes", false, "do not ask")
	drop := func(use, short, rest string) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := a.local()
				if err != nil {
					return err
				}
				return c.call(cmd.Context(), "DELETE", "/local/incidents/"+url.PathEscape(args[0])+rest, nil, nil)
			},
		}
	}
	top.AddCommand(template, create, list, show, send, drop("remove ID", "Remove a draft", ""), drop("end ID", "Take a published notice off the page", "/publication"))
	return top
}

func (a *app) secretCommand() *cobra.Command {
	top := &cobra.Command{
		Use: "secret", Short: "Give the box the secrets that it needs towards servers elsewhere",
		Long: `secret keeps what must not stand in a settings file, under the names by which the
settings need it: mail, the password of the mail server; sign-in.ID, the secret of a
service that people sign in with. Nobody gets them back from the box.`,
	}
	set := func(use, short string, value func() (string, error)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := a.local()
				if err != nil {
					return err
				}
				v, err := value()
				if err != nil {
					return err
				}
				return c.call(cmd.Context(), "PUT", "/local/secrets/"+url.PathEscape(args[0]), map[string]string{"value": v}, nil)
			},
		}
	}
	list := &cobra.Command{
		Use: "list", Short: "List the names of what there is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Names []string `json:"names"`
			}
			if err := c.call(cmd.Context(), "GET", "/local/secrets", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if len(out.Names) == 0 {
					fmt.Fprintln(w, "there are none")
				}
				for _, n := range out.Names {
					fmt.Fprintln(w, n)
				}
			})
		},
	}
	top.AddCommand(list, set("set NAME", "Keep what comes on standard input, in place of what was there", func() (string, error) {
		b, err := io.ReadAll(io.LimitReader(a.stdin, 16<<10+1))
		v := strings.TrimRight(string(b), "\r\n")
		if err == nil && v == "" {
			err = usagef("the secret is read from standard input, and there was none")
		}
		return v, err
	}), set("remove NAME", "Forget one", func() (string, error) { return "", nil }))
	return top
}

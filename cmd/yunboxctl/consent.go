package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// policy is GET /v1/policy.
type policy struct {
	Revision string          `json:"revision"`
	Modified json.RawMessage `json:"modified"`
	Text     string          `json:"text"`
	Lang     string          `json:"lang"`
	Changes  []string        `json:"changes"`
	Accepted json.RawMessage `json:"accepted"`
	Standing *string         `json:"standing"`
}

// purpose is an entry of GET /v1/purposes.
type purpose struct {
	ID        string   `json:"id"`
	Title     string   `json:"title"`
	What      string   `json:"what"`
	Data      []string `json:"data"`
	Sensitive bool     `json:"sensitive"`
	Retention string   `json:"retention"`
	Erased    string   `json:"erased"`
	Processor string   `json:"processor"`
	Without   string   `json:"without"`
	Clauses   []string `json:"clauses"`
	PerDevice bool     `json:"per_device"`
	Sources   []string `json:"sources"`
	Available bool     `json:"available"`
}

// language is that of the person at the terminal: zh or en.
func language() string {
	for _, k := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(k); v != "" {
			if strings.HasPrefix(v, "zh") {
				return "zh"
			}
			return "en"
		}
	}
	return "en"
}

// confirm asks a person, unless --yes says that they have decided. Consent is never
// assumed: without a terminal and without --yes it is refused.
func (a *app) confirm(yes bool, question, command string) error {
	if yes {
		return nil
	}
	agreed, asked := a.ask(question)
	switch {
	case agreed:
		return nil
	case asked:
		return &problem.Error{Kind: problem.Forbidden, Op: "consent", Title: "Nothing was changed", Hint: "You can decide otherwise at any time."}
	}
	return usagef("%s needs --yes when nobody can be asked", command)
}

func (a *app) purposes(ctx context.Context, c *client) ([]purpose, error) {
	var out struct {
		Purposes []purpose `json:"purposes"`
	}
	err := c.call(ctx, "GET", "/v1/purposes?lang="+language(), nil, &out)
	return out.Purposes, err
}

func (a *app) consentCommand() *cobra.Command {
	top := &cobra.Command{Use: "consent", Short: "Decide what the box may use your data for"}
	var device string
	list := &cobra.Command{
		Use: "list", Short: "List the purposes and your decisions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.consentList(cmd.Context()) },
	}
	var yes bool
	grant := &cobra.Command{
		Use: "grant PURPOSE", Short: "Consent to a purpose", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.consentGrant(cmd.Context(), args[0], device, yes)
		},
	}
	grant.Flags().BoolVar(&yes, "yes", false, "you have read what it is for and consent: do not ask")
	withdraw := &cobra.Command{
		Use: "withdraw PURPOSE", Short: "Withdraw a consent; what runs for it stops at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			query := ""
			if device != "" {
				id, err := c.deviceID(cmd.Context(), device, false)
				if err != nil {
					return err
				}
				query = "?device=" + url.QueryEscape(id)
			}
			var receipt json.RawMessage
			if err := c.call(cmd.Context(), "DELETE", "/v1/consents/"+url.PathEscape(args[0])+query, nil, &receipt); err != nil {
				return err
			}
			return a.print(receipt, func(w io.Writer) { fmt.Fprintf(w, "withdrawn: %s\n", shown(args[0])) })
		},
	}
	receipts := &cobra.Command{
		Use: "receipts [PURPOSE]", Short: "Show the box's signed receipts for your decisions", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			path := "/v1/consents/receipts"
			if len(args) == 1 {
				path = "/v1/consents/" + url.PathEscape(args[0]) + "/receipts"
			}
			var out struct {
				Receipts []json.RawMessage `json:"receipts"`
			}
			for next := ""; ; {
				var page struct {
					Receipts []json.RawMessage `json:"receipts"`
					Next     string            `json:"next"`
				}
				if err := c.call(cmd.Context(), "GET", path+next, nil, &page); err != nil {
					return err
				}
				out.Receipts = append(out.Receipts, page.Receipts...)
				if page.Next == "" {
					break
				}
				next = "?cursor=" + url.QueryEscape(page.Next)
			}
			if a.json {
				return a.encode(a.stdout, out)
			}
			rows := make([][]string, 0, len(out.Receipts))
			for _, raw := range out.Receipts {
				var r struct {
					Record  string `json:"record_id"`
					Purpose struct {
						ID string `json:"id"`
					} `json:"purpose"`
					Notice struct {
						Revision string `json:"revision"`
					} `json:"privacy_notice"`
					Event struct {
						State string    `json:"state"`
						Time  time.Time `json:"time"`
					} `json:"event"`
				}
				if err := json.Unmarshal(raw, &r); err != nil {
					return err
				}
				rows = append(rows, []string{r.Event.Time.Local().Format(time.DateTime), shown(r.Purpose.ID), r.Event.State, "policy " + r.Notice.Revision, "receipt " + r.Record})
			}
			columns(a.stdout, rows)
			a.say("`--json` gives the whole receipts with the box's signature.\n")
			return nil
		},
	}
	for _, c := range []*cobra.Command{grant, withdraw} {
		c.Flags().StringVar(&device, "device", "", "for this device of yours only (name or id)")
	}
	top.AddCommand(list, a.consentShowCommand(), grant, withdraw, receipts)
	return top
}

func (a *app) consentList(ctx context.Context) error {
	c, err := a.person(ctx)
	if err != nil {
		return err
	}
	var out struct {
		Consents []struct {
			Purpose  string     `json:"purpose"`
			State    string     `json:"state"`
			Granted  bool       `json:"granted"`
			Device   *string    `json:"device"`
			Revision string     `json:"policy_revision"`
			Time     *time.Time `json:"time"`
		} `json:"consents"`
	}
	if err := c.call(ctx, "GET", "/v1/consents", nil, &out); err != nil {
		return err
	}
	if a.json {
		return a.encode(a.stdout, out)
	}
	all, err := a.purposes(ctx, c)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, s := range out.Consents {
		title, when, device := "", "", ""
		if i := slices.IndexFunc(all, func(p purpose) bool { return p.ID == s.Purpose }); i >= 0 {
			title = shown(all[i].Title)
			if !all[i].Available {
				title += " (not in this version)"
			}
		}
		if s.Time != nil {
			when = s.Time.Local().Format("2006-01-02 15:04")
		}
		if s.Device != nil {
			device = "device " + *s.Device
		}
		rows = append(rows, []string{s.Purpose, s.State, when, title, device})
	}
	columns(a.stdout, rows)
	return nil
}

func (a *app) consentGrant(ctx context.Context, id, device string, yes bool) error {
	c, err := a.person(ctx)
	if err != nil {
		return err
	}
	var current policy
	if err := c.call(ctx, "GET", "/v1/policy?lang="+language(), nil, &current); err != nil {
		return err
	}
	all, err := a.purposes(ctx, c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(p purpose) bool { return p.ID == id })
	if i < 0 {
		return &problem.Error{Kind: problem.NotFound, Op: "consent", Title: "There is no purpose " + id, Hint: "`yunboxctl consent list` shows them."}
	}
	after, err := c.newest(ctx, id)
	if err != nil {
		return err
	}
	if err := a.confirm(yes, describePurpose(all[i])+"\nDo you consent?", "consent grant"); err != nil {
		return err
	}
	in := map[string]any{"granted": true, "policy_revision": current.Revision, "after": after}
	if device != "" {
		if in["device"], err = c.deviceID(ctx, device, false); err != nil {
			return err
		}
	}
	var receipt json.RawMessage
	if err := c.call(ctx, "PUT", "/v1/consents/"+url.PathEscape(id), in, &receipt); err != nil {
		return err
	}
	return a.print(receipt, func(w io.Writer) {
		fmt.Fprintf(w, "granted: %s. `yunboxctl consent withdraw %s` takes it back.\n", id, id)
	})
}

// newest is what the person decides after, about a purpose: what they decide elsewhere
// while they are asked counts more.
func (c *client) newest(ctx context.Context, purpose string) (string, error) {
	var out struct {
		Consents []struct{ Purpose, Newest string }
	}
	if err := c.call(ctx, "GET", "/v1/consents", nil, &out); err != nil {
		return "", err
	}
	for _, s := range out.Consents {
		if s.Purpose == purpose {
			return s.Newest, nil
		}
	}
	return "", nil
}

func describePurpose(p purpose) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", shown(p.Title), shown(p.What))
	rows := [][]string{
		{"data", shown(strings.Join(p.Data, ", "))}, {"kept", shown(p.Retention)}, {"withdrawn", shown(p.Erased)}, {"by", shown(p.Processor)},
		{"without", shown(p.Without)}, {"clauses", shown(strings.Join(p.Clauses, ", ")) + " of the privacy policy of the box's maker"},
	}
	if p.PerDevice {
		rows = append(rows, []string{"", "It can be decided for each device apart: --device."})
	}
	if !p.Available {
		rows = append(rows, []string{"", "This version of the box does not do it."})
	}
	if p.Sensitive {
		rows = append(rows, []string{"", "This is sensitive personal information."})
	}
	columns(&b, rows)
	return b.String()
}

// deviceID finds one of the person's devices by name or id; create adds it if there
// is none of that name.
func (c *client) deviceID(ctx context.Context, name string, create bool) (string, error) {
	type device struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	var out struct {
		Devices []device `json:"devices"`
	}
	if err := c.call(ctx, "GET", "/v1/devices", nil, &out); err != nil {
		return "", err
	}
	for _, d := range out.Devices {
		if d.ID == name || d.Name == name {
			return d.ID, nil
		}
	}
	if !create {
		return "", &problem.Error{Kind: problem.NotFound, Op: "device", Title: "You have no device of that name", Hint: "A device is added by its first `push --device NAME`."}
	}
	var d device
	err := c.call(ctx, "POST", "/v1/devices", map[string]string{"name": name, "kind": "computer"}, &d)
	return d.ID, err
}

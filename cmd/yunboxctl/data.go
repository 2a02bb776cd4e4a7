package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// heldWords are a text in the languages of the box.
type heldWords map[string]string

func (w heldWords) text() string { return w[language()] }

// heldData is GET /v1/me/data.
type heldData struct {
	Categories []struct {
		ID       string    `json:"id"`
		Title    heldWords `json:"title"`
		What     heldWords `json:"what"`
		From     heldWords `json:"source"`
		Kept     heldWords `json:"retention"`
		Fix      heldWords `json:"correction"`
		Purposes []string  `json:"purposes"`
		Records  int64     `json:"records"`
		Bytes    int64     `json:"bytes"`
		Period   *struct {
			Days  int        `json:"days"`
			Min   int        `json:"min"`
			Max   int        `json:"max"`
			Never bool       `json:"never"`
			Next  *time.Time `json:"next"`
		} `json:"period"`
	} `json:"categories"`
	Places []struct {
		Name string    `json:"name"`
		What heldWords `json:"what"`
		Ends heldWords `json:"ends"`
	} `json:"places"`
}

func (a *app) dataCommand() *cobra.Command {
	var keep int
	c := &cobra.Command{
		Use: "data [CATEGORY]", Short: "Show what the box holds about you", Args: cobra.MaximumNArgs(1),
		Long: `data shows everything that the box holds about you: by category how much there is, what
for, where it comes from, how long it is kept, and in which places it lies. With a
CATEGORY it shows each record, one JSON object a line. yunboxctl export fetches it all.

The owner of the box chooses with --keep after how many days the records of a CATEGORY go
by themselves, for everybody on it and within the bounds that data shows.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case cmd.Flags().Changed("keep") && len(args) == 0:
				return usagef("--keep needs a CATEGORY: `yunboxctl data` lists them")
			case cmd.Flags().Changed("keep"):
				err := c.call(cmd.Context(), "PUT", "/v1/retention/"+url.PathEscape(args[0]), map[string]int{"days": keep}, nil)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"category": args[0], "days": keep}, func(w io.Writer) {
					fmt.Fprintf(w, "%s: %s\n", shown(args[0]), period(keep))
				})
			case len(args) == 1:
				return a.records(cmd.Context(), c, args[0])
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/v1/me/data", nil, &raw); err != nil {
				return err
			}
			var d heldData
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) { d.write(w) })
		},
	}
	c.Flags().IntVar(&keep, "keep", 0, "keep records of this category for so many `days`; 0: until they are deleted")
	return c
}

// period says after how long records go.
func period(days int) string {
	if days == 0 {
		return "does not go by itself"
	}
	return "goes by itself after " + plural(int64(days), "day", "days")
}

func (d *heldData) write(w io.Writer) {
	var rows [][]string
	for _, c := range d.Categories {
		size := ""
		if c.Bytes > 0 {
			size = problem.Bytes(c.Bytes)
		}
		rows = append(rows, []string{c.ID, c.Title.text(), fmt.Sprint(c.Records), size})
	}
	columns(w, rows)
	for _, c := range d.Categories {
		if c.Records == 0 && c.Period == nil {
			continue
		}
		fmt.Fprintf(w, "\n%s (%s)\n  %s\n  %s\n  %s\n  %s\n", c.Title.text(), c.ID, c.What.text(), c.From.text(), c.Kept.text(), c.Fix.text())
		if p := c.Period; p != nil {
			never, next := "", ""
			if p.Never {
				never = ", or 0: never"
			}
			if p.Next != nil {
				next = "; the next on " + p.Next.Local().Format("2006-01-02")
			}
			fmt.Fprintf(w, "  %s%s (the owner may choose %d to %d%s)\n", period(p.Days), next, p.Min, p.Max, never)
		}
		if len(c.Purposes) > 0 {
			fmt.Fprintf(w, "  consent: %s\n", strings.Join(c.Purposes, ", "))
		}
	}
	fmt.Fprintln(w)
	for _, p := range d.Places {
		fmt.Fprintf(w, "%s: %s %s\n", p.Name, p.What.text(), p.Ends.text())
	}
}

// records prints the records of a category, a page at a time.
func (a *app) records(ctx context.Context, c *client, category string) error {
	query := url.Values{"limit": {"1000"}}
	for {
		var page struct {
			Records []json.RawMessage `json:"records"`
			Next    *string           `json:"next"`
		}
		err := c.call(ctx, "GET", "/v1/me/data/"+url.PathEscape(category)+"?"+query.Encode(), nil, &page)
		if problem.KindOf(err) == problem.NotFound {
			return usagef("there is no category %s: `yunboxctl data` lists them", shown(category))
		}
		if err != nil {
			return err
		}
		for _, r := range page.Records {
			if _, err := a.stdout.Write(append(slices.Clip(r), '\n')); err != nil {
				return err
			}
		}
		if page.Next == nil {
			return nil
		}
		query.Set("cursor", *page.Next)
	}
}

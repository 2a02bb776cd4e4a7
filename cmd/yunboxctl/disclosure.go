package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// disclosed is GET /v1/me/disclosures.
type disclosed struct {
	Disclosures []struct {
		Seq        int64     `json:"seq"`
		Time       time.Time `json:"time"`
		About      string    `json:"about"`
		Kind       string    `json:"kind"`
		Recipient  string    `json:"recipient"`
		Categories []string  `json:"categories"`
		Why        string    `json:"why"`
		Basis      string    `json:"basis"`
		Authority  *string   `json:"authority"`
	} `json:"disclosures"`
}

func (a *app) disclosureCommand() *cobra.Command {
	var n int
	c := &cobra.Command{
		Use: "disclosure", Short: "Show what left the box: to whom, why, on whose authority", Args: cobra.NoArgs,
		Long: `disclosure shows each time that data of yours left the box, the newest first: to whom,
which data, why, and on whose authority. With --state DIR it shows the whole box's
register, without whom an entry is about.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, connect := fmt.Sprintf("/v1/me/disclosures?limit=%d", n), func() (*client, error) { return a.person(cmd.Context()) }
			if a.state != "" {
				path, connect = fmt.Sprintf("/local/disclosures?limit=%d", n), a.local
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", path, nil, &raw); err != nil {
				return err
			}
			var d disclosed
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				if len(d.Disclosures) == 0 {
					fmt.Fprintln(w, "nothing left the box")
				}
				for _, e := range d.Disclosures {
					basis := e.Basis
					if e.Authority != nil {
						basis += " " + *e.Authority
					}
					fmt.Fprintf(w, "%d  %s  %s to %s: %s, about %s, for %s, by authority of %s\n", e.Seq, e.Time.Local().Format(time.DateTime),
						shown(e.Kind), shown(e.Recipient), shown(strings.Join(e.Categories, ", ")), e.About, shown(e.Why), shown(basis))
				}
			})
		},
	}
	c.Flags().IntVarP(&n, "lines", "n", 20, "how many entries, up to 200")
	return c
}

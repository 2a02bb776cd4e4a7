package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

const deletionTyp = "yunbox-deletion-receipt+jws"

// deletionReceipt is what a box signs when an account is gone.
type deletionReceipt struct {
	Schema    string    `json:"schema_version"`
	Principal string    `json:"pii_principal_id"`
	Box       signedBy  `json:"box"`
	By        string    `json:"asked_by"`
	Asked     time.Time `json:"asked"`
	Begun     time.Time `json:"begun"`
	Done      time.Time `json:"done"`
	Unsure    bool      `json:"clock_unsure"`
	Handed    int64     `json:"files_handed_over"`
	Erased    []struct {
		Title   heldWords `json:"title"`
		Records int64     `json:"records"`
		Bytes   int64     `json:"bytes"`
	} `json:"erased"`
	Stays []struct {
		Title   heldWords `json:"title"`
		Records int64     `json:"records"`
		Why     heldWords `json:"why"`
	} `json:"stays"`
	Elsewhere []struct {
		Place string    `json:"place"`
		What  heldWords `json:"what"`
	} `json:"elsewhere"`
	Keys bool `json:"keys_destroyed"`
}

func writeDeletion(w io.Writer, payload []byte) error {
	var r deletionReceipt
	if json.Unmarshal(payload, &r) != nil {
		return notGenuine("It has a form that this version cannot read.")
	}
	r.write(w)
	return nil
}

func (r *deletionReceipt) write(w io.Writer) {
	fmt.Fprintf(w, "account %s, asked for by %s on %s, erased on %s\n", r.Principal, map[string]string{"person": "its person", "manager": "whoever manages the box"}[r.By],
		r.Asked.Local().Format(time.DateOnly), r.Done.Local().Format(time.DateOnly))
	if r.Unsure {
		fmt.Fprintln(w, "the box knew that its clock may be wrong")
	}
	if r.Handed > 0 {
		fmt.Fprintf(w, "%d files were handed over\n", r.Handed)
	}
	for _, e := range r.Erased {
		size := ""
		if e.Bytes > 0 {
			size = ", " + problem.Bytes(e.Bytes)
		}
		fmt.Fprintf(w, "erased: %s (%d%s)\n", e.Title.text(), e.Records, size)
	}
	for _, s := range r.Stays {
		fmt.Fprintf(w, "stays: %s (%d): %s\n", s.Title.text(), s.Records, s.Why.text())
	}
	for _, e := range r.Elsewhere {
		fmt.Fprintf(w, "elsewhere: %s: %s\n", e.Place, e.What.text())
	}
}

func (a *app) receiptCommand() *cobra.Command {
	top := &cobra.Command{Use: "receipt", Short: "Check what a box signed; fetch the receipt of an account that is gone"}
	fetch := &cobra.Command{
		Use: "fetch CODE FILE", Short: "Fetch the receipt with the code that was shown when the account was cancelled", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, path := (*client)(nil), "/v1/deletion-receipt"
			var err error
			if a.state != "" {
				c, err = a.local()
				path = "/local/deletion-receipt"
			} else {
				c, err = a.stranger(cmd.Context(), pairing{})
			}
			if err != nil {
				return err
			}
			var out struct {
				State   string          `json:"state"`
				Receipt json.RawMessage `json:"receipt"`
			}
			if err := c.call(cmd.Context(), "POST", path, map[string]string{"code": args[0]}, &out); err != nil {
				return err
			}
			if out.State == "done" {
				if err := os.WriteFile(args[1], append(out.Receipt, '\n'), 0o600); err != nil {
					return err
				}
			}
			return a.print(map[string]string{"state": out.State}, func(w io.Writer) {
				text := map[string]string{"done": "the receipt is in " + args[1], "waiting": "the account is not erased yet: it can still be kept", "erasing": "the account is being erased"}
				fmt.Fprintln(w, text[out.State])
			})
		},
	}
	top.AddCommand(a.receiptVerifyCommand(), fetch)
	return top
}

func (a *app) eraseCommand() *cobra.Command {
	var purpose string
	var trash, yes bool
	c := &cobra.Command{
		Use: "erase [CATEGORY]", Short: "Erase your data: of one kind, of one purpose, or everything", Args: cobra.MaximumNArgs(1),
		Long: `erase has the box erase all of one category ("yunboxctl data" lists them), what rests on one
consent (--purpose), or, with neither, everything but the account itself. It says first what
goes and what stays and why. With --trash files go into the trash, where they can be had back.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, category := cmd.Context(), ""
			if len(args) == 1 {
				category = args[0]
			}
			if category != "" && purpose != "" {
				return usagef("erase takes a category or --purpose, not both")
			}
			c, err := a.person(ctx)
			if err != nil {
				return err
			}
			query := url.Values{}
			if purpose != "" {
				query.Set("purpose", purpose)
			}
			if trash {
				query.Set("trash", "true")
			}
			if category == "" && purpose == "" {
				query.Set("what", "everything")
			}
			look := url.Values{"category": {category}, "purpose": {purpose}}
			var plan struct {
				Categories []struct {
					Category string     `json:"category"`
					Title    heldWords  `json:"title"`
					Records  int64      `json:"records"`
					Bytes    int64      `json:"bytes"`
					Stays    *heldWords `json:"stays"`
				} `json:"categories"`
			}
			if err := c.call(ctx, "GET", "/v1/me/erasures/preview?"+look.Encode(), nil, &plan); err != nil {
				return err
			}
			var text strings.Builder
			for _, f := range plan.Categories {
				if f.Stays != nil {
					fmt.Fprintf(&text, "stays: %s: %s\n", f.Title.text(), f.Stays.text())
				} else {
					fmt.Fprintf(&text, "goes: %s (%s): %d\n", f.Title.text(), f.Category, f.Records)
				}
			}
			if err := a.confirm(yes, text.String()+"\nErase that for good?", "erase"); err != nil {
				return err
			}
			path := "/v1/me/data"
			if category != "" {
				path += "/" + url.PathEscape(category)
			}
			var job struct {
				Done   bool  `json:"done"`
				Erased int64 `json:"erased"`
			}
			if err := a.proving(ctx, c, func() error { return c.call(ctx, "DELETE", path+"?"+query.Encode(), nil, &job) }); err != nil {
				return err
			}
			return a.print(job, func(w io.Writer) {
				if job.Done {
					fmt.Fprintln(w, "erased")
				} else {
					fmt.Fprintln(w, "it is being erased, whatever happens to the box meanwhile")
				}
			})
		},
	}
	c.Flags().StringVar(&purpose, "purpose", "", "only what rests on this consent")
	c.Flags().BoolVar(&trash, "trash", false, "files go into the trash instead of for good")
	c.Flags().BoolVar(&yes, "yes", false, "you know what goes: do not ask")
	return c
}

type cancellation struct {
	Stage   string    `json:"stage"`
	Due     time.Time `json:"due"`
	Heir    *string   `json:"hand_over_to"`
	Trouble *string   `json:"trouble"`
	Code    string    `json:"code,omitempty"`
}

func (c *cancellation) write(w io.Writer) {
	fmt.Fprintf(w, "the account is erased on %s (%s)\n", c.Due.Local().Format(time.DateTime), c.Stage)
	if c.Heir != nil {
		fmt.Fprintf(w, "its files are offered to %s\n", shown(*c.Heir))
	}
	if c.Trouble != nil {
		fmt.Fprintf(w, "it does not go on: %s\n", *c.Trouble)
	}
	if c.Code != "" {
		fmt.Fprintf(w, "code for the receipt, which is shown once: %s\n", c.Code)
	}
}

func (a *app) cancelCommand() *cobra.Command {
	var to string
	var yes bool
	top := &cobra.Command{
		Use: "cancel", Short: "Cancel your account on the box", Args: cobra.NoArgs,
		Long: `cancel has your account erased from the box, for good, after some days in which you can
keep it: "yunboxctl cancel undo". Export your files before. With --hand-over-to they are
offered to somebody on the box, and nothing is erased before they took them. The code that it
prints fetches the signed receipt: "yunboxctl receipt fetch".`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.person(ctx)
			if err != nil {
				return err
			}
			if err := a.confirm(yes, "Cancel your account on this box?", "cancel"); err != nil {
				return err
			}
			in, out := map[string]string{"files": "erase"}, cancellation{}
			if to != "" {
				in = map[string]string{"files": "hand-over", "to": to}
			}
			if err := a.proving(ctx, c, func() error { return c.call(ctx, "POST", "/v1/me/cancellation", in, &out) }); err != nil {
				return err
			}
			return a.print(out, out.write)
		},
	}
	top.Flags().StringVar(&to, "hand-over-to", "", "user name of whom your files are offered to")
	top.Flags().BoolVar(&yes, "yes", false, "you are sure: do not ask")
	undo := &cobra.Command{
		Use: "undo", Short: "Keep the account after all", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err == nil {
				err = c.call(cmd.Context(), "DELETE", "/v1/me/cancellation", nil, nil)
			}
			if err != nil {
				return err
			}
			return a.print(map[string]bool{"kept": true}, func(w io.Writer) { fmt.Fprintln(w, "the account stays") })
		},
	}
	status := &cobra.Command{
		Use: "status", Short: "Show how far the cancellation is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			var out cancellation
			if err := c.call(cmd.Context(), "GET", "/v1/me/cancellation", nil, &out); err != nil {
				return err
			}
			return a.print(out, out.write)
		},
	}
	top.AddCommand(undo, status)
	return top
}

// removal are the commands by which root has somebody removed.
func (a *app) removalCommands() []*cobra.Command {
	days, yes := 0, false
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Have the account of a person erased", Args: cobra.ExactArgs(1),
		Long: `remove has everything of a person erased in --days. They are told, and can sign in to
export until then; "yunboxctl user keep" undoes it. With --days 0 it begins at once. The code
that it prints is for the person: it fetches the signed receipt.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			if days == 0 {
				question := fmt.Sprintf("Everything of %s is erased at once, for good: they cannot export, and nobody can undo it. Erase it?", shown(args[0]))
				if err := a.confirm(yes, question, "user remove --days 0"); err != nil {
					return err
				}
			}
			var out cancellation
			if err := c.call(cmd.Context(), "POST", "/local/users/"+url.PathEscape(args[0])+"/removal", map[string]int{"days": days}, &out); err != nil {
				return err
			}
			return a.print(out, out.write)
		},
	}
	remove.Flags().IntVar(&days, "days", 30, "that the person has to export in: 7 to 90, or 0")
	remove.Flags().BoolVar(&yes, "yes", false, "with --days 0: you are sure, do not ask")
	keep := &cobra.Command{
		Use: "keep NAME", Short: "Keep a person whose account is being cancelled", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err == nil {
				err = c.call(cmd.Context(), "DELETE", "/local/users/"+url.PathEscape(args[0])+"/removal", nil, nil)
			}
			if err != nil {
				return err
			}
			return a.print(map[string]string{"username": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s stays\n", shown(args[0])) })
		},
	}
	return []*cobra.Command{remove, keep}
}

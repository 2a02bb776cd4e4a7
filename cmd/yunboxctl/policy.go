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

// revision is an entry of GET /v1/policy/revisions.
type revision struct {
	Revision string    `json:"revision"`
	Modified time.Time `json:"modified"`
	Changes  []string  `json:"changes"`
	Current  bool      `json:"current"`
}

func (a *app) policyCommand() *cobra.Command {
	top := &cobra.Command{Use: "policy", Short: "Read, accept and decline the box's privacy policy"}
	lang := ""
	get := func(ctx context.Context) (*client, policy, error) {
		c, err := a.person(ctx)
		if err != nil {
			return nil, policy{}, err
		}
		var p policy
		err = c.call(ctx, "GET", "/v1/policy?lang="+url.QueryEscape(lang), nil, &p)
		return c, p, err
	}
	// fetch reads a document and prints it: as it came, or as write does.
	fetch := func(cmd *cobra.Command, path string, out any, write func(io.Writer)) error {
		c, err := a.person(cmd.Context())
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := c.call(cmd.Context(), "GET", path+"?lang="+url.QueryEscape(lang), nil, &raw); err != nil {
			return err
		}
		if err := json.Unmarshal(raw, out); err != nil {
			return err
		}
		return a.print(raw, write)
	}
	only := ""
	show := &cobra.Command{
		Use: "show", Short: "Show the privacy policy", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/v1/policy"
			if only != "" {
				path += "/revisions/" + url.PathEscape(only)
			}
			var p policy
			return fetch(cmd, path, &p, func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(p.Text, "\n")) })
		},
	}
	show.Flags().StringVar(&only, "revision", "", "an earlier revision")
	revisions := &cobra.Command{
		Use: "revisions", Short: "List all revisions and what each changed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct{ Revisions []revision }
			return fetch(cmd, "/v1/policy/revisions", &out, func(w io.Writer) { writeRevisions(w, out.Revisions) })
		},
	}
	changes := &cobra.Command{
		Use: "changes", Short: "Show what is new since the revision that you agreed to", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Revisions []revision
				Wider     []string
			}
			return fetch(cmd, "/v1/policy/changes", &out, func(w io.Writer) {
				if len(out.Revisions) == 0 {
					fmt.Fprintln(w, "nothing: you agreed to the policy in force")
				}
				writeRevisions(w, out.Revisions)
				if len(out.Wider) > 0 {
					fmt.Fprintf(w, "off until you agree again, because the box would do more: %s\n", shown(strings.Join(out.Wider, ", ")))
				}
			})
		},
	}
	exceptions := &cobra.Command{
		Use: "exceptions", Short: "Show what the box does with people's data without asking them, and why it may", Args: cobra.NoArgs,
		Long: "exceptions lists what the box does with people's data without asking them. What of it\nconcerned you, and when: `yunboxctl data exceptions`.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Exceptions []struct{ ID, What, Clause, Basis string }
			}
			return fetch(cmd, "/v1/policy/exceptions", &out, func(w io.Writer) {
				for _, e := range out.Exceptions {
					fmt.Fprintf(w, "%s (%s, clause %s)\n  %s\n", shown(e.ID), shown(e.Basis), shown(e.Clause), shown(e.What))
				}
			})
		},
	}
	// decide asks, then records the answer to the policy as a whole.
	decide := func(accepted bool, yes *bool, command, question, done string) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			c, p, err := get(cmd.Context())
			if err != nil {
				return err
			}
			after, err := c.newest(cmd.Context(), "storage")
			if err != nil {
				return err
			}
			if err := a.confirm(*yes, fmt.Sprintf(question, strings.TrimRight(p.Text, "\n"), p.Revision), command); err != nil {
				return err
			}
			var receipt json.RawMessage
			in := map[string]any{"accepted": accepted, "revision": p.Revision}
			if accepted {
				in["fourteen"], in["after"] = true, after // the age was asked with the rest
			}
			if err := c.call(cmd.Context(), "PUT", "/v1/policy", in, &receipt); err != nil {
				return err
			}
			return a.print(receipt, func(w io.Writer) { fmt.Fprintf(w, done, p.Revision) })
		}
	}
	var yes, no bool
	accept := &cobra.Command{
		Use: "accept", Short: "Accept the privacy policy: the consent to keeping your files", Args: cobra.NoArgs,
		RunE: decide(true, &yes, "policy accept", "%s\n\nAre you 14 or older, and do you accept this policy, revision %s?", "policy revision %s accepted\n"),
	}
	accept.Flags().BoolVar(&yes, "yes", false, "you are 14 or older, have read it and accept it: do not ask")
	decline := &cobra.Command{
		Use: "decline", Short: "Decline the privacy policy: the box stops, and you can take your data away", Args: cobra.NoArgs,
		Long: "decline ends all your consents at once. After it you can see, fetch, export and delete\nwhat is yours, close your account, and accept the policy again.",
		RunE: decide(false, &no, "policy decline",
			"%s\n\nDo you decline this policy, revision %s? The box stops at once; you can still see, export and delete what is yours.",
			"policy revision %s declined: `yunboxctl export` takes everything away\n"),
	}
	decline.Flags().BoolVar(&no, "yes", false, "you decline it: do not ask")
	top.PersistentFlags().StringVar(&lang, "lang", language(), "language: en or zh")
	top.AddCommand(show, revisions, changes, accept, decline, exceptions)
	return top
}

func writeRevisions(w io.Writer, list []revision) {
	for _, r := range list {
		now := ""
		if r.Current {
			now = ", in force"
		}
		fmt.Fprintf(w, "revision %s of %s%s\n", shown(r.Revision), r.Modified.Format(time.DateOnly), now)
		for _, c := range r.Changes {
			fmt.Fprintf(w, "  - %s\n", shown(c))
		}
	}
}

func (a *app) consentShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [PURPOSE]", Short: "Show what a purpose means: data, how long, what goes when you withdraw", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.person(cmd.Context())
			if err != nil {
				return err
			}
			all, err := a.purposes(cmd.Context(), c)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				all = slices.DeleteFunc(all, func(p purpose) bool { return p.ID != args[0] })
				if len(all) == 0 {
					return &problem.Error{Kind: problem.NotFound, Op: "consent", Title: "There is no purpose " + args[0], Hint: "`yunboxctl consent list` shows them."}
				}
			}
			return a.print(map[string]any{"purposes": all}, func(w io.Writer) {
				for i, p := range all {
					if i > 0 {
						fmt.Fprintln(w)
					}
					fmt.Fprintf(w, "%s: %s", p.ID, describePurpose(p))
				}
			})
		},
	}
}

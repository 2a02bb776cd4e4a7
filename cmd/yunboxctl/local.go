package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// boxStatus is GET /local/status.
type boxStatus struct {
	Jobs []boxJob `json:"-"` // asked by themselves; nil: not said

	Name        string   `json:"name"`
	ID          string   `json:"id"`
	Version     string   `json:"version"`
	Addresses   []string `json:"addresses"`
	Fingerprint string   `json:"fingerprint"`
	Words       []string `json:"words"`
	Bound       bool     `json:"bound"`
	Disk        struct {
		Total int64 `json:"total"`
		Free  int64 `json:"free"`
	} `json:"disk"`
	Memory struct {
		RSS int64 `json:"rss"`
	} `json:"memory"`
	Volume struct {
		ID    string `json:"id"`
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	} `json:"volume"`
	Uptime   float64 `json:"uptime_seconds"`
	Uploads  int64   `json:"uploads"`
	Users    int64   `json:"users"`
	Items    int64   `json:"items"`
	Blobs    int64   `json:"blobs"`
	Logical  int64   `json:"logical_bytes"`
	Physical int64   `json:"physical_bytes"`
	Records  *struct {
		OK          bool      `json:"ok"`
		Error       string    `json:"error"`
		Generations int       `json:"generations"`
		Newest      time.Time `json:"newest"`
	} `json:"records"`
	Network *struct {
		MDNS      string   `json:"mdns"`
		Name      string   `json:"name"`
		Announced bool     `json:"announced"`
		Links     []string `json:"links"`
		Seen      *bool    `json:"seen"`
		Error     string   `json:"error"`
	} `json:"network"`
	Scrub scrubState `json:"scrub"`

	SecondCopies []secondCopy `json:"second_copies"`

	Requests struct {
		Open    int64  `json:"open"`
		Overdue int64  `json:"overdue"`
		Due     string `json:"due,omitempty"`
	} `json:"requests"`
}

func (a *app) localStatus(ctx context.Context) (boxStatus, error) {
	var s boxStatus
	c, err := a.local()
	if err != nil {
		return s, err
	}
	err = c.call(ctx, "GET", "/local/status", nil, &s)
	return s, err
}

func (a *app) waitCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "wait", Short: "Wait until the box answers", Args: cobra.NoArgs,
		Long: "wait returns as soon as the box of --state, or of --box, answers.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usagef("--timeout must be more than 0s")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			var last error
			for {
				err := a.answers(ctx)
				if err == nil {
					return a.print(map[string]bool{"ready": true}, func(w io.Writer) { fmt.Fprintln(w, "the box is ready") })
				}
				if exitCode(err) != problem.ExitUnreachable && ctx.Err() == nil {
					return err
				}
				if ctx.Err() == nil {
					last = err
				}
				select {
				case <-ctx.Done():
					if cmd.Context().Err() != nil {
						return cmd.Context().Err()
					}
					e := &problem.Error{Kind: problem.Unavailable, Op: "wait", Title: "The box does not answer", Detail: "Waited for " + timeout.String() + ".", Hint: "Its log says why. Is yunboxd running on this state directory?", Err: last}
					return e
				case <-time.After(50 * time.Millisecond):
				}
			}
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "give up after this time")
	return c
}

// answers asks the box whether it is there.
func (a *app) answers(ctx context.Context) error {
	if a.state != "" {
		_, err := a.localStatus(ctx)
		return err
	}
	c, err := a.stranger(ctx, pairing{})
	if err != nil {
		return err
	}
	return c.call(ctx, "GET", "/.well-known/yunbox", nil, nil)
}

type boxUser struct {
	ID       string    `json:"id"`
	Username string    `json:"username"`
	Role     string    `json:"role"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Factor   bool      `json:"second_factor"`
}

func (a *app) userCommand() *cobra.Command {
	user := &cobra.Command{Use: "user", Aliases: []string{"users"}, Short: "Manage the people of the box; alone it lists them", Args: cobra.NoArgs}
	var admin, child, fromStdin bool
	var guardian, ofAge string
	add := &cobra.Command{
		Use: "add NAME", Short: "Add a person", Args: cobra.ExactArgs(1),
		Long: `add makes an account. Who is under 14 is added with --child, the guardian who has to
accept, and the month in which the child turns 14:

  yunboxctl user add mia --child --guardian anna --of-age 2031-05

Nothing is taken from the child until the guardian has accepted and agreed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case child && (guardian == "" || ofAge == "" || admin):
				return usagef("a child needs --guardian NAME and --of-age YYYY-MM, and is no admin")
			case !child && (guardian != "" || ofAge != ""):
				return usagef("--guardian and --of-age are for a child: add --child")
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			password, err := a.password(fromStdin, "Password for "+args[0]+": ")
			if err != nil {
				return err
			}
			in := map[string]any{"username": args[0], "password": password, "role": "member"}
			if admin {
				in["role"] = "admin"
			}
			if child {
				in["role"], in["guardian"], in["of_age"] = "child", guardian, ofAge
			}
			var u boxUser
			if err := c.call(cmd.Context(), "POST", "/local/users", in, &u); err != nil {
				return err
			}
			return a.print(u, func(w io.Writer) { fmt.Fprintf(w, "added %s (%s)\n", shown(u.Username), u.Role) })
		},
	}
	add.Flags().BoolVar(&admin, "admin", false, "may manage the box, but not read other people's files")
	add.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	add.Flags().BoolVar(&child, "child", false, "is under 14")
	add.Flags().StringVar(&guardian, "guardian", "", "for a child: user name of the adult who is to stand for it")
	add.Flags().StringVar(&ofAge, "of-age", "", "for a child: the month in which it turns 14, YYYY-MM")
	list := &cobra.Command{
		Use: "list", Short: "List the people", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Users []boxUser `json:"users"`
			}
			if err := c.call(cmd.Context(), "GET", "/local/users", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.Users))
				for _, u := range out.Users {
					state := ""
					if u.Factor {
						state = "second factor"
					}
					if u.Disabled {
						state = "disabled"
					}
					rows = append(rows, []string{shown(u.Username), u.Role, u.Created.Local().Format("2006-01-02"), state})
				}
				listed(w, rows, "nobody has an account yet")
			})
		},
	}
	able := func(verb, short string, disabled bool) *cobra.Command {
		return &cobra.Command{
			Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := a.local()
				if err != nil {
					return err
				}
				if err := c.call(cmd.Context(), "PATCH", "/local/users/"+url.PathEscape(args[0]), map[string]bool{"disabled": disabled}, nil); err != nil {
					return err
				}
				return a.print(map[string]any{"username": args[0], "disabled": disabled}, func(w io.Writer) { fmt.Fprintf(w, "%sd %s\n", verb, shown(args[0])) })
			},
		}
	}
	password := &cobra.Command{
		Use: "password NAME", Short: "Give a person who forgot it another password", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			secret, err := a.password(fromStdin, "New password for "+args[0]+": ")
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), "PATCH", "/local/users/"+url.PathEscape(args[0]), map[string]string{"password": secret}, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"username": args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "%s has another password and is signed out everywhere\n", shown(args[0]))
			})
		},
	}
	password.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	quota := &cobra.Command{
		Use: "quota NAME SIZE|none", Short: "Limit how much a person may keep", Args: cobra.ExactArgs(2),
		Long: "quota limits the sum of the sizes of a person's files, versions and trash included.\nSIZE is a number with B, kB, MB, GB or TB; none takes the limit away. What is kept already stays.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			in, text := map[string]*int64{"quota_bytes": nil}, "no limit"
			if args[1] != "none" {
				n, err := parseSize(args[1])
				if err != nil {
					return err
				}
				in["quota_bytes"], text = &n, problem.Bytes(n)
			}
			if err := c.call(cmd.Context(), "PATCH", "/local/users/"+url.PathEscape(args[0]), in, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"username": args[0], "quota_bytes": in["quota_bytes"]}, func(w io.Writer) {
				fmt.Fprintf(w, "%s may keep: %s\n", shown(args[0]), text)
			})
		},
	}
	user.RunE = list.RunE
	user.AddCommand(add, list, a.findUserCommand(), password, a.resetFactorCommand(), quota, able("disable", "Lock a person out; what is stored stays", true), able("enable", "Let a person in again", false))
	user.AddCommand(a.removalCommands()...)
	return user
}

// parseSize reads "1.5 GB": decimal units, as phones and disks count.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BkKMGTb ")
	units := map[string]float64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
	unit, ok := units[strings.ToUpper(strings.TrimSpace(s[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(n >= 0) || n*unit >= 1<<62 {
		return 0, usagef("%q is no size: a number with B, kB, MB, GB or TB", s)
	}
	return int64(n * unit), nil
}

// chainReport is what verifying a hash chain found.
type chainReport struct {
	Entries int64  `json:"entries"`
	Head    string `json:"head"`
	Bad     *struct {
		Seq    int64  `json:"seq"`
		Reason string `json:"reason"`
	} `json:"bad"`
}

func (r *chainReport) tell(w io.Writer, what string) {
	if r.Bad != nil && r.Bad.Reason == "rewritten" {
		fmt.Fprintf(w, "%s was rewritten, with all its hashes: entry %d or one before it is not what it was\n", what, r.Bad.Seq)
		return
	}
	if r.Bad != nil {
		fmt.Fprintf(w, "%s was tampered with: entry %d is the first bad one (%s)\n", what, r.Bad.Seq, shown(r.Bad.Reason))
		return
	}
	fmt.Fprintf(w, "%s is whole: %s, head %s\n", what, plural(r.Entries, "entry", "entries"), r.Head)
}

func (a *app) auditCommand() *cobra.Command {
	audit := &cobra.Command{Use: "audit", Short: "Read and verify the record of what happened on the box"}
	var heads []string
	verify := &cobra.Command{
		Use: "verify", Short: "Verify the chain of the record", Args: cobra.NoArgs,
		Long: `verify recomputes the hash chain. If an entry was changed, removed or inserted it
names the first bad one and exits with 1.

Who can write box.db can rewrite the whole chain with it. What they cannot change is
what was kept elsewhere: --head takes marks that audit keep printed on another computer,
audit:NUMBER:HASH, consent:NUMBER:HASH or disclosure:NUMBER:HASH, and the record must go
through them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			query := make(url.Values)
			for _, h := range heads {
				record, mark, _ := strings.Cut(h, ":")
				if record != "audit" && record != "consent" && record != "disclosure" {
					return usagef("--head %q: a mark begins with audit:, consent: or disclosure:", h)
				}
				query.Add(record, mark)
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/local/audit/verify?"+query.Encode(), nil, &raw); err != nil {
				return err
			}
			var r struct {
				chainReport
				Consent    *chainReport `json:"consent"`
				Disclosure *chainReport `json:"disclosure"`
			}
			if err := json.Unmarshal(raw, &r); err != nil {
				return err
			}
			bad := r.Bad != nil
			err = a.print(raw, func(w io.Writer) {
				r.tell(w, "the audit record")
				if r.Consent != nil {
					r.Consent.tell(w, "the record of consents")
				}
				if r.Disclosure != nil {
					r.Disclosure.tell(w, "the register of what left the box")
				}
			})
			bad = bad || r.Consent != nil && r.Consent.Bad != nil || r.Disclosure != nil && r.Disclosure.Bad != nil
			if err == nil && bad {
				return &codeError{problem.ExitFailed}
			}
			return err
		},
	}
	var n int
	tail := &cobra.Command{
		Use: "tail", Short: "Show the newest entries", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Entries []json.RawMessage `json:"entries"`
			}
			if err := c.call(cmd.Context(), "GET", fmt.Sprintf("/local/audit/tail?n=%d", n), nil, &out); err != nil {
				return err
			}
			if a.json {
				return a.encode(a.stdout, out)
			}
			for _, raw := range out.Entries {
				var e struct {
					Seq     int64             `json:"seq"`
					Time    time.Time         `json:"time"`
					Action  string            `json:"action"`
					Actor   string            `json:"actor"`
					Subject string            `json:"subject"`
					Object  string            `json:"object"`
					Via     string            `json:"via"`
					Detail  map[string]string `json:"detail"`
				}
				if err := json.Unmarshal(raw, &e); err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "%d  %s  %s", e.Seq, e.Time.Local().Format(time.DateTime), shown(e.Action))
				for _, f := range [][2]string{{"actor", e.Actor}, {"subject", e.Subject}, {"object", e.Object}, {"via", e.Via}} {
					if f[1] != "" && !(f[0] == "subject" && e.Subject == e.Actor) {
						fmt.Fprintf(a.stdout, "  %s %s", f[0], shown(f[1]))
					}
				}
				fmt.Fprintln(a.stdout)
			}
			return nil
		},
	}
	tail.Flags().IntVarP(&n, "lines", "n", 20, "how many entries")
	verify.Flags().StringArrayVar(&heads, "head", nil, "a mark that the record must go through (repeatable)")
	audit.AddCommand(verify, tail, a.auditKeepCommand())
	return audit
}

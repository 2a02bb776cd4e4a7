package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// updateState is what the box says about its software.
type updateState struct {
	Version  string  `json:"version"`
	Counter  int64   `json:"counter"`
	Keys     bool    `json:"keys"`
	KeyList  int64   `json:"key_list"`
	Highest  int64   `json:"highest"`
	Floor    int64   `json:"floor"`
	Previous *string `json:"previous"`
	Waiting  *struct {
		Version string `json:"version"`
		Counter int64  `json:"counter"`
		Channel string `json:"channel"`
		Size    int64  `json:"size"`
		Moves   bool   `json:"moves"`
	} `json:"waiting"`
	Running *string       `json:"running"`
	OnTrial bool          `json:"on_trial"`
	Closed  bool          `json:"closed"`
	Last    *updateResult `json:"last"`
}

type updateResult struct {
	ID      string `json:"id"`
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	Version string `json:"version"`
	Counter int64  `json:"counter"`
	Runs    string `json:"runs"`
	Why     string `json:"why"`
	Title   string `json:"title"`
	Detail  string `json:"detail"`
	Hint    string `json:"hint"`
}

func (r *updateResult) text() string {
	switch r.Outcome {
	case "kept":
		return "version " + shown(r.Version) + " is in place"
	case "back":
		return fmt.Sprintf("version %s did not prove itself (%s): version %s runs again, with everything that was kept", shown(r.Version), shown(r.Why), shown(r.Runs))
	}
	return fmt.Sprintf("refused: %s. %s %s", shown(r.Title), shown(r.Detail), shown(r.Hint))
}

func (s *updateState) write(w io.Writer) {
	rows := [][]string{{"version", shown(s.Version)}}
	switch {
	case s.Counter == 0:
		rows = append(rows, []string{"updates", "none: this box was not installed from a package"})
	case !s.Keys:
		rows = append(rows, []string{"release", fmt.Sprint(s.Counter)}, []string{"updates", "only by package: this build knows no maker's keys"})
	default:
		rows = append(rows, []string{"release", fmt.Sprintf("%d; nothing below %d is taken, nothing below %d is gone back to", s.Counter, s.Highest, s.Floor)})
	}
	if s.KeyList > 0 {
		rows = append(rows, []string{"key list", fmt.Sprint(s.KeyList)})
	}
	if s.Previous != nil {
		rows = append(rows, []string{"before", shown(*s.Previous) + ": `yunboxctl update rollback` goes back to it"})
	}
	if s.Waiting != nil {
		rows = append(rows, []string{"waiting", fmt.Sprintf("%s (release %d, %s): `yunboxctl update install`", shown(s.Waiting.Version), s.Waiting.Counter, problem.Bytes(s.Waiting.Size))})
	}
	switch {
	case s.Closed:
		rows = append(rows, []string{"now", "is tried out, and takes nothing in until it has proved itself"})
	case s.OnTrial:
		rows = append(rows, []string{"now", "is tried out"})
	case s.Running != nil:
		rows = append(rows, []string{"now", shown(*s.Running) + " runs"})
	}
	if s.Last != nil {
		rows = append(rows, []string{"last", s.Last.text()})
	}
	columns(w, rows)
}

func (a *app) updateCommand() *cobra.Command {
	var url, box string
	var only bool
	top := &cobra.Command{
		Use: "update [FILE]", Short: "Put another version of the box's software on it, or go back", Args: cobra.MaximumNArgs(1),
		Long: `update gives the box a signed update (a .yup file), from a file, from an address on the
internet with --url, or from another box with --from-box. Wherever it comes from, the box
verifies that its maker signed it for this kind of box, and that it is not older.

Then the box restarts with it and tries it out: it must answer, take in and read back, and
go on for a while. If it does not, the version before comes back by itself, with all that
was kept. Exit code 1 says that the new version is not in place.`,
		Example: "  yunboxctl --state /var/lib/yunbox update yunbox_0.2.0_arm64.yup\n  yunboxctl --state /var/lib/yunbox update --from-box yunbox-7f3a.local:443",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args)+count(url != "")+count(box != "") != 1 {
				return usagef("one of FILE, --url and --from-box is needed")
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			var s updateState
			switch {
			case url != "":
				err = c.call(cmd.Context(), "POST", "/local/update/fetch", map[string]any{"url": url}, &s)
			case box != "":
				err = c.call(cmd.Context(), "POST", "/local/update/fetch", map[string]any{"url": "https://" + box, "box": true}, &s)
			default:
				err = sendBundle(cmd.Context(), c, args[0], &s)
			}
			if err != nil {
				return err
			}
			if only || s.Waiting == nil {
				return a.print(&s, s.write)
			}
			return a.change(cmd.Context(), c, s, "install")
		},
	}
	top.Flags().StringVar(&url, "url", "", "fetch it from this https address; that the box asked is in its register of what left it")
	top.Flags().StringVar(&box, "from-box", "", "fetch it from the box at HOST[:PORT] on this network")
	top.Flags().BoolVar(&only, "only-verify", false, "verify it and let it wait; then 'yunboxctl update install' installs it")
	simple := func(use, short, method, path string) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.local()
				if err != nil {
					return err
				}
				var s updateState
				if err := c.call(cmd.Context(), method, path, nil, &s); err != nil {
					return err
				}
				return a.print(&s, s.write)
			},
		}
	}
	changing := func(use, short, action string) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.local()
				if err != nil {
					return err
				}
				var s updateState
				if err := c.call(cmd.Context(), "GET", "/local/update", nil, &s); err != nil {
					return err
				}
				return a.change(cmd.Context(), c, s, action)
			},
		}
	}
	top.AddCommand(
		a.updateCheckCommand(),
		simple("status", "Show which version runs, which waits, and how the last update ended", "GET", "/local/update"),
		changing("install", "Install the update that waits", "install"),
		changing("rollback", "Go back to the version before", "rollback"),
		simple("discard", "Throw away the update that waits", "DELETE", "/local/update/bundle"),
	)
	top.AddCommand(a.updaterCommands()...)
	return top
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sendBundle(ctx context.Context, c *client, file string, s *updateState) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	req, err := c.request(ctx, "PUT", "/local/update/bundle", f)
	if err != nil {
		return err
	}
	req.ContentLength = info.Size()
	res, err := c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(s)
}

// mostPatience is how long change waits for the box to be done.
const mostPatience = 30 * time.Minute

// change asks for an update or the version before, and waits until it is there or not.
// The box is away in between.
func (a *app) change(ctx context.Context, c *client, before updateState, action string) error {
	in := map[string]int64{}
	if action == "install" {
		if before.Waiting == nil {
			return &problem.Error{Kind: problem.NotFound, Op: "update", Title: "No update is waiting", Hint: "Give the box one: `yunboxctl update FILE`."}
		}
		in["counter"] = before.Waiting.Counter
		if before.Waiting.Moves && !a.json {
			fmt.Fprintln(a.stderr, "it moves the box's records: the box takes nothing in while it is tried out, about half a minute")
		}
	}
	if err := c.call(ctx, "POST", "/local/update/"+action, in, nil); err != nil {
		return err
	}
	last := ""
	if before.Last != nil {
		last = before.Last.ID
	}
	ctx, cancel := context.WithTimeout(ctx, mostPatience)
	defer cancel()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return &problem.Error{Kind: problem.Unavailable, Op: "update", Title: "The box does not say how the update ended", Hint: "Ask again: `yunboxctl update status`, and look at `journalctl -u yunbox-update -u yunboxd`."}
		case <-time.After(500 * time.Millisecond):
		}
		var s updateState
		if err := c.call(ctx, "GET", "/local/update", nil, &s); err != nil {
			continue // it restarts
		}
		if s.Last == nil || s.Last.ID == last || s.Running != nil || s.OnTrial {
			if now := map[bool]string{true: "is tried out", false: "is being put in place"}[s.OnTrial]; now != told && !a.json {
				told = now
				fmt.Fprintln(a.stderr, "the version "+now)
			}
			continue
		}
		err := a.print(s.Last, func(w io.Writer) { fmt.Fprintln(w, s.Last.text()) })
		if err == nil && s.Last.Outcome != "kept" {
			return &codeError{problem.ExitFailed}
		}
		return err
	}
}

func (a *app) updateCheckCommand() *cobra.Command {
	return a.sendShown("check", "Ask the maker for a newer version, with what is shown first",
		`check shows the three things that would be sent (application number, type of system,
version), asks, and sends exactly them. It needs your consent to update_check, and an
address in the box's settings; there is none by default. With --state DIR it only shows.`,
		"/v1/update-check", "/local/update-check", func(c *client, cmd *cobra.Command, p payload) error {
			var said struct {
				Version string `json:"version"`
				Latest  string `json:"latest"`
				Newer   bool   `json:"newer"`
			}
			if err := c.call(cmd.Context(), "POST", "/v1/update-check", map[string]string{"payload": p.Payload}, &said); err != nil {
				return err
			}
			return a.print(said, func(w io.Writer) {
				if said.Newer {
					fmt.Fprintf(w, "there is a newer version: %s (this box has %s)\n", shown(said.Latest), shown(said.Version))
					return
				}
				fmt.Fprintf(w, "this box has the newest version, %s\n", shown(said.Version))
			})
		})
}

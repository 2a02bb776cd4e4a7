package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

func (a *app) treeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "tree", Short: "The plain view of everybody's files on the box's disk",
		Long: `The folder tree/ in the box's state directory shows every person's files under their
own names and times, so that any computer can read the disk with ls and cp. It is
derived from what the box keeps: what is written there changes no stored file, and is
lost when the box writes that name again.

  cd /var/lib/yunbox/tree/NAME && sha256sum -c SHA256SUMS`,
	}
	c.AddCommand(a.treeStatusCommand(), a.treeRebuildCommand(), a.treeCheckCommand())
	return c
}

func (a *app) treeStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show whether there is a view and how far it follows", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/local/tree", nil, &raw); err != nil {
				return err
			}
			var s struct {
				Mode    string `json:"mode"`
				Sharing bool   `json:"sharing"`
				Shown   bool   `json:"shown"`
				Pending int64  `json:"pending"`
				LeftOut int64  `json:"left_out"`
			}
			if err := json.Unmarshal(raw, &s); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				switch {
				case !s.Shown:
					fmt.Fprintln(w, "there is no view: the file system cannot share storage, and copies would take too much room")
					return
				case s.Sharing:
					fmt.Fprintln(w, "the files share storage with what the box keeps and take no room of their own")
				default:
					fmt.Fprintln(w, "the files are copies; they are given up when room gets scarce")
				}
				fmt.Fprintf(w, "changes to follow: %d\n", s.Pending)
				if s.LeftOut > 0 {
					fmt.Fprintf(w, "left out: %s\n", plural(s.LeftOut, "file", "files"))
				}
			})
		},
	}
}

func (a *app) treeRebuildCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rebuild", Short: "Make every file of the view anew", Args: cobra.NoArgs,
		Long: `rebuild makes every file of the view anew and removes what no longer belongs there.
Files of somebody's own that lie in it (they have another mode than 0444) stay. It goes
on when yunboxctl ends, and after a restart.

With --json each line is one of
  {"event":"progress","done":…,"total":…}
  {"event":"done","files":…,"left_out":…}

It exits with 1 if a file could not be shown: its content is damaged, or the file system
does not take its name.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.treeRebuild(cmd.Context()) },
	}
}

func (a *app) treeRebuild(ctx context.Context) error {
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	var e struct {
		Done    int64 `json:"done"`
		Total   int64 `json:"total"`
		Files   int64 `json:"files"`
		LeftOut int64 `json:"left_out"`
	}
	err := a.eachLine(ctx, "/local/tree/rebuild", "{}", "rebuild of the view", func(event string, line []byte) error {
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if event == "progress" {
			bar.at(e.Done, e.Total, 0, 0)
		}
		return nil
	})
	if err != nil {
		return err
	}
	bar.clear()
	a.say("shown: %s, left out: %d\n", plural(e.Files, "file", "files"), e.LeftOut)
	if e.LeftOut > 0 {
		return &codeError{problem.ExitFailed}
	}
	return nil
}

func (a *app) treeCheckCommand() *cobra.Command {
	var deep bool
	c := &cobra.Command{
		Use: "check", Short: "Compare the view with what the box keeps", Args: cobra.NoArgs,
		Long: `check compares names, sizes and times of the view with the catalogue, and with --deep
all bytes. It changes nothing; rebuild puts right what it finds.

With --json each line is one of
  {"event":"progress","done":…,"total":…}
  {"event":"wrong","sha256":…,"reason":"missing|not-a-file|size|time|bytes"}
  {"event":"done","files":…,"bytes":…,"wrong":…,"pending":…,"strange":…}
where pending are items whose last change is still to be followed, and strange files that
the box has not put there or not removed yet.

It exits with 1 if a file is wrong.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.treeCheck(cmd.Context(), deep) },
	}
	c.Flags().BoolVar(&deep, "deep", false, "read and hash every file")
	return c
}

func (a *app) treeCheck(ctx context.Context, deep bool) error {
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	var e struct {
		SHA256  string `json:"sha256"`
		Reason  string `json:"reason"`
		Done    int64  `json:"done"`
		Total   int64  `json:"total"`
		Files   int64  `json:"files"`
		Wrong   int64  `json:"wrong"`
		Pending int64  `json:"pending"`
		Strange int64  `json:"strange"`
	}
	err := a.eachLine(ctx, "/local/tree/check", fmt.Sprintf(`{"deep":%t}`, deep), "check of the view", func(event string, line []byte) error {
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		switch event {
		case "progress":
			bar.at(e.Done, e.Total, 0, 0)
		case "wrong":
			bar.clear()
			a.say("wrong: %s (%s)\n", e.SHA256, shown(e.Reason))
		}
		return nil
	})
	if err != nil {
		return err
	}
	bar.clear()
	a.say("compared: %s, wrong: %d, still to follow: %d, strange: %d\n", plural(e.Files, "file", "files"), e.Wrong, e.Pending, e.Strange)
	if e.Wrong > 0 {
		a.say("`yunboxctl tree rebuild` makes the view anew; nothing that the box keeps is changed by what is written there\n")
		return &codeError{problem.ExitFailed}
	}
	return nil
}

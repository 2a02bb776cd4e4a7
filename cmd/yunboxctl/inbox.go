package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// inboxWish is POST /local/inboxes and POST /local/inboxes/import.
type inboxWish struct {
	Path      string `json:"path"`
	User      string `json:"user"`
	Source    string `json:"source,omitempty"`
	Originals string `json:"originals,omitempty"`
	Into      string `json:"into,omitempty"`
}

// boxInbox is how a watched folder stands.
type boxInbox struct {
	ID        int64    `json:"id"`
	Path      string   `json:"path"`
	User      string   `json:"user"`
	Source    string   `json:"source"`
	Originals string   `json:"originals"`
	Into      string   `json:"into"`
	State     string   `json:"state"`
	Reason    *string  `json:"reason"`
	Taken     int64    `json:"taken"`
	Session   int64    `json:"session"`
	Waiting   int64    `json:"waiting"`
	Skipped   int64    `json:"skipped"`
	Consents  []string `json:"consents"`
	Refused   int64    `json:"refused"`
	Declined  int64    `json:"declined"`
	Failed    int64    `json:"failed"`
	Troubles  []struct {
		Path   string `json:"path"`
		Reason string `json:"reason"`
	} `json:"troubles"`
	ScanOnly bool       `json:"scan_only"`
	LastScan *time.Time `json:"last_scan"`
}

func (a *app) inboxCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "inbox", Short: "Take files in from folders, cards and sticks of this computer",
		Long: `inbox has the box watch folders of its own computer: a share, a folder that another
program fills, a card or a stick. What lies there becomes files of one person.

Whoever runs this command chooses the folders; only that person's own consent lets
anything in, asked for by the source of each file. Without it the files are left
alone until it is given.`,
	}
	c.AddCommand(a.inboxAddCommand(), a.inboxListCommand(), a.inboxRemoveCommand(), a.inboxScanCommand(), a.inboxImportCommand())
	return c
}

func wishFlags(c *cobra.Command, w *inboxWish) {
	f := c.Flags()
	f.StringVar(&w.User, "user", "", "the person whose files they become")
	f.StringVar(&w.Source, "source", autoSource, "where the files come from: "+strings.Join(pushSources, ", "))
	f.StringVar(&w.Into, "into", "", "folder among the person's files, / for their root [named like the folder]")
	if err := c.MarkFlagRequired("user"); err != nil {
		panic(err) // the flag is defined above
	}
}

func (a *app) inboxAddCommand() *cobra.Command {
	var w inboxWish
	c := &cobra.Command{
		Use: "add PATH", Short: "Watch a folder", Args: cobra.ExactArgs(1),
		Long: `add has the box watch a folder and all below it. A file is taken in when it has not
changed for a moment; one that changes later becomes a new version. A folder that is
away, such as a stick that was pulled out, is absent, not empty; it goes on when it is
back. The box puts a file .yunbox-inbox into the folder to know it again.

With --originals trash, what is safe on the box is moved to .yunbox-trash at the top
of the folder. The box never deletes anything in a watched folder.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			w.Path = path
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "POST", "/local/inboxes", w, &raw); err != nil {
				return err
			}
			var in boxInbox
			if err := json.Unmarshal(raw, &in); err != nil {
				return err
			}
			return a.print(raw, func(out io.Writer) {
				fmt.Fprintf(out, "watching %s for %s\n", shown(in.Path), shown(in.User))
			})
		},
	}
	wishFlags(c, &w)
	c.Flags().StringVar(&w.Originals, "originals", "keep", "what becomes of files that are safe on the box: keep, trash")
	return c
}

func (a *app) inboxListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the watched folders and how they stand", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/local/inboxes", nil, &raw); err != nil {
				return err
			}
			var out struct {
				Inboxes []boxInbox `json:"inboxes"`
			}
			if err := json.Unmarshal(raw, &out); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				if len(out.Inboxes) == 0 {
					fmt.Fprintln(w, "no folder is watched")
				}
				for _, in := range out.Inboxes {
					printInbox(w, in)
				}
			})
		},
	}
}

func printInbox(w io.Writer, in boxInbox) {
	into := "their root"
	if in.Into != "" {
		into = shown(in.Into)
	}
	fmt.Fprintf(w, "%d  %s\n", in.ID, shown(in.Path))
	rows := [][]string{
		{"  becomes", shown(in.User) + "'s, in " + into},
		{"  source", in.Source}, {"  originals", in.Originals}, {"  state", in.State},
		{"  taken", fmt.Sprintf("%d since the start, %d remembered", in.Session, in.Taken)},
	}
	if in.Reason != nil {
		rows = append(rows, []string{"  because", shown(*in.Reason)})
	}
	for _, n := range []struct {
		what string
		n    int64
	}{{"  waiting", in.Waiting}, {"  refused", in.Refused}, {"  declined", in.Declined}, {"  failed", in.Failed}, {"  left out", in.Skipped}} {
		if n.n > 0 {
			rows = append(rows, []string{n.what, strconv.FormatInt(n.n, 10)})
		}
	}
	if len(in.Consents) > 0 {
		rows = append(rows, []string{"  needs", shown(in.User) + "'s consent to " + shown(strings.Join(in.Consents, ", "))})
	}
	if in.ScanOnly {
		rows = append(rows, []string{"  slow", "too many folders to be told of changes: they are looked through every quarter of an hour"})
	}
	columns(w, rows)
	for _, t := range in.Troubles {
		fmt.Fprintf(w, "  not taken: %s: %s\n", shown(t.Path), shown(t.Reason))
	}
}

// inboxName is how the box finds a watched folder: its number, or its whole path.
func inboxName(arg string) (string, error) {
	if _, err := strconv.ParseInt(arg, 10, 64); err == nil {
		return arg, nil
	}
	return filepath.Abs(arg)
}

func (a *app) inboxRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove PATH|NUMBER", Short: "Watch a folder no longer", Args: cobra.ExactArgs(1),
		Long: "remove stops the watch. What was taken in stays its owner's, and the folder keeps its files.",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := inboxName(args[0])
			if err != nil {
				return err
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				ID   int64  `json:"id"`
				Path string `json:"path"`
			}
			if err := c.call(cmd.Context(), "DELETE", "/local/inboxes", map[string]string{"inbox": name}, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is no longer watched\n", shown(out.Path)) })
		},
	}
}

func (a *app) inboxScanCommand() *cobra.Command {
	return &cobra.Command{
		Use: "scan [PATH|NUMBER]", Short: "Look through a watched folder now, or through all", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]string{}
			if len(args) == 1 {
				name, err := inboxName(args[0])
				if err != nil {
					return err
				}
				in["inbox"] = name
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Inboxes int64 `json:"inboxes"`
			}
			if err := c.call(cmd.Context(), "POST", "/local/inboxes/scan", in, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "looking through %s\n", plural(out.Inboxes, "folder", "folders"))
			})
		},
	}
}

func (a *app) inboxImportCommand() *cobra.Command {
	var w inboxWish
	c := &cobra.Command{
		Use: "import PATH", Short: "Take a folder in once, such as a card or a stick", Args: cobra.ExactArgs(1),
		Long: `import takes in what lies in a folder and leaves it as it is. Importing it again
takes only what is new. With --json each line is an event:
  {"event":"progress","files":…,"bytes":…}
  {"event":"file","path":…,"result":"refused|declined|failed","reason":…}
  {"event":"done","files":…,"stored":…,"known":…,"refused":…,"failed":…,"declined":…,"waiting":…,"skipped":…,"bytes":…}

Files whose content the person deleted from the box are declined, and left alone.
It exits with 3 if some files are not on the box, with 4 if a consent is missing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			w.Path = path
			return a.importFolder(cmd.Context(), c, w)
		},
	}
	wishFlags(c, &w)
	return c
}

// importEvent is a line of POST /local/inboxes/import.
type importEvent struct {
	Event    string `json:"event"`
	Path     string `json:"path"`
	Result   string `json:"result"`
	Reason   string `json:"reason"`
	Purpose  string `json:"purpose"`
	Files    int64  `json:"files"`
	Stored   int64  `json:"stored"`
	Known    int64  `json:"known"`
	Refused  int64  `json:"refused"`
	Declined int64  `json:"declined"`
	Failed   int64  `json:"failed"`
	Waiting  int64  `json:"waiting"`
	Skipped  int64  `json:"skipped"`
	Bytes    int64  `json:"bytes"`
	Error    string `json:"error"`
}

func (a *app) importFolder(ctx context.Context, c *client, w inboxWish) error {
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	req, err := c.request(ctx, "POST", "/local/inboxes/import", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	purposes := map[string]bool{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var e importEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return &problem.Error{Kind: problem.Internal, Op: "inbox.import", Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of its version.", Err: err}
		}
		if a.json {
			fmt.Fprintf(a.stdout, "%s\n", lines.Bytes())
		}
		bar.clear()
		switch e.Event {
		case "progress":
			bar.note("%s taken in, %s", plural(e.Files, "file", "files"), problem.Bytes(e.Bytes))
		case "file":
			if e.Purpose != "" {
				purposes[e.Purpose] = true
			}
			a.warnUnlessJSON("%s: %s: %s", e.Result, shown(e.Path), shown(e.Reason))
		case "done":
			return a.imported(w, e, purposes)
		}
	}
	return &problem.Error{Kind: problem.Unavailable, Op: "inbox.import", Title: "The import was cut off", Hint: "Run it again: it takes only what is missing."}
}

func (a *app) warnUnlessJSON(format string, args ...any) {
	if !a.json {
		a.warn(format, args...)
	}
}

// imported tells the end of an import.
func (a *app) imported(w inboxWish, e importEvent, purposes map[string]bool) error {
	head := "all safe: "
	if e.Error != "" || e.Refused+e.Declined+e.Failed+e.Waiting > 0 {
		head = "NOT all safe: "
	}
	a.say("%s%s\n  new           %d\n  already there %d\n", head, plural(e.Stored+e.Known+e.Refused+e.Declined+e.Failed+e.Waiting, "file", "files"), e.Stored, e.Known)
	for _, n := range []struct {
		what string
		n    int64
	}{{"refused", e.Refused}, {"declined", e.Declined}, {"failed", e.Failed}, {"still changing", e.Waiting}, {"left out", e.Skipped}} {
		if n.n > 0 {
			a.say("  %-13s %d\n", n.what, n.n)
		}
	}
	switch {
	case e.Error != "":
		return &problem.Error{Kind: problem.Conflict, Op: "inbox.import", Title: "The import is not complete", Detail: shown(e.Error), Hint: "Run it again when that is mended: it takes only what is missing."}
	case e.Failed+e.Waiting > 0, e.Declined > 0 && e.Refused == 0:
		return &codeError{problem.ExitPartly}
	case e.Refused > 0:
		list := slices.Sorted(maps.Keys(purposes))
		return &problem.Error{Kind: problem.ConsentRequired, Op: "inbox.import", Title: "A consent is missing",
			Detail:  fmt.Sprintf("%s of %s's were left alone for want of consent to %s.", plural(e.Refused, "file", "files"), w.User, strings.Join(list, ", ")),
			Hint:    "Only the person can give it, on the box's page under Consents; then import again.",
			Members: map[string]any{"purposes": list}}
	}
	return nil
}

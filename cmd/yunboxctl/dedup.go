package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// dedupTask is the body of /local/dedup/….
type dedupTask struct {
	Path        string   `json:"path"`
	User        string   `json:"user,omitempty"`
	Plan        string   `json:"plan,omitempty"`
	Action      string   `json:"action,omitempty"`
	Rule        string   `json:"rule,omitempty"`
	Prefer      []string `json:"prefer,omitempty"`
	Stay        []string `json:"stay,omitempty"`
	AnyTime     bool     `json:"any_time,omitempty"`
	OtherMounts bool     `json:"other_mounts,omitempty"`
	All         bool     `json:"all,omitempty"`
	Similar     bool     `json:"similar,omitempty"`
	Groups      bool     `json:"groups,omitempty"`
}

// dedupName is a path, or {"base64": …} if it is not text.
type dedupName string

func (n *dedupName) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*n = dedupName(s)
		return nil
	}
	var o struct {
		Base64 []byte `json:"base64"`
	}
	err := json.Unmarshal(b, &o)
	*n = dedupName(o.Base64)
	return err
}

type dedupFile struct {
	Path dedupName `json:"path"`
}

type dedupPicture struct {
	Path  dedupName `json:"path"`
	Size  int64     `json:"size"`
	Wide  int       `json:"width"`
	High  int       `json:"height"`
	Exact bool      `json:"exact"`
}

type dedupTroubles struct {
	N    int64 `json:"n"`
	List []struct {
		Path   dedupName `json:"path"`
		Reason string    `json:"reason"`
	} `json:"list"`
}

type dedupPlan struct {
	ID     string `json:"plan"`
	Action string `json:"action"`
	Groups int64  `json:"groups"`
	Files  int64  `json:"files"`
	Free   int64  `json:"free"`
	InBox  int64  `json:"in_box"`
	Left   int64  `json:"left"`
	State  string `json:"state"`
}

type dedupFolded struct {
	Files   int64         `json:"files"`
	Done    int64         `json:"done"`
	Left    dedupTroubles `json:"left"`
	Nothing bool          `json:"nothing"`
}

// dedupEvent is a line of the answer.
type dedupEvent struct {
	Event string `json:"event"`

	Stage   string `json:"stage"`
	Bytes   int64  `json:"bytes"`
	OfBytes int64  `json:"of_bytes"`
	OfFiles int64  `json:"of_files"`
	Rate    int64  `json:"rate"`
	Left    int64  `json:"seconds_left"`

	Size  int64           `json:"size"`
	InBox bool            `json:"in_box"`
	Keep  dedupFile       `json:"keep"`
	Fold  []dedupFile     `json:"fold"`
	Best  dedupPicture    `json:"best"`
	Raw   json.RawMessage `json:"files"` // a number in progress, pictures in alike

	Scan *struct {
		Files       int64         `json:"files"`
		Bytes       int64         `json:"bytes"`
		Linked      int64         `json:"linked"`
		Same        int64         `json:"same"`
		Free        int64         `json:"free"`
		Shared      int64         `json:"shared"`
		InBox       int64         `json:"in_box"`
		InBoxBytes  int64         `json:"in_box_bytes"`
		OtherMounts int64         `json:"other_mounts"`
		Unreadable  dedupTroubles `json:"unreadable"`
		Changed     dedupTroubles `json:"changed"`
	} `json:"scan"`
	Alike *struct {
		Pictures int64         `json:"pictures"`
		Groups   int64         `json:"groups"`
		Alike    int64         `json:"alike"`
		Bytes    int64         `json:"bytes"`
		Unseen   int64         `json:"unseen"`
		Bad      dedupTroubles `json:"unreadable"`
	} `json:"alike"`
	Plan   json.RawMessage `json:"plan"`
	Folded *dedupFolded    `json:"folded"`
	Undone *dedupFolded    `json:"undo"`
	Failed *struct {
		Kind    problem.Kind   `json:"kind"`
		Title   string         `json:"title"`
		Detail  string         `json:"detail"`
		Hint    string         `json:"hint"`
		Members map[string]any `json:"members"`
	} `json:"failed"`
}

func (a *app) dedupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "dedup", Short: "Find equal files in a folder of this computer, and fold them",
		Long: `dedup has the box look for equal files in a folder of its own computer: a share, a disk
that was plugged in, an old backup. First scan says what there is, then plan says what
would be done, and apply does it. undo takes it back.

It is done for one person, who must have consented to file_dedup on the box's page; a
folder that the box watches for somebody (yunboxctl inbox) is that person's. With --state
the administrator names the person; without it you are the person, the folder is one
that the box watches for you, and you are told what the box has already. Pictures
that only look alike are shown by scan --similar and never touched.

With --json each line is an event; the last one is {"event":"done", …}:
  {"event":"progress","stage":…,"files":…,"of_files":…,"bytes":…,"of_bytes":…,"rate":…,"seconds_left":…}
  {"event":"group","sha256":…,"size":…,"in_box":…,"keep":{"path":…},"fold":[{"path":…}]}
  {"event":"alike","best":{"path":…},"files":[{"path":…,"exact":…,"distance":…}]}`,
	}
	c.AddCommand(a.dedupScanCommand(), a.dedupPlanCommand(), a.dedupApplyCommand(), a.dedupUndoCommand())
	return c
}

// dedupFlags are those of all its commands.
func dedupFlags(c *cobra.Command, t *dedupTask) {
	c.Flags().StringVar(&t.User, "user", "", "with --state: the person whose folder it is")
}

// dedupClient speaks to the box as its administrator, with --state, or as a person.
func (a *app) dedupClient(ctx context.Context, t *dedupTask) (c *client, prefix string, err error) {
	if a.state == "" {
		if t.User != "" {
			return nil, "", usagef("--user goes with --state DIR; without that it is you")
		}
		c, err = a.person(ctx)
		return c, "/v1/duplicates/", err
	}
	if t.User == "" {
		return nil, "", usagef("whose folder is it? Name the person with --user")
	}
	c, err = a.local()
	return c, "/local/dedup/", err
}

func dedupScanFlags(c *cobra.Command, t *dedupTask) {
	dedupFlags(c, t)
	f := c.Flags()
	f.BoolVar(&t.OtherMounts, "other-mounts", false, "also look into other file systems that are mounted in the folder")
	f.BoolVar(&t.Groups, "list", false, "name the files")
}

func (a *app) dedupScanCommand() *cobra.Command {
	var t dedupTask
	c := &cobra.Command{
		Use: "scan PATH", Short: "Say what is the same in a folder", Args: cobra.ExactArgs(1),
		Long: "scan reads the files of a folder, as far as needed, and changes nothing. What it read it\nremembers: a second scan reads only what is new.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.dedup(cmd.Context(), "scan", args[0], &t)
			if err != nil {
				return err
			}
			a.tellScan(e)
			return nil
		},
	}
	dedupScanFlags(c, &t)
	c.Flags().BoolVar(&t.Similar, "similar", false, "also suggest pictures that look alike")
	c.Flags().BoolVar(&t.All, "in-box", false, "read every file, to say which the box has already; without --state")
	return c
}

func (a *app) dedupPlanCommand() *cobra.Command {
	var t dedupTask
	c := &cobra.Command{
		Use: "plan PATH", Short: "Say what would be done with files that are the same", Args: cobra.ExactArgs(1),
		Long: `plan scans a folder and writes down which file of each content stays and what becomes of
the others, and does none of it.

  --by reflink    both use the same storage and stay two files (btrfs, XFS)
  --by hardlink   one file of several names: a change by one is a change by all.
                  Files whose owner, permissions or time differ are left alone
  --by trash      the others are moved to .yunbox-trash at the top of the folder`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.dedup(cmd.Context(), "plan", args[0], &t)
			if err != nil {
				return err
			}
			a.tellScan(e)
			var p dedupPlan
			if err := json.Unmarshal(e.Plan, &p); err != nil {
				return err
			}
			a.tellPlan(p)
			if p.Files > 0 {
				a.say("to do it: the same with apply instead of plan\n")
			}
			return nil
		},
	}
	dedupScanFlags(c, &t)
	f := c.Flags()
	f.StringVar(&t.Action, "by", "reflink", "what becomes of the others: reflink, hardlink, trash")
	f.StringVar(&t.Rule, "keep", "oldest", "which file stays: oldest, newest, shortest (path)")
	f.StringArrayVar(&t.Prefer, "prefer", nil, "a folder whose files rather stay; may be given several times, the first one first")
	f.StringArrayVar(&t.Stay, "never", nil, "a file, or a folder with all in it, that is never folded; may be given several times")
	f.BoolVar(&t.AnyTime, "any-time", false, "hardlink: also files whose times differ; the one that stays keeps its own")
	return c
}

func (a *app) dedupApplyCommand() *cobra.Command {
	var t dedupTask
	var yes bool
	c := &cobra.Command{
		Use: "apply PATH", Short: "Do what the plan says, or go on where that was cut off", Args: cobra.ExactArgs(1),
		Long: "apply reads each file and the one that stays again, right before it is folded. What changed\nsince the plan, or is in use, is left alone. It exits with 3 if some files were left.",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.dedupPlan(cmd.Context(), args[0], &t)
			if err != nil {
				return err
			}
			if !yes {
				if !a.json {
					a.tellPlan(p)
				}
				agreed, asked := a.ask("Do it?")
				if !asked {
					return usagef("dedup apply needs --yes when nobody can be asked")
				}
				if !agreed {
					return &codeError{problem.ExitFailed}
				}
			}
			t.Plan = p.ID
			e, err := a.dedup(cmd.Context(), "apply", args[0], &t)
			if err != nil {
				return err
			}
			return a.tellFolded(e.Folded, map[string]string{"reflink": "made to share the storage of another", "hardlink": "made links to another", "trash": "moved to the trash folder .yunbox-trash"}[p.Action])
		},
	}
	dedupFlags(c, &t)
	c.Flags().StringVar(&t.Plan, "plan", "", "the plan [the newest of the folder]")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) dedupUndoCommand() *cobra.Command {
	var t dedupTask
	c := &cobra.Command{
		Use: "undo PATH", Short: "Take back what apply did", Args: cobra.ExactArgs(1),
		Long: `undo makes links files of their own again, and moves back what is in the trash folder.
Files that share storage are files of their own already: for them there is nothing to do.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.dedup(cmd.Context(), "undo", args[0], &t)
			if err != nil {
				return err
			}
			if e.Undone != nil && e.Undone.Nothing {
				a.say("nothing to do: files that share storage are files of their own\n")
				return nil
			}
			return a.tellFolded(e.Undone, "brought back as before")
		},
	}
	dedupFlags(c, &t)
	c.Flags().StringVar(&t.Plan, "plan", "", "the plan [the newest of the folder]")
	return c
}

// dedupPlan asks for the plan that apply is about.
func (a *app) dedupPlan(ctx context.Context, path string, t *dedupTask) (p dedupPlan, err error) {
	if t.Path, err = filepath.Abs(path); err != nil {
		return p, err
	}
	c, prefix, err := a.dedupClient(ctx, t)
	if err != nil {
		return p, err
	}
	var out struct {
		Plans []dedupPlan `json:"plans"`
	}
	if err := c.call(ctx, "POST", prefix+"plans", dedupTask{Path: t.Path, User: t.User}, &out); err != nil {
		return p, err
	}
	for _, have := range out.Plans {
		if t.Plan == "" || have.ID == t.Plan {
			p = have
		}
	}
	if p.ID == "" {
		return p, &problem.Error{Kind: problem.NotFound, Op: "dedup.apply", Title: "There is no such plan for that folder", Hint: "Make one first: yunboxctl dedup plan."}
	}
	return p, nil
}

// dedup has the box do something and follows it to its end.
func (a *app) dedup(ctx context.Context, verb, path string, t *dedupTask) (e dedupEvent, err error) {
	if t.Path, err = filepath.Abs(path); err != nil {
		return e, err
	}
	for _, list := range [][]string{t.Prefer, t.Stay} {
		for i := range list {
			if list[i], err = filepath.Abs(list[i]); err != nil {
				return e, err
			}
		}
	}
	c, prefix, err := a.dedupClient(ctx, t)
	if err != nil {
		return e, err
	}
	body, err := json.Marshal(t)
	if err != nil {
		return e, err
	}
	req, err := c.request(ctx, "POST", prefix+verb, strings.NewReader(string(body)))
	if err != nil {
		return e, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.do(req)
	if err != nil {
		return e, err
	}
	defer res.Body.Close()
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return e, &problem.Error{Kind: problem.Unavailable, Op: "dedup", Title: "The box stopped in the middle", Hint: "Run it again: it goes on where it was.", Err: err}
		}
		e = dedupEvent{}
		if err := json.Unmarshal(line, &e); err != nil {
			return e, &problem.Error{Kind: problem.Internal, Op: "dedup", Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of its version.", Err: err}
		}
		if a.json {
			a.stdout.Write(line)
		}
		if e.Event != "progress" {
			bar.clear()
		}
		switch e.Event {
		case "progress":
			e.draw(bar)
		case "group", "alike":
			a.tellGroup(e)
		case "done":
			if f := e.Failed; f != nil {
				return e, &problem.Error{Kind: f.Kind, Op: "dedup", Title: shown(f.Title), Detail: shown(f.Detail), Hint: shown(f.Hint), Members: f.Members}
			}
			return e, nil
		}
	}
}

// draw shows how far it is.
func (e *dedupEvent) draw(bar *progress) {
	files, _ := strconv.ParseInt(string(e.Raw), 10, 64)
	text := map[string]string{"listing": "found", "sampling": "looked at", "reading": "read", "comparing": "pictures compared:", "folding": "folded", "undoing": "brought back"}[e.Stage]
	text += " " + thousands(files)
	if e.OfFiles > 0 {
		text += " of " + thousands(e.OfFiles)
	}
	text += " files"
	if e.Bytes > 0 {
		text += ", " + problem.Bytes(e.Bytes)
	}
	if e.OfBytes > 0 {
		text += " of " + problem.Bytes(e.OfBytes)
	}
	if e.Rate > 0 {
		text += ", " + problem.Bytes(e.Rate) + "/s"
	}
	if e.Left > 0 {
		text += fmt.Sprintf(", %d:%02d left", e.Left/60, e.Left%60)
	}
	bar.note("%s", text)
}

func (a *app) tellGroup(e dedupEvent) {
	if a.json {
		return
	}
	if e.Event == "alike" {
		var others []dedupPicture
		if json.Unmarshal(e.Raw, &others) != nil {
			return
		}
		a.say("look alike:\n")
		for i, p := range append([]dedupPicture{e.Best}, others...) {
			how := ""
			if i > 0 && p.Exact {
				how = ", the same picture"
			}
			a.say("  %s (%d × %d, %s%s)\n", shown(string(p.Path)), p.Wide, p.High, problem.Bytes(p.Size), how)
		}
		return
	}
	box := ""
	if e.InBox {
		box = ", already in the box"
	}
	a.say("the same, %s each%s:\n  %s\n", problem.Bytes(e.Size), box, shown(string(e.Keep.Path)))
	for _, f := range e.Fold {
		a.say("  %s\n", shown(string(f.Path)))
	}
}

func (a *app) tellScan(e dedupEvent) {
	if s := e.Scan; s != nil && !a.json {
		w := a.stdout
		if s.Same == 0 {
			fmt.Fprintf(w, "no files are the same, of %s (%s)\n", thousands(s.Files), problem.Bytes(s.Bytes))
		} else {
			fmt.Fprintf(w, "%s the same, %s could be freed (of %s files, %s)\n", filesAre(s.Same), problem.Bytes(s.Free), thousands(s.Files), problem.Bytes(s.Bytes))
		}
		for _, n := range []struct {
			n    int64
			what string
		}{
			{s.Linked, "are further names of files (hard links)"}, {s.Shared, "share their storage already"}, {s.InBox, "are in the box already"},
			{s.OtherMounts, "folders were left out: they are other file systems"},
		} {
			if n.n > 0 {
				fmt.Fprintf(w, "  %s %s\n", thousands(n.n), n.what)
			}
		}
		a.tellTroubles("could not be read", s.Unreadable)
		a.tellTroubles("changed meanwhile", s.Changed)
	}
	if s := e.Alike; s != nil && !a.json {
		fmt.Fprintf(a.stdout, "%s of %s pictures look like a better one, %s in all; they are yours to judge, nothing touches them\n", thousands(s.Alike), thousands(s.Pictures), problem.Bytes(s.Bytes))
		if s.Unseen > 0 {
			fmt.Fprintf(a.stdout, "  %s could not be compared: too large, damaged, or without anything in it\n", thousands(s.Unseen))
		}
		a.tellTroubles("could not be read", s.Bad)
	}
}

func (a *app) tellTroubles(what string, t dedupTroubles) {
	if t.N == 0 {
		return
	}
	fmt.Fprintf(a.stdout, "  %s %s\n", thousands(t.N), what)
	for _, f := range t.List {
		fmt.Fprintf(a.stdout, "    %s: %s\n", shown(string(f.Path)), shown(f.Reason))
	}
}

func (a *app) tellPlan(p dedupPlan) {
	what := map[string]string{
		"reflink": "would share the storage of another", "hardlink": "would become links to another", "trash": "would be moved to the trash folder",
	}[p.Action]
	a.say("plan %s: %s %s, %s could be freed\n", p.ID, plural(p.Files, "file", "files"), what, problem.Bytes(p.Free))
	if p.InBox > 0 {
		a.say("  %s of them are in the box already\n", thousands(p.InBox))
	}
	if p.Left > 0 {
		a.say("  %s would be left: never to be folded, or on another file system\n", thousands(p.Left))
	}
}

// tellFolded says what became of a plan.
func (a *app) tellFolded(f *dedupFolded, what string) error {
	if f == nil {
		return &problem.Error{Kind: problem.Internal, Op: "dedup", Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of its version."}
	}
	if !a.json {
		fmt.Fprintf(a.stdout, "%s %s\n", plural(f.Done, "file", "files"), what)
		a.tellTroubles("were left alone", f.Left)
	}
	if f.Left.N > 0 {
		return &codeError{problem.ExitPartly}
	}
	return nil
}

func filesAre(n int64) string {
	if n == 1 {
		return "1 file is"
	}
	return thousands(n) + " files are"
}

// thousands writes a number as 3,120.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

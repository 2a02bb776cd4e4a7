package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// scrubState is how well the box knows its stored bytes.
type scrubState struct {
	Days    int        `json:"days"`
	Oldest  *time.Time `json:"oldest_unverified"`
	Last    *time.Time `json:"last"`
	Damaged int64      `json:"damaged"`
	Bytes   int64      `json:"damaged_bytes"`
	Since   *time.Time `json:"damaged_since"`
	Healed  int64      `json:"healed"`
	Run     *scrubLine `json:"run"`
}

func (s *scrubState) coverage(now time.Time) string {
	if s.Oldest == nil {
		return "nothing is kept yet"
	}
	text := "oldest unverified: " + days(now.Sub(*s.Oldest))
	if s.Days == 0 {
		text += ", only on demand"
	} else {
		text += fmt.Sprintf(", all within %d days", s.Days)
	}
	if s.Run != nil {
		text += fmt.Sprintf("; reading now: %s of %s", problem.Bytes(s.Run.Bytes), problem.Bytes(s.Run.Size))
	}
	return text
}

func (s *scrubState) damage() string {
	text := "none"
	if s.Damaged > 0 {
		text = fmt.Sprintf("%s, %s: waiting for a device that still has the files", plural(s.Damaged, "content", "contents"), problem.Bytes(s.Bytes))
	}
	if s.Healed > 0 {
		text += fmt.Sprintf("; %d healed so far", s.Healed)
	}
	return text
}

func days(d time.Duration) string {
	return plural(max(int64(d/(24*time.Hour)), 0), "day", "days")
}

// eachLine sends a request over the socket and hands on the lines of its answer; with
// --json it writes them as they come, too. It fails if the last one is not done.
func (a *app) eachLine(ctx context.Context, path, body, what string, tell func(event string, line []byte) error) error {
	c, err := a.local()
	if err != nil {
		return err
	}
	req, err := c.request(ctx, "POST", path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	last := ""
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var e struct {
			Event string `json:"event"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return &problem.Error{Kind: problem.Internal, Op: what, Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of its version.", Err: err}
		}
		if a.json {
			fmt.Fprintf(a.stdout, "%s\n", lines.Bytes())
		}
		if last = e.Event; last == "done" && e.Error != "" {
			return &problem.Error{Kind: problem.Internal, Op: what, Title: "The " + what + " is not complete", Detail: shown(e.Error), Hint: "The box's log says more."}
		}
		if err := tell(e.Event, lines.Bytes()); err != nil {
			return err
		}
	}
	if last != "done" {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &problem.Error{Kind: problem.Unavailable, Op: what, Title: "The " + what + " was cut off", Hint: "Run it again."}
	}
	return nil
}

func (a *app) checkCommand() *cobra.Command {
	var deep bool
	c := &cobra.Command{
		Use: "check", Short: "Check that everything the box acknowledged is there", Args: cobra.NoArgs,
		Long: `check lets the database check itself and compares the catalogue with the stored
contents: is each there, has it the right size. With --deep every content is read
from the disk and hashed. What is damaged or missing counts as not known from then
on, so that a backup sends it again; see repair.

With --json each line is one of
  {"event":"database","problem":…}
  {"event":"progress","done":…,"total":…,"bytes":…,"size":…}
  {"event":"damage","sha256":…,"reason":"missing|not-a-file|size|bytes|unreadable","size":…}
  {"event":"orphan","sha256":…,"size":…}
  {"event":"done","blobs":…,"bytes":…,"damaged":…,"orphans":…,"database":…}

It exits with 1 if something is damaged or missing.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), deep) },
	}
	c.Flags().BoolVar(&deep, "deep", false, "read and hash every stored content")
	return c
}

// checkEvent is a line of POST /local/check.
type checkEvent struct {
	SHA256   string `json:"sha256"`
	Reason   string `json:"reason"`
	Problem  string `json:"problem"`
	Done     int64  `json:"done"`
	Total    int64  `json:"total"`
	Blobs    int64  `json:"blobs"`
	Bytes    int64  `json:"bytes"`
	Size     int64  `json:"size"`
	Damaged  int64  `json:"damaged"`
	Orphans  int64  `json:"orphans"`
	Database int64  `json:"database"`
}

func (a *app) check(ctx context.Context, deep bool) error {
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	var end checkEvent
	err := a.eachLine(ctx, "/local/check", fmt.Sprintf(`{"deep":%t}`, deep), "check", func(event string, line []byte) error {
		var e checkEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		switch event {
		case "progress":
			bar.at(e.Done, e.Total, e.Bytes, e.Size)
			return nil
		case "done":
			end = e
		}
		bar.clear()
		switch event {
		case "database":
			a.say("the catalogue is damaged: %s\n", shown(e.Problem))
		case "damage":
			a.say("damaged: %s (%s): %s\n", e.SHA256, problem.Bytes(e.Size), shown(e.Reason))
		case "orphan":
			a.say("not in the catalogue: %s (%s), will be swept\n", e.SHA256, problem.Bytes(e.Size))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if end.Damaged == 0 && end.Database == 0 {
		a.say("all is well: %s, %s\n", plural(end.Blobs, "content", "contents"), problem.Bytes(end.Bytes))
		return nil
	}
	if end.Database > 0 {
		a.say("the catalogue has %s: `yunboxctl rebuild` makes it anew from the journal beside it\n", plural(end.Database, "fault", "faults"))
	}
	if end.Damaged > 0 {
		a.say("%s of %d damaged or missing; `yunboxctl repair` heals what another copy has, the next backup of a device that still has the files the rest\n",
			plural(end.Damaged, "content", "contents"), end.Blobs)
	}
	return &codeError{problem.ExitFailed}
}

// scrubLine is a line of POST /local/scrub.
type scrubLine struct {
	Whole   bool  `json:"whole"`
	Done    int64 `json:"done"`
	Total   int64 `json:"total"`
	Bytes   int64 `json:"bytes"`
	Size    int64 `json:"size"`
	Damaged int64 `json:"damaged"`
	Healed  int64 `json:"healed"`
	Stopped bool  `json:"stopped"`
}

func (a *app) scrubCommand() *cobra.Command {
	var full, wait, stop bool
	c := &cobra.Command{
		Use: "scrub", Short: "Read stored contents back and look for damage", Args: cobra.NoArgs,
		Long: `scrub begins now what the box does by itself in small portions: it reads those
contents back that were not read for the longest time, and with --full all of them.
It goes on when yunboxctl ends, and after a restart; people who send files come first.
Damage is put on a list, healed from another copy if there is one, and asked for
again otherwise. With --stop it ends the one that runs, for good; what was read counts,
and the next portion comes a day later.

With --json each line is one of
  {"event":"begun",…}  {"event":"progress",…}  {"event":"done",…}
with "whole", "done" and "total" contents, "bytes" of "size", "damaged" and "healed".

With --wait it exits with 1 if it found damage that was not healed at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stop {
				return a.stopScrub(cmd.Context())
			}
			return a.scrub(cmd.Context(), full, wait)
		},
	}
	c.Flags().BoolVar(&stop, "stop", false, "end the one that runs")
	c.Flags().BoolVar(&full, "full", false, "read everything")
	c.Flags().BoolVar(&wait, "wait", false, "stay until it has ended, and show how far it is")
	c.MarkFlagsMutuallyExclusive("stop", "full")
	c.MarkFlagsMutuallyExclusive("stop", "wait")
	return c
}

func (a *app) scrub(ctx context.Context, full, wait bool) error {
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	if !wait {
		c, err := a.local()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := c.call(ctx, "POST", "/local/scrub", map[string]bool{"whole": full}, &raw); err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) { fmt.Fprintln(w, "the scrub has begun; `yunboxctl status` shows how far it is") })
	}
	var e scrubLine
	err := a.eachLine(ctx, "/local/scrub", fmt.Sprintf(`{"whole":%t,"wait":true}`, full), "scrub", func(_ string, line []byte) error {
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		bar.at(e.Done, e.Total, e.Bytes, e.Size)
		return nil
	})
	if err != nil {
		return err
	}
	bar.clear()
	if e.Stopped {
		a.say("somebody stopped the scrub\n")
	}
	a.say("read back: %s, %s; damaged: %d, healed: %d\n", plural(e.Done, "content", "contents"), problem.Bytes(e.Bytes), e.Damaged, e.Healed)
	if e.Damaged > e.Healed {
		return &codeError{problem.ExitFailed}
	}
	return nil
}

func (a *app) stopScrub(ctx context.Context) error {
	c, err := a.local()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := c.call(ctx, "POST", "/local/scrub/stop", map[string]any{}, &raw); err != nil {
		return err
	}
	var out struct{ Stopped bool }
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	return a.print(raw, func(w io.Writer) {
		if out.Stopped {
			fmt.Fprintln(w, "the scrub is stopped; what it read counts")
		} else {
			fmt.Fprintln(w, "no scrub is running")
		}
	})
}

func (a *app) repairCommand() *cobra.Command {
	var list bool
	c := &cobra.Command{
		Use: "repair", Short: "Heal what was found damaged", Args: cobra.NoArgs,
		Long: `repair goes through the list of damages. What can be read again is sound; what
another copy of the box has is healed from it, verified while it is copied. The rest
waits for a device that still has the file: the box says that it does not know the
content, so that the next backup sends it again, and the entry closes by itself.

With --json each line is one of
  {"event":"healed","sha256":…,"size":…,"damage":…,"by":"copy|sound","copy":…}
  {"event":"waiting","sha256":…,"size":…,"damage":…,"reason":…}
  {"event":"done","healed":…,"waiting":…}

It exits with 1 if something still waits.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return a.listDamage(cmd.Context())
			}
			return a.repair(cmd.Context())
		},
	}
	c.Flags().BoolVar(&list, "list", false, "only show the newest entries of the list, the healed ones too")
	return c
}

func (a *app) repair(ctx context.Context) error {
	var e struct {
		SHA256  string `json:"sha256"`
		Size    int64  `json:"size"`
		Damage  string `json:"damage"`
		By      string `json:"by"`
		Copy    string `json:"copy"`
		Reason  string `json:"reason"`
		Healed  int64  `json:"healed"`
		Waiting int64  `json:"waiting"`
	}
	err := a.eachLine(ctx, "/local/repair", "{}", "repair", func(event string, line []byte) error {
		e.By, e.Copy, e.Reason = "", "", ""
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		switch {
		case event == "healed" && e.By == "sound":
			a.say("sound again: %s (%s)\n", e.SHA256, problem.Bytes(e.Size))
		case event == "healed":
			a.say("healed: %s (%s) from %s\n", e.SHA256, problem.Bytes(e.Size), shown(e.Copy))
		case event == "waiting":
			a.say("waiting for a device that has it: %s (%s, %s) %s\n", e.SHA256, problem.Bytes(e.Size), shown(e.Damage), shown(e.Reason))
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.say("healed: %d, waiting: %d\n", e.Healed, e.Waiting)
	if e.Waiting > 0 {
		return &codeError{problem.ExitFailed}
	}
	return nil
}

func (a *app) listDamage(ctx context.Context) error {
	c, err := a.local()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := c.call(ctx, "GET", "/local/damage", nil, &raw); err != nil {
		return err
	}
	var out struct {
		Damage []struct {
			SHA256 string    `json:"sha256"`
			Size   int64     `json:"size"`
			Damage string    `json:"damage"`
			Found  time.Time `json:"found"`
			By     string    `json:"found_by"`
			State  string    `json:"state"`
			Ending string    `json:"ending"`
		} `json:"damage"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	return a.print(raw, func(w io.Writer) {
		rows := make([][]string, 0, len(out.Damage))
		for _, d := range out.Damage {
			rows = append(rows, []string{d.Found.Local().Format(time.DateTime), d.SHA256, problem.Bytes(d.Size), shown(d.Damage), shown(d.By), d.State, d.Ending})
		}
		listed(w, rows, "no damage was ever found")
	})
}

// say writes a line for people; with --json there is none.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stdout, format, args...)
	}
}

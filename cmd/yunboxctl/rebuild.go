package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

func (a *app) rebuildCommand() *cobra.Command {
	var how rebuildHow
	c := &cobra.Command{
		Use: "rebuild", Short: "Bring the box's catalogue back from its journal", Args: cobra.NoArgs,
		Long: `rebuild makes box.db, which knows people, names, consents and the audit record, anew
from the journal beside it, checks it, and puts it in the place of one that is missing,
damaged or not the newest. What it replaces is kept, in a folder that it names. A
catalogue that is in good order and says the same stays. The box serves nobody
meanwhile. It can be run again whenever it was cut off.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			if how.Replace && how.From == "" {
				return usagef("--replace belongs to --from")
			}
			if how.From != "" {
				if how.From, err = filepath.Abs(how.From); err != nil {
					return err
				}
			}
			return a.rebuild(cmd.Context(), c, how)
		},
	}
	c.Flags().StringVar(&how.From, "from", "", "read the journal in this folder, for example of a second copy")
	c.Flags().BoolVar(&how.Replace, "replace", false, "with --from: also where the box's own catalogue is in good order")
	c.Flags().BoolVar(&how.AcceptLoss, "accept-loss", false, "go on where the journal does not know everything, or nothing at all")
	return c
}

// rebuildHow is the body of POST /local/rebuild.
type rebuildHow struct {
	From       string `json:"from,omitempty"`
	Replace    bool   `json:"replace,omitempty"`
	AcceptLoss bool   `json:"accept_loss,omitempty"`
}

// rebuildEvent is a line of its answer.
type rebuildEvent struct {
	Event string `json:"event"`

	Step  string `json:"step"` // progress
	Done  int64  `json:"done"`
	Total int64  `json:"total"`

	Kind   problem.Kind `json:"kind"` // error
	Title  string       `json:"title"`
	Detail string       `json:"detail"`
	Hint   string       `json:"hint"`

	Replaced    bool       `json:"replaced"` // done
	People      int64      `json:"people"`
	Files       int64      `json:"files"`
	Consents    int64      `json:"consents"`
	Acts        int64      `json:"acts"`
	LastChange  *time.Time `json:"last_change"`
	Differences int64      `json:"differences"`
	Damaged     []string   `json:"damaged"`
	Lost        string     `json:"lost"`
	Missing     int64      `json:"missing"`
	MissingRefs []string   `json:"missing_sha256"`
	Found       int64      `json:"found"`
	FoundBytes  int64      `json:"found_bytes"`
	Kept        string     `json:"kept"`
}

const reopening = time.Minute // within which a box closes for a rebuild, or opens after it

func (a *app) rebuild(ctx context.Context, c *client, how rebuildHow) error {
	res, err := a.beginRebuild(ctx, c, how)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	var done *rebuildEvent
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e rebuildEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return &problem.Error{Kind: problem.Internal, Op: "rebuild", Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of its version.", Err: err}
		}
		if a.json && e.Event != "error" {
			fmt.Fprintf(a.stdout, "%s\n", lines.Bytes())
		}
		bar.clear()
		switch e.Event {
		case "progress":
			bar.note("%s: %d of %d", e.Step, e.Done, e.Total)
		case "error":
			a.reopened(ctx) // whatever it is like now: what comes next finds it
			return &problem.Error{Kind: e.Kind, Op: "rebuild", Title: shown(e.Title), Detail: shown(e.Detail), Hint: shown(e.Hint)}
		case "done":
			done = &e
		}
	}
	if done == nil {
		return &problem.Error{Kind: problem.Unavailable, Op: "rebuild", Title: "The rebuild was cut off", Hint: "Run it again: nothing is half done.", Err: lines.Err()}
	}
	a.tellRebuilt(done)
	if err := a.reopened(ctx); err != nil {
		return err
	}
	if done.Missing > 0 {
		return &codeError{problem.ExitPartly}
	}
	return nil
}

// beginRebuild asks for a rebuild until the box answers with its events: one that
// runs closes itself first, and is asked again.
func (a *app) beginRebuild(ctx context.Context, c *client, how rebuildHow) (*http.Response, error) {
	body, err := json.Marshal(how)
	if err != nil {
		return nil, err
	}
	closing := false
	for began := time.Now(); ; {
		req, err := c.request(ctx, "POST", "/local/rebuild", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Close = true
		res, err := c.do(req)
		switch {
		case err == nil && res.StatusCode == http.StatusOK:
			return res, nil
		case err == nil:
			res.Body.Close()
			closing = true
		case !closing || exitCode(err) != problem.ExitUnreachable || time.Since(began) > reopening:
			return nil, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// reopened waits until the box serves again.
func (a *app) reopened(ctx context.Context) error {
	for began := time.Now(); ; {
		_, err := a.localStatus(ctx)
		if err == nil || exitCode(err) != problem.ExitUnreachable || time.Since(began) > reopening {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

func (a *app) tellRebuilt(e *rebuildEvent) {
	for _, name := range e.Damaged {
		a.say("damaged in the journal, and got around: %s\n", shown(name))
	}
	if !e.Replaced {
		a.say("the catalogue is in good order: nothing was changed\n")
		return
	}
	a.say("the catalogue is back: %s, %s, %s, %s\n", plural(e.People, "person", "people"), plural(e.Files, "file", "files"),
		plural(e.Consents, "decision about consents", "decisions about consents"), plural(e.Acts, "audit entry", "audit entries"))
	if e.LastChange != nil {
		a.say("last change that is known: %s\n", e.LastChange.Local().Format(time.DateTime))
	}
	if e.Lost != "" {
		a.say("not known any more: %s\n", shown(e.Lost))
	}
	if e.Differences > 0 {
		a.say("%s went otherwise than when it was first made: the old catalogue was damaged for longer\n", plural(e.Differences, "change", "changes"))
	}
	if e.Missing > 0 {
		a.say("contents that the catalogue names and the disk lacks: %d; `yunboxctl check` lists them, and phones that still have them send them again\n", e.Missing)
	}
	if e.Found > 0 {
		a.say("contents on the disk that nobody's files name: %d (%s); they are kept, and whoever sends one again has it back under its name\n", e.Found, problem.Bytes(e.FoundBytes))
	}
	if e.Kept != "" {
		a.say("what was replaced is in %s; it holds people's data: remove it when it is no longer needed\n", shown(e.Kept))
	}
}

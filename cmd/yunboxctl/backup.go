package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/problem"
)

// secondCopy is how a second copy stands, in GET /local/backups and /local/status.
type secondCopy struct {
	Name       string     `json:"name"`
	Path       string     `json:"path"`
	Every      int64      `json:"every_seconds"`
	State      string     `json:"state"`
	Current    bool       `json:"current"`
	Present    *bool      `json:"present"`
	Time       *time.Time `json:"time"`
	Generation int64      `json:"generation"`
	Contents   int64      `json:"contents"`
	Bytes      int64      `json:"bytes"`
	Missing    int64      `json:"missing"`
	Damaged    int64      `json:"damaged"`
	Verified   *time.Time `json:"verified"`
	Reason     *string    `json:"reason"`
	Progress   *struct {
		Phase string `json:"phase"`
		Done  int64  `json:"done"`
		All   int64  `json:"all"`
		Bytes int64  `json:"bytes"`
	} `json:"progress"`
}

func (a *app) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "backup", Short: "Keep a second copy of the box on another disk, and restore it",
		Long: `backup has the box keep an encrypted copy of everything on another disk: a disk that
is plugged in, or a share that is mounted. It is brought up to date by itself, at most
once a day, when something has changed and the disk is there.

A recovery key is shown once, when a copy is added. With it, and with nothing else, the
copy can be restored or read without the box. Whoever finds the disk reads nothing; they
can see how many files there are and how large.`,
	}
	c.AddCommand(a.backupAddCommand(), a.backupListCommand("list"), a.backupListCommand("status"), a.backupRunCommand(),
		a.backupVerifyCommand(), a.backupRemoveCommand(), a.backupRestoreCommand())
	return c
}

func (a *app) backupAddCommand() *cobra.Command {
	var name, keyFile string
	var every time.Duration
	var sameDisk bool
	c := &cobra.Command{
		Use: "add TARGET", Short: "Keep a second copy in a folder of another disk", Args: cobra.ExactArgs(1),
		Long: `add makes a folder of the box's own below TARGET, which must exist, and keeps a copy in
it from now on. The recovery key is shown now and never again; the box does not know
it. Write it down, or print it, and keep it away from the box and from the disk: without
it the copy is worth nothing once the box is gone.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			key, err := target.NewRecovery()
			if err != nil {
				return err
			}
			public, err := key.Public()
			if err != nil {
				return err
			}
			// The file first: a copy whose key nobody has is worth nothing.
			if keyFile != "" {
				if err := writeKey(keyFile, key); err != nil {
					return err
				}
			}
			var out struct {
				ID      string `json:"id"`
				Name    string `json:"name"`
				Path    string `json:"path"`
				Every   int64  `json:"every_seconds"`
				Key     string `json:"recovery_key,omitempty"`
				KeyFile string `json:"recovery_key_file,omitempty"`
			}
			in := map[string]any{"path": path, "name": name, "every_seconds": int64(every / time.Second), "recipient": public.Recipient, "master": public.Master, "same_disk": sameDisk}
			if err := c.call(cmd.Context(), "POST", "/local/backups", in, &out); err != nil {
				if keyFile != "" {
					err = errors.Join(err, os.Remove(keyFile))
				}
				return err
			}
			if out.KeyFile = keyFile; keyFile == "" {
				out.Key = key.String()
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "the second copy %s is kept in %s\n\n", shown(out.Name), shown(out.Path))
				if keyFile != "" {
					fmt.Fprintf(w, "Its recovery key is in %s. Keep that file away from the box and from the disk.\n", shown(keyFile))
					return
				}
				fmt.Fprintf(w, "RECOVERY KEY, shown only now:\n\n    %s\n\n", key)
				drawQR(w, key.String())
				fmt.Fprintf(w, "\nWrite it down or print it, and keep it away from the box and from the disk.\nWithout it nobody can restore the copy once the box is gone, we neither.\n")
			})
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "what to call the copy [the last part of TARGET]")
	f.DurationVar(&every, "every", 24*time.Hour, "run at most this often")
	f.StringVar(&keyFile, "key-file", "", "write the recovery key to a new file instead of showing it")
	f.BoolVar(&sameDisk, "same-disk", false, "let the copy lie on the box's own disk, where it does not outlive it")
	return c
}

// writeKey writes a file as age reads it.
func writeKey(name string, key target.Recovery) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &problem.Error{Kind: problem.Conflict, Op: "backup.add", Title: "The file for the recovery key cannot be made", Err: err,
			Detail: "It must not exist yet.", Hint: "Name another file with --key-file. No copy was added."}
	}
	_, err = fmt.Fprintf(f, "# recovery key of a yunbox's second copy, made %s\n%s\n", time.Now().UTC().Format(time.RFC3339), key)
	return errors.Join(err, f.Sync(), f.Close())
}

func (a *app) backupListCommand(use string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: "List the second copies and how they stand", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.call(cmd.Context(), "GET", "/local/backups", nil, &raw); err != nil {
				return err
			}
			var out struct {
				Backups []secondCopy `json:"backups"`
			}
			if err := json.Unmarshal(raw, &out); err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				if len(out.Backups) == 0 {
					fmt.Fprintln(w, "the box has no second copy: add one with yunboxctl backup add TARGET")
				}
				for _, s := range out.Backups {
					s.tell(w)
				}
			})
		},
	}
}

func (s secondCopy) tell(w io.Writer) {
	fmt.Fprintln(w, shown(s.Name))
	rows := [][]string{{"  in", shown(s.Path)}, {"  state", s.summary(time.Now())}}
	if s.Present != nil && !*s.Present {
		rows = append(rows, []string{"  disk", "not there; it goes on when it is back"})
	}
	if s.Reason != nil {
		rows = append(rows, []string{"  because", shown(*s.Reason)})
	}
	if s.Time != nil {
		rows = append(rows, []string{"  holds", fmt.Sprintf("%s, %s, as of %s", plural(s.Contents, "content", "contents"), problem.Bytes(s.Bytes), s.Time.Local().Format("2006-01-02 15:04"))})
	}
	if s.Missing > 0 {
		rows = append(rows, []string{"  missing", fmt.Sprintf("%s could not be copied: yunboxctl check --deep says why", plural(s.Missing, "content", "contents"))})
	}
	if s.Damaged > 0 {
		rows = append(rows, []string{"  damaged", fmt.Sprintf("%s; the next run writes them again", plural(s.Damaged, "content", "contents"))})
	}
	read := "never"
	if s.Verified != nil {
		read = s.Verified.Local().Format("2006-01-02 15:04")
	}
	rows = append(rows, []string{"  read back", read}, []string{"  runs", "at most every " + (time.Duration(s.Every) * time.Second).String()})
	if s.Progress != nil {
		rows = append(rows, []string{"  now", progressText(s.Progress.Phase, s.Progress.Done, s.Progress.All, s.Progress.Bytes)})
	}
	columns(w, rows)
}

// summary is how a copy stands in a few words.
func (s secondCopy) summary(now time.Time) string {
	if s.Time == nil {
		if s.State == "failing" {
			return "NOT OK: no run has finished"
		}
		return "no run has finished yet"
	}
	text := age(now.Sub(*s.Time)) + ", "
	switch s.State {
	case "complete":
		text += "complete"
	case "incomplete":
		text += fmt.Sprintf("INCOMPLETE: %s missing", plural(s.Missing, "content", "contents"))
	case "damaged":
		text += fmt.Sprintf("DAMAGED: %s", plural(s.Damaged, "content", "contents"))
	default:
		text += "NOT OK: the last run failed"
	}
	if s.Current {
		text += ", nothing has changed since"
	}
	return text
}

// age says how old something is.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return plural(int64(d/time.Minute), "minute", "minutes") + " old"
	case d < 48*time.Hour:
		return plural(int64(d/time.Hour), "hour", "hours") + " old"
	}
	return plural(int64(d/(24*time.Hour)), "day", "days") + " old"
}

func progressText(phase string, done, all, bytes int64) string {
	switch phase {
	case "copy":
		return fmt.Sprintf("copying, %d of %d, %s", done, all, problem.Bytes(bytes))
	case "records":
		return "copying the records"
	case "tidy":
		return "removing what is not needed any more"
	}
	return fmt.Sprintf("reading back, %d of %d, %s", done, all, problem.Bytes(bytes))
}

// backupEvent is a line of POST /local/backups/run and …/verify.
type backupEvent struct {
	Event      string `json:"event"`
	Phase      string `json:"phase"`
	Done       int64  `json:"done"`
	All        int64  `json:"all"`
	Bytes      int64  `json:"bytes"`
	File       string `json:"file"`
	Reason     string `json:"reason"`
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Fresh      bool   `json:"fresh"`
	Full       bool   `json:"full"`
	Complete   bool   `json:"complete"`
	Contents   int64  `json:"contents"`
	Copied     int64  `json:"copied"`
	Written    int64  `json:"written"`
	Removed    int64  `json:"removed"`
	Missing    int64  `json:"missing"`
	Files      int64  `json:"files"`
	Damaged    int64  `json:"damaged"`

	Error  string       `json:"error"`
	Kind   problem.Kind `json:"kind"`
	Detail string       `json:"detail"`
	Hint   string       `json:"hint"`
}

// follow sends a question whose answer has many lines, shows how far it is, and
// returns the last line.
func (a *app) follow(ctx context.Context, path string, in any) (last backupEvent, err error) {
	c, err := a.local()
	if err != nil {
		return last, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return last, err
	}
	req, err := c.request(ctx, "POST", path, strings.NewReader(string(body)))
	if err != nil {
		return last, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.do(req)
	if err != nil {
		return last, err
	}
	defer res.Body.Close()
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var e backupEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return last, &problem.Error{Kind: problem.Internal, Op: "backup", Title: "The box's answer cannot be read", Hint: "Use a yunboxctl of its version.", Err: err}
		}
		if a.json {
			fmt.Fprintf(a.stdout, "%s\n", lines.Bytes())
		}
		bar.clear()
		switch e.Event {
		case "progress":
			bar.note("%s", progressText(e.Phase, e.Done, e.All, e.Bytes))
		case "damage":
			a.say("damaged: %s: %s\n", shown(e.File), shown(e.Reason))
		case "done":
			if e.Error != "" {
				return e, &problem.Error{Kind: e.Kind, Op: "backup", Title: shown(e.Error), Detail: shown(e.Detail), Hint: shown(e.Hint)}
			}
			return e, nil
		}
	}
	return last, &problem.Error{Kind: problem.Unavailable, Op: "backup", Title: "The answer was cut off", Hint: "Run it again: it goes on where it was."}
}

func (a *app) backupRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run [NAME]", Short: "Bring a second copy up to date now", Args: cobra.MaximumNArgs(1),
		Long: `run copies what is new and keeps the state before it. It may be interrupted at any
moment: the former state stays whole, and what was copied is not copied again. Where
nothing has changed it writes nothing.

With --json each line is an event:
  {"event":"progress","phase":"copy|records|tidy","done":…,"all":…,"bytes":…}
  {"event":"done","generation":…,"fresh":…,"contents":…,"copied":…,"missing":…,"complete":…}

It exits with 3 if some contents could not be copied.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.follow(cmd.Context(), "/local/backups/run", map[string]string{"name": strings.Join(args, "")})
			if err != nil {
				return err
			}
			switch {
			case !e.Fresh:
				a.say("%s is up to date: nothing has changed\n", shown(e.Name))
			default:
				a.say("%s is up to date: %s, %s new (%s)\n", shown(e.Name), plural(e.Contents, "content", "contents"), fmt.Sprint(e.Copied), problem.Bytes(e.Written))
			}
			if e.Missing > 0 {
				a.say("NOT complete: %s could not be copied; yunboxctl check --deep says why\n", plural(e.Missing, "content", "contents"))
				return &codeError{problem.ExitPartly}
			}
			return nil
		},
	}
}

func (a *app) backupVerifyCommand() *cobra.Command {
	var full bool
	c := &cobra.Command{
		Use: "verify [NAME]", Short: "Check that a second copy is whole", Args: cobra.MaximumNArgs(1),
		Long: `verify holds the copy against its checksums; it needs no recovery key and writes nothing
to the copy. Without --full it reads the records and looks whether every content is
there with its size; with --full it reads everything. What is damaged is written again
by the next run.

It exits with 1 if something is damaged.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.follow(cmd.Context(), "/local/backups/verify", map[string]any{"name": strings.Join(args, ""), "full": full})
			if err != nil {
				return err
			}
			if e.Damaged > 0 {
				a.say("%s of %d are damaged: yunboxctl backup run writes them again\n", plural(e.Damaged, "file", "files"), e.Files)
				return &codeError{problem.ExitFailed}
			}
			how := "every content is there; --full also reads them"
			if e.Full {
				how = "every byte was read back"
			}
			a.say("%s is whole: %s, %s\n", shown(e.Name), plural(e.Files, "file", "files"), how)
			if e.Missing > 0 {
				a.say("NOT complete: %s could not be copied\n", plural(e.Missing, "content", "contents"))
				return &codeError{problem.ExitPartly}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&full, "full", false, "read and hash everything")
	return c
}

func (a *app) backupRemoveCommand() *cobra.Command {
	var erase bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Keep a second copy no longer", Args: cobra.ExactArgs(1),
		Long: `remove has the box forget the copy. Its files stay on the disk, where only the recovery
key opens them, and what people delete from now on stays in them: with --erase they
are removed, too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Name   string `json:"name"`
				Path   string `json:"path"`
				Erased bool   `json:"erased"`
			}
			if err := c.call(cmd.Context(), "DELETE", "/local/backups", map[string]any{"name": args[0], "erase": erase}, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if out.Erased {
					fmt.Fprintf(w, "%s is no longer kept, and was erased\n", shown(out.Name))
					return
				}
				fmt.Fprintf(w, "%s is no longer kept; its files stay in %s\n", shown(out.Name), shown(out.Path))
			})
		},
	}
	c.Flags().BoolVar(&erase, "erase", false, "also remove the copy from its disk")
	return c
}

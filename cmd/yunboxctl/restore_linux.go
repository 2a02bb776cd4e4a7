package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/backup/target"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs"
)

type restoreWish struct {
	from, keyFile, box string
	generation         int64
}

func (a *app) backupRestoreCommand() *cobra.Command {
	var w restoreWish
	c := &cobra.Command{
		Use: "restore --from TARGET --key-file FILE|- --state NEWDIR", Short: "Make a box again from its second copy", Args: cobra.NoArgs,
		Long: `restore makes the empty directory NEWDIR the state directory of the box: all people,
consents, files and keys, as they were when the copy was made. It needs no running box.
Each content is held against its SHA-256; what is damaged in the copy is left out and
named. It may be interrupted: the same command goes on where it was.

Afterwards give NEWDIR to the user that the box runs as (chown -R) and start yunboxd
on it. Everybody signs in again with their password; app
tokens of phones and programs go on working. What was deleted, revoked or withdrawn
after the copy was made is not known to the restored box: do it again. Never run the
old box and the restored one at the same time.

With --json each line is an event:
  {"event":"progress","done":…,"all":…,"bytes":…}
  {"event":"damage","sha256":…,"reason":…}
  {"event":"done","contents":…,"bytes":…,"damaged":…,"missing":…,"time":…}

It exits with 3 if some contents could not be restored.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.state == "" {
				return usagef("say with --state where the box is to be restored to")
			}
			return a.restore(cmd.Context(), w)
		},
	}
	f := c.Flags()
	f.StringVar(&w.from, "from", "", "the disk with the copy, or the box's folder on it")
	f.StringVar(&w.keyFile, "key-file", "", "file with the recovery key; - reads it from standard input")
	f.StringVar(&w.box, "of", "", "id of the box, where several have copies on that disk under one key")
	f.Int64Var(&w.generation, "generation", 0, "an older state than the newest: its number")
	for _, name := range []string{"from", "key-file"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return c
}

func (a *app) recoveryKey(file string) (target.Recovery, error) {
	in := a.stdin
	if file != "-" && file != "stdin" {
		f, err := os.Open(file)
		if err != nil {
			return target.Recovery{}, &problem.Error{Kind: problem.NotFound, Op: "backup.restore", Title: "The file with the recovery key cannot be read", Err: err, Hint: "Name it with --key-file, or - to pass the key on standard input."}
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 16<<10))
	if err != nil {
		return target.Recovery{}, err
	}
	return target.ParseRecovery(string(text))
}

// restored is the last line of a restore.
type restored struct {
	Event      string    `json:"event"` // "done"
	State      string    `json:"state"`
	Box        string    `json:"box"`
	Generation int64     `json:"generation"`
	Time       time.Time `json:"time"`
	Contents   int64     `json:"contents"`
	Bytes      int64     `json:"bytes"`
	Already    int64     `json:"already"`
	Damaged    int64     `json:"damaged"`
	Missing    int64     `json:"missing"`
	Config     string    `json:"config,omitempty"` // the settings that were restored
}

func (a *app) restore(ctx context.Context, w restoreWish) (err error) {
	key, err := a.recoveryKey(w.keyFile)
	if err != nil {
		return err
	}
	var open []*vfs.Dir
	defer func() {
		for _, d := range open {
			err = errors.Join(err, d.Close())
		}
	}()
	dir := func(name string) (*vfs.Dir, error) {
		d, err := vfs.OpenDir(name)
		if err == nil {
			open = append(open, d)
		}
		return d, err
	}
	top, err := dir(w.from)
	if err != nil {
		return &problem.Error{Kind: problem.NotFound, Op: "backup.restore", Title: "The disk with the copy is not there", Err: err, Hint: "Mount it, and name its folder with --from."}
	}
	t, err := target.Find(top, func(name string) (vfs.FS, error) { return dir(filepath.Join(w.from, name)) }, key, w.box)
	if err != nil {
		return err
	}
	if a.state, err = filepath.Abs(a.state); err != nil {
		return err
	}
	if err := vfs.CreateDir(a.state); err != nil {
		return err
	}
	state, err := dir(a.state)
	if err != nil {
		return err
	}
	bar := newProgress(a.stderr, !a.json)
	defer bar.clear()
	last := time.Time{}
	r, err := t.Restore(ctx, state, target.RestoreOptions{
		Generation: w.generation,
		Lost: func(ref storage.Ref, reason string) {
			bar.clear()
			if a.json {
				a.line(map[string]any{"event": "damage", "sha256": ref, "reason": reason})
			}
			a.say("not restored: %s: %s\n", ref, reason)
		},
		Step: func(done, all, bytes int64) {
			if time.Since(last) < 500*time.Millisecond {
				return
			}
			last = time.Now()
			if a.json {
				a.line(map[string]any{"event": "progress", "done": done, "all": all, "bytes": bytes})
			}
			bar.note("restored %d of %d, %s", done, all, problem.Bytes(bytes))
		},
	})
	if err != nil {
		return err
	}
	bar.clear()
	return a.restoredNow(restored{
		Event: "done", State: a.state, Box: r.Box, Generation: r.Generation.Number, Time: r.Generation.Time,
		Contents: r.Contents, Bytes: r.Bytes, Already: r.Already, Damaged: r.Damaged, Missing: r.Missing,
	})
}

func (a *app) line(v any) {
	if err := a.encode(a.stdout, v); err != nil {
		a.warn("%v", err)
	}
}

func (a *app) restoredNow(r restored) error {
	config := filepath.Join(a.state, "config.toml")
	start := "yunboxd --state " + a.state
	if _, err := os.Stat(config); err == nil {
		r.Config = config
		start += " --config " + config
	}
	if err := a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "restored: %s, %s, as of %s (%s)\n", plural(r.Contents, "content", "contents"), problem.Bytes(r.Bytes), r.Time.Local().Format("2006-01-02 15:04"), age(time.Since(r.Time)))
		if r.Damaged+r.Missing > 0 {
			fmt.Fprintf(w, "NOT all: %s could not be restored; the box asks the phones for them\n", plural(r.Damaged+r.Missing, "content", "contents"))
		}
		fmt.Fprintf(w, "What was deleted, revoked or withdrawn after that time is not known to this box: do it again.\nStart it: %s\n", shown(start))
	}); err != nil {
		return err
	}
	if r.Damaged+r.Missing > 0 {
		return &codeError{problem.ExitPartly}
	}
	return nil
}

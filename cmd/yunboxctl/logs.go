package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// Where a box that no service manager runs may write its log to, by the people who set
// it up.
const logFile = "/var/log/yunboxd.log"

const maxLog = 4 << 20 // bytes of a file that are looked through for its last lines

func (a *app) logsCommand() *cobra.Command {
	var n int
	var file, unit string
	var follow bool
	c := &cobra.Command{
		Use: "logs", Short: "Show the newest lines of the box's log", Args: cobra.NoArgs,
		Long: `logs shows what yunboxd wrote: from the system's journal (journalctl), or else from
` + logFile + `, or the file of --file. The log has no names of people or
files and no addresses. With --json each line is {"line":…}.

It exits with 1 where there is no log that it knows of.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > 100_000 {
				return usagef("--lines is between 1 and 100000")
			}
			if follow {
				return a.followLog(cmd.Context(), unit, n)
			}
			lines, err := readLog(cmd.Context(), file, unit, n)
			if err != nil {
				return err
			}
			for _, line := range lines {
				if a.json {
					if err := a.encode(a.stdout, map[string]string{"line": line}); err != nil {
						return err
					}
				} else {
					fmt.Fprintln(a.stdout, shown(line))
				}
			}
			return nil
		},
	}
	c.Flags().IntVarP(&n, "lines", "n", 100, "how many")
	c.Flags().StringVar(&file, "file", "", "read this `FILE`")
	c.Flags().StringVar(&unit, "unit", "yunboxd", "`UNIT` of the service in the journal")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the journal grows")
	c.MarkFlagsMutuallyExclusive("file", "follow")
	return c
}

// readLog returns the newest n lines of the log, from wherever it is.
func readLog(ctx context.Context, file, unit string, n int) ([]string, error) {
	if file != "" {
		lines, err := lastLines(file, n)
		if err != nil {
			return nil, &problem.Error{Kind: problem.NotFound, Op: "logs", Title: "The log cannot be read", Detail: err.Error() + ".", Hint: "Name the right file with --file, or run it with sudo."}
		}
		return lines, nil
	}
	if out, err := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=short-iso", "--unit="+unit, "--lines="+strconv.Itoa(n)).Output(); err == nil && len(bytes.TrimSpace(out)) > 0 {
		return strings.Split(strings.TrimRight(string(out), "\n"), "\n"), nil
	}
	if lines, err := lastLines(logFile, n); err == nil {
		return lines, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, &problem.Error{Kind: problem.Forbidden, Op: "logs", Title: "The log cannot be read", Hint: "Run it with sudo.", Err: err}
	}
	return nil, &problem.Error{Kind: problem.NotFound, Op: "logs", Title: "There is no log here",
		Detail: "The journal has nothing of the unit " + unit + ", and there is no " + logFile + ".",
		Hint:   "yunboxd writes to its standard error: look where whoever started it sends that, or name the file with --file. Without root the journal may not be shown: try sudo."}
}

// followLog shows the journal as it grows.
func (a *app) followLog(ctx context.Context, unit string, n int) error {
	journal := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--follow", "--output=short-iso", "--unit="+unit, "--lines="+strconv.Itoa(n))
	out, err := journal.StdoutPipe()
	if err == nil {
		err = journal.Start()
	}
	if err != nil {
		return &problem.Error{Kind: problem.NotFound, Op: "logs", Title: "There is no journal on this computer", Hint: "Without --follow a file is read.", Err: err}
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if a.json {
			err = a.encode(a.stdout, map[string]string{"line": lines.Text()})
		} else {
			_, err = fmt.Fprintln(a.stdout, shown(lines.Text()))
		}
		if err != nil {
			break
		}
	}
	if ended := journal.Wait(); err == nil && ctx.Err() == nil && ended != nil {
		return fmt.Errorf("journalctl: %w", ended)
	}
	return err
}

// lastLines returns at most n lines from the end of a file.
func lastLines(name string, n int) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	skip := max(info.Size()-maxLog, 0)
	text, err := io.ReadAll(io.LimitReader(io.NewSectionReader(f, skip, maxLog), maxLog))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if skip > 0 {
		lines = lines[1:] // it began somewhere within one
	}
	return lines[max(len(lines)-n, 0):], nil
}

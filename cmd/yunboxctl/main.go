// Command yunboxctl maintains a box and backs folders up to one.
//
// With --state DIR it speaks to the daemon on this machine over its unix socket:
// for whoever runs the box. Root there administers the box; it cannot consent for
// a person or read a person's files. With --box URL it is a person's client:
// `yunboxctl push DIR` is the reference for what a phone does.
//
// Rules of the text interface: results go to stdout, progress and errors to
// stderr; with --json every result is JSON and every error one JSON object. Errors
// say what to do next. Nothing is asked when there is no terminal to ask on, and no
// password or token is taken from the command line, where other users could read it;
// the label's code and pairing secret, and one-time codes, are, as they are spent by the same command.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// version is the client's own; set by the linker for releases.
var version = "0.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// app is what all commands share: the streams and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	state       string
	json        bool
	box         string
	fingerprint string
	profile     string

	started bool // a command began: errors before that are errors of usage
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := misnamed(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return problem.ExitOK
	}
	if !a.started {
		err = &usageError{err.Error()}
		a.json = a.json || wantsJSON(args)
	}
	a.complain(err)
	return exitCode(err)
}

const exitCodes = `Exit codes:
  0  all is well; for push: every file is safe on the box
  1  failed; for doctor: something needs looking after now
  2  the command line or the request makes no sense
  3  some files could not be backed up, the others are safe
  4  a consent is missing; the message names the command that grants it
  5  the box cannot be reached
  6  not signed in
  7  the box is full, or your share of it
  8  somebody else is at it: another push of the same folder, another daemon`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "yunboxctl",
		Short:         "Maintain a box, and back folders up to one",
		Long:          "yunboxctl maintains the box on this machine (--state DIR) and is a person's client of a\nbox (--box URL).\n\n" + exitCodes,
		SilenceErrors: true, SilenceUsage: true,
		Version:           version,
		PersistentPreRun:  func(*cobra.Command, []string) { a.started = true },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.state, "state", "", "state directory of the box on this machine: speak to it over its socket [/var/lib/yunbox, where that is]")
	f.BoolVar(&a.json, "json", false, "write results and errors as JSON")
	f.StringVar(&a.box, "box", os.Getenv("YUNBOX_BOX"), "address of the box, https://host:port [$YUNBOX_BOX, else the profile's]")
	f.StringVar(&a.fingerprint, "fingerprint", os.Getenv("YUNBOX_FINGERPRINT"), "fingerprint of the box's key, from its label [$YUNBOX_FINGERPRINT]")
	f.StringVar(&a.profile, "profile", "", "file that login saves to [yunbox/profile.json in your configuration directory]")
	root.AddCommand(
		a.waitCommand(), a.discoverCommand(), a.statusCommand(), a.labelCommand(), a.resetCommand(), a.userCommand(), a.guardianCommand(), a.checkCommand(), a.scrubCommand(), a.repairCommand(), a.rebuildCommand(), a.backupCommand(), a.auditCommand(), a.inboxCommand(), a.dedupCommand(), a.treeCommand(),
		a.doctorCommand(), a.jobsCommand(), a.topCommand(), a.metricsCommand(), a.logsCommand(), a.devicesCommand(), a.configCommand(), a.supportCommand(),
		a.bindCommand(), a.inviteCommand(), a.joinCommand(), a.loginCommand(), a.logoutCommand(), a.whoamiCommand(), a.factorCommand(), a.sessionCommand(), a.meCommand(), a.securityCommand(), a.keysCommand(),
		a.policyCommand(), a.consentCommand(), a.cameraCommand(),
		a.pushCommand(), a.verifyCommand(), a.getCommand(), a.lsCommand(), a.rmCommand(),
		a.dataCommand(), a.eraseCommand(), a.cancelCommand(), a.ownerCommand(), a.receiptCommand(), a.requestCommand(), a.disclosureCommand(), a.incidentCommand(), a.secretCommand(),
		a.updateCommand(), a.releaseCommand(), a.statisticsCommand(), a.exportCommand(), a.importCommand(), a.versionCommand(), a.licensesCommand(), a.manCommand(),
	)
	sayHow(root)
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.print(map[string]string{"version": version}, func(w io.Writer) { fmt.Fprintln(w, "yunboxctl", version) })
		},
	}
}

// usageError is a command line that makes no sense.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// codeError ends the program with a code of its own; what there is to say was said.
type codeError struct{ code int }

func (e *codeError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func exitCode(err error) int {
	var code *codeError
	var usage *usageError
	switch {
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &usage):
		return problem.ExitUsage
	case !isProblem(err):
		return problem.ExitFailed
	}
	return problem.ExitCode(err)
}

func isProblem(err error) bool {
	var p *problem.Error
	return errors.As(err, &p)
}

// complain writes an error for a person, or as one JSON object.
func (a *app) complain(err error) {
	var code *codeError
	if errors.As(err, &code) {
		return
	}
	if !a.json {
		text := problem.Sentence(err)
		var usage *usageError
		if errors.As(err, &usage) {
			text += "\nyunboxctl --help lists the commands, yunboxctl COMMAND --help explains one"
		}
		fmt.Fprintln(a.stderr, "yunboxctl:", text)
		return
	}
	out := map[string]any{"exit": exitCode(err), "title": err.Error()}
	var p *problem.Error
	if errors.As(err, &p) {
		p = problem.As(p)
		out["kind"], out["title"], out["detail"], out["hint"] = p.Kind, p.Title, p.Detail, p.Hint
		for k, v := range p.Members {
			if _, ok := out[k]; !ok {
				out[k] = v
			}
		}
	}
	a.encode(a.stderr, map[string]any{"error": out})
}

// print writes a result: as JSON, or by text for people.
func (a *app) print(result any, text func(io.Writer)) error {
	if a.json {
		return a.encode(a.stdout, result)
	}
	text(a.stdout)
	return nil
}

func (a *app) encode(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// secretFromStdin reads one line, for --password-stdin.
func (a *app) secretFromStdin() (string, error) {
	b, err := io.ReadAll(io.LimitReader(a.stdin, 4096))
	if err != nil {
		return "", err
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", usagef("the password must be one line on standard input")
	}
	return s, nil
}

// password comes from standard input, or is asked for on a terminal without echo.
func (a *app) password(fromStdin bool, prompt string) (string, error) {
	if fromStdin {
		return a.secretFromStdin()
	}
	f, ok := a.terminal()
	if !ok {
		return "", usagef("nobody can be asked for a password here: pass it on standard input with --password-stdin")
	}
	return a.readPassword(f, prompt)
}

// ask asks a yes-or-no question on a terminal; without one the answer is no, and
// asked is false.
func (a *app) ask(question string) (yes, asked bool) {
	f, ok := a.terminal()
	if !ok {
		return false, false
	}
	a.prompt(f, question+" [yes/no] ")
	return strings.EqualFold(strings.TrimSpace(readLine(f)), "yes"), true
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func clock(d time.Duration) string { return d.Round(time.Second).String() }

// warn tells something that does not end the command.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "yunboxctl: "+format+"\n", args...)
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update/bundle"
	"yunbox.local/daemon/update/install"
	"yunbox.local/storage/vfs"
)

// updaterCommands are what the service manager runs as root: see packaging/systemd.
func (a *app) updaterCommands() []*cobra.Command {
	command := func(use, short string, run func(*install.Updater, context.Context) error) *cobra.Command {
		var base string
		var patience, stay time.Duration
		c := &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Hidden: true,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if a.state == "" {
					return usagef("--state DIR is needed")
				}
				return a.updater(base, patience, stay, func(u *install.Updater) error { return run(u, cmd.Context()) })
			},
		}
		c.Flags().StringVar(&base, "software", "/usr/lib/yunbox", "`DIR` in which the releases lie")
		c.Flags().DurationVar(&patience, "patience", install.DefaultPatience, "how long a release may take to be healthy")
		c.Flags().DurationVar(&stay, "stay", install.DefaultStay, "how long it must then go on")
		return c
	}
	return []*cobra.Command{
		command("apply", "Do what the daemon asked the updater for, or go on with it", (*install.Updater).Run),
		command("recover", "At boot: finish going back before the daemon starts", (*install.Updater).Recover),
	}
}

func (a *app) updater(base string, patience, stay time.Duration, run func(*install.Updater) error) error {
	software, err := vfs.OpenDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return &problem.Error{Kind: problem.NotFound, Op: "update.apply", Title: "No release is installed in " + base, Err: err,
			Hint: "This is run by yunbox-update.service, where the box was installed from a package."}
	} else if err != nil {
		return err
	}
	defer software.Close()
	state, err := vfs.OpenDir(a.state)
	if err != nil {
		return err
	}
	defer state.Close()
	roots, err := bundle.Roots()
	if err != nil {
		return err
	}
	return run(install.New(install.Options{
		Base: software, State: state, Services: systemd{}, Trust: bundle.Trust{Roots: roots}, Patience: patience, Stay: stay,
		Log: slog.New(slog.NewTextHandler(a.stderr, nil)),
		Give: func(name string) error {
			info, err := state.Stat(".")
			if err != nil {
				return err
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return errors.New("whose the state directory is cannot be read")
			}
			return state.Lchown(name, int(st.Uid), int(st.Gid))
		},
	}))
}

// systemd starts and stops the daemon. Its sockets stop with it only where nothing may
// start it, since a caller would.
type systemd struct{}

const daemonUnit = "yunboxd.service"

func sockets() []string {
	return []string{"yunboxd.socket", "yunboxd-http.socket", "yunboxd-ftp.socket"}
}

// patient is how long systemd may take for one request; the daemon ends within 30 s.
const patient = 90 * time.Second

func systemctl(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return string(out), err
}

func (systemd) Stop(ctx context.Context) error {
	_, err := systemctl(ctx, append([]string{"stop"}, append(sockets(), daemonUnit)...)...)
	return err
}

func (s systemd) Start(ctx context.Context) error {
	// What never failed, or is not loaded, is no error.
	_, _ = systemctl(ctx, append([]string{"reset-failed"}, append(sockets(), daemonUnit)...)...)
	for _, socket := range sockets() {
		// A socket cannot be started beside a daemon that runs; then it need not be.
		if _, err := systemctl(ctx, "--quiet", "is-enabled", socket); err == nil {
			_, _ = systemctl(ctx, "start", socket)
		}
	}
	_, err := systemctl(ctx, "--no-block", "start", daemonUnit)
	return err
}

func (systemd) Restart(ctx context.Context) error {
	_, _ = systemctl(ctx, "reset-failed", daemonUnit)
	_, err := systemctl(ctx, "--no-block", "restart", daemonUnit)
	return err
}

func (systemd) Alive(ctx context.Context) (process string, failed bool, err error) {
	out, err := systemctl(ctx, "show", "-p", "ActiveState", "-p", "MainPID", daemonUnit)
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case name == "ActiveState":
			failed = value == "failed"
		case name == "MainPID" && value != "0":
			process = value
		}
	}
	return process, failed, nil
}

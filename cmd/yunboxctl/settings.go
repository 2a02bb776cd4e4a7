package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/problem"
)

func (a *app) configCommand() *cobra.Command {
	top := &cobra.Command{Use: "config", Short: "Show and check the settings of the box"}
	var file string
	show := &cobra.Command{
		Use: "show", Short: "Show what each setting came to, and from where", Args: cobra.NoArgs,
		Long: `show asks the running box for its settings, with the origin of each: flag, env (a
YUNBOX_ variable), file or default. Where no box answers, it reads the variables of this
shell and the file of --config, and says so. Secrets are masked.

With --json it is {"running","file","settings":[{"name","value","origin"},…]}.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out configAnswer
			c, err := a.local()
			if err != nil && file == "" {
				return err
			}
			if err == nil && file == "" {
				err = c.call(cmd.Context(), "GET", "/local/config", nil, &out)
				if out.Running = err == nil; err != nil && problem.KindOf(err) != problem.Unavailable {
					return err
				}
			}
			if !out.Running {
				if out, err = readSettings(file); err != nil {
					return err
				}
			}
			return a.print(out, func(w io.Writer) {
				if !out.Running {
					fmt.Fprintln(w, "no running box was asked: these are the settings of this shell and the file")
				}
				rows := make([][]string, 0, len(out.Settings))
				for _, s := range out.Settings {
					rows = append(rows, []string{s.Name, s.Origin, shown(s.Value)})
				}
				columns(w, rows)
			})
		},
	}
	show.Flags().StringVar(&file, "config", "", "`FILE` to read instead of asking the running box")
	check := &cobra.Command{
		Use: "check [FILE]", Short: "Check a file with settings, without starting anything", Args: cobra.MaximumNArgs(1),
		Long: `check reads a file as yunboxd --config does. It exits with 2 and says what is wrong if
yunboxd would not start with it. YUNBOX_ variables of this shell count, as they do for
yunboxd. Without FILE it is the one that the running box was started with, or else
` + settingsFile + `.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.settingsOf(cmd.Context(), args)
			if err != nil {
				return err
			}
			out, err := readSettings(file)
			if err != nil {
				return err
			}
			n := int64(0)
			for _, s := range out.Settings {
				if s.Origin == config.FromFile {
					n++
				}
			}
			return a.print(map[string]any{"ok": true, "file": out.File, "settings": n}, func(w io.Writer) {
				fmt.Fprintf(w, "%s makes sense: %s\n", shown(file), plural(n, "setting", "settings"))
			})
		},
	}
	top.AddCommand(show, check)
	return top
}

// settingsFile is the package's.
const settingsFile = "/etc/yunbox/yunbox.toml"

// settingsOf is the file that args name, or the one of the box here.
func (a *app) settingsOf(ctx context.Context, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	if c, err := a.local(); err == nil {
		var out configAnswer
		if err := c.call(ctx, "GET", "/local/config", nil, &out); err == nil && out.File != "" {
			return out.File, nil
		} else if err == nil {
			return "", usagef("the box on this machine was started without a file: name one")
		}
	}
	if _, err := os.Stat(settingsFile); err != nil {
		return "", usagef("no box answers on this machine, and there is no %s: name the file", settingsFile)
	}
	return settingsFile, nil
}

// readSettings reads settings as a daemon would that is started now from here.
func readSettings(file string) (out configAnswer, err error) {
	flags := config.Flags()
	if file != "" {
		if err := flags.Set("config", file); err != nil {
			return out, usagef("--config: %v", err)
		}
	}
	conf, err := config.Load(flags)
	var wrong *config.Error
	if errors.As(err, &wrong) {
		return out, usagef("%s", wrong.Error())
	}
	if err != nil {
		return out, err
	}
	out.File = conf.File
	for _, s := range conf.Settings {
		if s.Name == "config" && file != "" {
			s.Value = file
		}
		out.Settings = append(out.Settings, struct {
			Name   string `json:"name"`
			Value  string `json:"value"`
			Origin string `json:"origin"`
		}{s.Name, s.Value, s.Origin})
	}
	return out, nil
}

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// boxJob is an entry of GET /local/jobs.
type boxJob struct {
	Kind  string `json:"kind"`
	State string `json:"state"`
	Count int64  `json:"count"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Bytes int64  `json:"bytes"`
	Stop  string `json:"stop"`
}

func (j boxJob) progress() string {
	text := ""
	if j.Total > 0 {
		text = fmt.Sprintf("%d of %d (%d %%)", j.Done, j.Total, j.Done*100/j.Total)
	}
	if j.Bytes > 0 {
		text += " " + problem.Bytes(j.Bytes)
	}
	if j.Count > 1 {
		text += fmt.Sprintf(" %d of them", j.Count)
	}
	return text
}

func (a *app) jobsCommand() *cobra.Command {
	jobs := &cobra.Command{
		Use: "jobs", Short: "List what the box does in the background", Args: cobra.NoArgs,
		Long: `jobs lists what runs or waits in the background: scrub (contents are read back), view
(the readable view is made anew), second-copy, duplicates (a folder is looked through),
export, erasure, and cancellation (accounts in their days of cooling off). It says how far
each is, and how it can be ended. Whose they are is not told.

With --json it is {"jobs":[{"kind","state","count","done","total","bytes","stop"},…]}.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Jobs []boxJob `json:"jobs"`
			}
			if err := c.call(cmd.Context(), "GET", "/local/jobs", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if len(out.Jobs) == 0 {
					fmt.Fprintln(w, "nothing runs in the background")
					return
				}
				rows := make([][]string, 0, len(out.Jobs))
				for _, j := range out.Jobs {
					stop := ""
					if j.Stop != "" {
						stop = "ends by: " + j.Stop
					}
					rows = append(rows, []string{j.Kind, j.State, j.progress(), stop})
				}
				columns(w, rows)
			})
		},
	}
	jobs.AddCommand(&cobra.Command{
		Use: "stop scrub|second-copy", Short: "End work in the background", Args: cobra.ExactArgs(1), ValidArgs: []string{"scrub", "second-copy"},
		Long: "stop ends a scrub, or what the box does by itself to a second copy. What was done counts, and the\nrest comes when it is due again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Stopped bool `json:"stopped"`
			}
			if err := c.call(cmd.Context(), "POST", "/local/jobs/stop", map[string]string{"kind": args[0]}, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				if out.Stopped {
					fmt.Fprintln(w, "stopped; what was done counts")
				} else {
					fmt.Fprintln(w, "nothing of that kind is running")
				}
			})
		},
	})
	return jobs
}

func (a *app) devicesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "devices", Short: "List everybody's devices: whose, what kind, when they were last seen", Args: cobra.NoArgs,
		Long: `devices lists the devices that people signed in with. What they call them is their own
matter; each sees that on the page, and ends a device there.

With --json it is {"devices":[{"id","user","kind","created","last_seen"},…]}.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			var out struct {
				Devices []struct {
					ID       string    `json:"id"`
					User     string    `json:"user"`
					Kind     string    `json:"kind"`
					Created  time.Time `json:"created"`
					LastSeen time.Time `json:"last_seen"`
				} `json:"devices"`
			}
			if err := c.call(cmd.Context(), "GET", "/local/devices", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.Devices))
				for _, d := range out.Devices {
					rows = append(rows, []string{shown(d.User), d.Kind, "since " + d.Created.Local().Format(time.DateOnly), "last seen " + d.LastSeen.Local().Format("2006-01-02 15:04"), d.ID})
				}
				columns(w, rows)
			})
		},
	}
}

func (a *app) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "metrics", Short: "Print the box's figures in the text format of Prometheus", Args: cobra.NoArgs,
		Long: `metrics prints what GET /metrics answers, by the unix socket: docs/metrics.md lists it.
With --json it is one object with a number for each figure, named as in the text.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := a.metrics(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(parseMetrics(text), func(w io.Writer) { w.Write(text) })
		},
	}
}

// configAnswer is GET /local/config.
type configAnswer struct {
	File     string `json:"file"`
	Settings []struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Origin string `json:"origin"`
	} `json:"settings"`
	// Running is false if these are the settings that a box started now from here would have.
	Running bool `json:"running"`
}

func (c configAnswer) value(name string) string {
	for _, s := range c.Settings {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

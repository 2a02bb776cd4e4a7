package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// boxJob is an entry of GET /local/jobs.
type boxJob struct {
	Kind  string     `json:"kind"`
	State string     `json:"state"`
	Phase string     `json:"phase"`
	Count int64      `json:"count"`
	Done  int64      `json:"done"`
	Total int64      `json:"total"`
	Bytes int64      `json:"bytes"`
	Size  int64      `json:"size"`
	Since *time.Time `json:"since"`
	Until *time.Time `json:"until"`
	Ended *time.Time `json:"ended"`
	Left  int64      `json:"seconds_left"`
	Stop  string     `json:"stop"`
	Says  string     `json:"says"`
	Do    string     `json:"do"`
}

// over reports whether the job has ended.
func (j boxJob) over() bool { return j.State != "running" && j.State != "waiting" }

func (j boxJob) progress() string {
	var parts []string
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if j.Count > 1 {
		say("%d of them", j.Count)
	}
	switch {
	case j.over() && j.Total > 0:
		say("%d", j.Total)
	case j.Total > 0:
		say("%d of %d (%d %%)", j.Done, j.Total, j.Done*100/j.Total)
	}
	switch {
	case j.over() && j.Size > 0:
		say("%s", problem.Bytes(j.Size))
	case j.Size > 0:
		say("%s of %s", problem.Bytes(j.Bytes), problem.Bytes(j.Size))
	case j.Bytes > 0:
		say("%s", problem.Bytes(j.Bytes))
	}
	if j.Phase != "" {
		say("%s", j.Phase)
	}
	if j.Left > 0 {
		say("about %s left", clock(time.Duration(j.Left)*time.Second))
	}
	return strings.Join(parts, ", ")
}

// when is the time that matters most of a job.
func (j boxJob) when() string {
	at := func(word string, t *time.Time) string { return word + " " + t.Local().Format("01-02 15:04") }
	switch {
	case j.Ended != nil:
		return at("ended", j.Ended)
	case j.Until != nil:
		return at("until", j.Until)
	case j.Since != nil:
		return at("since", j.Since)
	}
	return ""
}

// drawJobs lists jobs, each with what is wrong with it below.
func drawJobs(w io.Writer, title string, jobs []boxJob) {
	fmt.Fprintln(w, title)
	var rows [][]string
	for _, j := range jobs {
		rows = append(rows, []string{"  " + j.Kind, j.State, j.when(), j.progress()})
	}
	var text strings.Builder
	columns(&text, rows)
	for i, line := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		fmt.Fprintln(w, line)
		if j := jobs[i]; j.Says != "" {
			fmt.Fprintln(w, "    ! "+shown(j.Says))
			if j.Do != "" {
				fmt.Fprintln(w, "      "+shown(j.Do))
			}
		} else if j.Stop != "" && !j.over() {
			fmt.Fprintln(w, "    ends by: "+j.Stop)
		}
	}
}

func (a *app) jobsCommand() *cobra.Command {
	jobs := &cobra.Command{
		Use: "jobs", Short: "List what the box does in the background", Args: cobra.NoArgs,
		Long: `jobs lists what runs or waits in the background: scrub (contents are read back), view
(the readable view is made anew), second-copy, duplicates (a folder is looked through),
export, erasure, and cancellation (accounts on their way out). It says how far each is and
for how long it will go on, as far as that is known, what is wrong with it, and how it can
be ended; below that, how the box's own work ended last. Exports and erasures are told
without a word about whose they are, those of several people as one.

With --json it is {"jobs":[{"kind","state","phase","count","done","total","bytes","size",
"since","until","ended","seconds_left","stop","says","do"},…]}; state is running, waiting,
done, failed or stopped, total and size are 0 where they are not known.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.listJobs(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(map[string][]boxJob{"jobs": list}, func(w io.Writer) {
				var now, last []boxJob
				for _, j := range list {
					if j.over() {
						last = append(last, j)
					} else {
						now = append(now, j)
					}
				}
				if len(now) == 0 {
					fmt.Fprintln(w, "nothing runs in the background")
				} else {
					drawJobs(w, "now", now)
				}
				if len(last) > 0 {
					drawJobs(w, "before", last)
				}
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
				listed(w, rows, "nobody has signed in with a device")
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

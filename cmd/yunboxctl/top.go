package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// metrics fetches the box's figures over the socket.
func (a *app) metrics(ctx context.Context) ([]byte, error) {
	c, err := a.local()
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, http.MethodGet, "/local/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, unreachable(err)
	}
	return text, nil
}

// parseMetrics reads the text format as far as the box writes it: NAME or
// NAME{label="value"}, and a number.
func parseMetrics(text []byte) map[string]float64 {
	figures := map[string]float64{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if x, err := strconv.ParseFloat(value, 64); err == nil {
			figures[name] = x
		}
	}
	return figures
}

// load is what the box does at a moment, by two looks at its figures.
type load struct {
	Seconds  float64           `json:"seconds"` // between the two looks
	Gateways map[string]*lanes `json:"gateways"`
	Files    float64           `json:"files_per_second"`
	Declined float64           `json:"refused_per_second"`
	Commits  float64           `json:"commits_per_second"`
	Changes  float64           `json:"changes_per_commit"`
	Uploads  int64             `json:"uploads"`
	Conns    int64             `json:"connections"`
	Memory   int64             `json:"memory"`
	Free     int64             `json:"disk_free"`
	Disk     int64             `json:"disk"`
	Jobs     []boxJob          `json:"jobs"`
}

type lanes struct {
	Requests float64 `json:"requests_per_second"`
	Refused  float64 `json:"errors_per_second"` // answered with 4xx or 5xx, or cut off
	In       float64 `json:"bytes_in_per_second"`
	Out      float64 `json:"bytes_out_per_second"`
}

// between compares two looks. A counter that fell belongs to a box that was restarted.
func between(before, after map[string]float64, seconds float64) load {
	l := load{Seconds: seconds, Gateways: map[string]*lanes{}, Uploads: int64(after["yunbox_uploads_open"]), Conns: int64(after["yunbox_http_connections"]),
		Memory: int64(after["yunbox_resident_bytes"]), Free: int64(after["yunbox_disk_free_bytes"]), Disk: int64(after["yunbox_disk_bytes"])}
	rate := func(name string) float64 { return max(after[name]-before[name], 0) / seconds }
	for name := range after {
		family, label, ok := strings.Cut(strings.TrimSuffix(name, `"}`), `{gateway="`)
		if !ok {
			continue
		}
		g := l.Gateways[label]
		if g == nil {
			g = &lanes{}
			l.Gateways[label] = g
		}
		switch family {
		case "yunbox_received_bytes_total":
			g.In = rate(name)
		case "yunbox_sent_bytes_total":
			g.Out = rate(name)
		case "yunbox_answers_2xx_total", "yunbox_answers_3xx_total":
			g.Requests += rate(name)
		default:
			g.Requests += rate(name)
			g.Refused += rate(name)
		}
	}
	l.Files = rate(`yunbox_uploads_total{outcome="new"}`) + rate(`yunbox_uploads_total{outcome="known"}`)
	l.Declined = rate(`yunbox_uploads_total{outcome="declined"}`) + rate(`yunbox_uploads_total{outcome="failed"}`)
	l.Commits = rate("yunbox_db_commits_total")
	if l.Commits > 0 {
		l.Changes = rate("yunbox_db_writes_total") / l.Commits
	}
	return l
}

func (a *app) topCommand() *cobra.Command {
	var once bool
	var every time.Duration
	c := &cobra.Command{
		Use: "top", Short: "Watch what the box does, from second to second", Args: cobra.NoArgs,
		Long: `top shows requests and bytes by gateway, files, uploads, the catalogue, memory, disk and
work in the background. On a terminal it goes on until Ctrl-C; elsewhere, and with --once,
it shows one second and ends. With --json each second is a line of JSON; bytes count
while they come, answers when they are over.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usagef("--every is at least 100ms")
			}
			x := screenOf(a.stdout)
			return a.top(cmd.Context(), x, every, once || !a.json && !x.terminal)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "show one interval and end")
	c.Flags().DurationVar(&every, "every", time.Second, "interval between two looks")
	return c
}

func (a *app) top(ctx context.Context, x screen, every time.Duration, once bool) error {
	if x.moves && !a.json && !once {
		io.WriteString(x.w, "\x1b[?1049h\x1b[?25l") // another page, without a cursor
		defer io.WriteString(x.w, "\x1b[?25h\x1b[?1049l")
	}
	var before map[string]float64
	var then time.Time
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		text, err := a.metrics(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // by Ctrl-C
			}
			return err
		}
		now, after := time.Now(), parseMetrics(text)
		if before != nil {
			l := between(before, after, now.Sub(then).Seconds())
			if l.Jobs, err = a.listJobs(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			l.Jobs = slices.DeleteFunc(l.Jobs, boxJob.over)
			if err := a.print(l, func(io.Writer) { l.draw(x, once) }); err != nil || once {
				return err
			}
		}
		before, then = after, now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *app) listJobs(ctx context.Context) ([]boxJob, error) {
	c, err := a.local()
	if err != nil {
		return nil, err
	}
	var out struct {
		Jobs []boxJob `json:"jobs"`
	}
	err = c.call(ctx, "GET", "/local/jobs", nil, &out)
	return append([]boxJob{}, out.Jobs...), err
}

// draw shows it on one screen, in place of what was there.
func (l load) draw(x screen, once bool) {
	var page bytes.Buffer
	y := x
	y.w = &page
	used := int64(0)
	if l.Disk > 0 {
		used = (l.Disk - l.Free) * 100 / l.Disk
	}
	perSecond := func(n float64) string { return problem.Bytes(int64(n)) + "/s" }
	y.line(fmt.Sprintf("memory %s   disk %s free, %d %% used   connections %d", problem.Bytes(l.Memory), problem.Bytes(l.Free), used, l.Conns), "")
	y.line(fmt.Sprintf("files %.1f/s   refused %.1f/s   uploads open %d   commits %.1f/s of %.1f changes", l.Files, l.Declined, l.Uploads, l.Commits, l.Changes), "")
	y.line("", "")
	y.line(fmt.Sprintf("%-12s%12s%12s%14s%14s", "gateway", "requests/s", "errors/s", "in", "out"), bold)
	for _, name := range []string{"api", "uploads", "webdav", "nextcloud", "immich", "page", "other"} {
		g := l.Gateways[name]
		if g == nil {
			continue
		}
		y.line(fmt.Sprintf("%-12s%12.1f%12.1f%14s%14s", name, g.Requests, g.Refused, perSecond(g.In), perSecond(g.Out)), "")
	}
	y.line("", "")
	if len(l.Jobs) == 0 {
		y.line("nothing runs in the background", "")
	}
	for i, j := range l.Jobs {
		if i > 6 {
			break
		}
		y.line(fmt.Sprintf("%-14s%-10s%s", j.Kind, j.State, j.progress()), "")
	}
	switch {
	case x.moves && !once:
		// What stands there is overwritten, not cleared first: that would flicker.
		text := strings.ReplaceAll(page.String(), "\n", "\x1b[K\n")
		io.WriteString(x.w, "\x1b[H"+text+"\x1b[J")
	case !once:
		io.WriteString(x.w, page.String()+"\n")
	default:
		io.WriteString(x.w, page.String())
	}
}

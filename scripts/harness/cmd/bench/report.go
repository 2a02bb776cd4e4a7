package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is all that a call measured.
type report struct {
	Machine machineInfo `json:"machine"`
	Seconds float64     `json:"seconds"`
	Tables  []table     `json:"tables"`
	Notes   []string    `json:"notes"`
}

// table is one comparison.
type table struct {
	Title   string   `json:"title"`
	Files   int      `json:"files"`
	Bytes   int64    `json:"bytes"`
	Results []result `json:"results"`
}

// note keeps a measured sentence and prints it.
func (b *bench) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	b.report.Notes = append(b.report.Notes, line)
	fmt.Fprintf(b.out, "\n%s\n", line)
}

// print writes the table as Markdown, so that it can go into docs/bench.md as it is.
func (t table) print(w io.Writer) {
	fmt.Fprintf(w, "\n### %s: %d files, %.1f MB\n\n", t.Title, t.Files, float64(t.Bytes)/1e6)
	out := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	if len(t.Results) > 0 && t.Results[0].Syncs != "" {
		fmt.Fprintln(out, "| contender \t| syncs before it answers \t|")
		fmt.Fprintln(out, "|---\t|---\t|")
		for _, r := range t.Results {
			fmt.Fprintf(out, "| %s \t| %s \t|\n", r.Contender, r.Syncs+r.Err)
		}
		_ = out.Flush() // a terminal or a buffer
		return
	}
	fmt.Fprintln(out, "| contender \t| rate \t| box is … as fast \t| answered \t| durable \t| median of one \t| server CPU \t| client CPU \t| both, a file \t| peak RSS \t|")
	fmt.Fprintln(out, "|---\t|--:\t|--:\t|--:\t|--:\t|--:\t|--:\t|--:\t|--:\t|--:\t|")
	for _, r := range t.Results {
		if r.Err != "" {
			fmt.Fprintf(out, "| %s \t| %s \t|\n", r.Contender, r.Err)
			continue
		}
		rate := fmt.Sprintf("%.0f files/s", float64(t.Files)/r.Answered)
		if t.Files == 1 {
			rate = fmt.Sprintf("%.0f MB/s", float64(t.Bytes)/1e6/r.Answered)
		}
		single := ""
		if r.Median > 0 {
			single = fmt.Sprintf("%.1f ms", r.Median)
		}
		if r.Flushes > 0 {
			rate += fmt.Sprintf(", %.2f flushes each", r.Flushes/float64(t.Files))
		}
		fmt.Fprintf(out, "| %s \t| %s \t| %.2f × \t| %.2f s \t| %.2f s \t| %s \t| %.2f s \t| %.2f s \t| %.2f ms \t| %.0f MiB \t|\n",
			r.Contender, rate, r.Answered/t.Results[0].Answered, r.Answered, r.Durable, single, r.CPU, r.Client, (r.CPU+r.Client)*1000/float64(t.Files), float64(r.RSS)/(1<<20))
	}
	_ = out.Flush()
}

// machineInfo says what the figures were measured on.
type machineInfo struct {
	Date       time.Time `json:"date"`
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Memory     int64     `json:"memory_bytes"`
	Kernel     string    `json:"kernel"`
	FileSystem string    `json:"file_system"`
	Disk       string    `json:"disk"`         // as --disk says
	Load       string    `json:"load_average"` // when it began: others at work spoil figures
}

func (m machineInfo) String() string {
	return fmt.Sprintf("%s, %s, %d cores, %.0f GiB, Linux %s, %s, load average %s",
		m.Date.UTC().Format("2006-01-02 15:04 MST"), m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.Kernel, m.FileSystem, m.Load)
}

func machine(work string) machineInfo {
	m := machineInfo{Date: time.Now(), CPU: "unknown processor", Cores: runtime.NumCPU(), FileSystem: "unknown file system"}
	for _, line := range linesOf("/proc/cpuinfo") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if load := linesOf("/proc/loadavg"); len(load) > 0 {
		m.Load = strings.Join(strings.Fields(load[0])[:3], " ")
	}
	longest := -1
	for _, line := range linesOf("/proc/self/mounts") {
		f := strings.Fields(line)
		if len(f) > 2 && len(f[1]) > longest && (work == f[1] || strings.HasPrefix(work, strings.TrimSuffix(f[1], "/")+"/")) {
			longest, m.FileSystem = len(f[1]), f[2]+" on "+f[0]
		}
	}
	return m
}

func linesOf(path string) (lines []string) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return lines
}

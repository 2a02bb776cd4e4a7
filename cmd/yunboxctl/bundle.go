package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/doctor"
	"yunbox.local/daemon/problem"
)

// logLines is how much of the log goes into a bundle.
const logLines = 2000

func (a *app) supportCommand() *cobra.Command {
	var out, log string
	var yes bool
	c := &cobra.Command{
		Use: "support-bundle", Short: "Put what its makers need to help into a file, without personal data", Args: cobra.NoArgs,
		Long: `support-bundle collects versions, how the box is, what doctor finds, its figures, its
settings, how many rows its tables have, and the newest lines of its log. Names, addresses,
telephone numbers, paths and keys are masked. It lists what it would write, with the size of
each part, and asks before it does; nothing is sent anywhere. The file is an ordinary zip:
look into it before you give it to somebody.

With --json it is {"file","parts":[{"name","bytes","what"},…]}.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.local(); err != nil {
				return err
			}
			if _, ok := a.terminal(); !ok && !yes {
				return usagef("support-bundle needs --yes when nobody can be asked")
			}
			if out == "" {
				out = "yunbox-support-" + time.Now().UTC().Format("20060102-150405") + ".zip"
			}
			parts := a.collect(cmd.Context(), log)
			if !a.json {
				fmt.Fprintln(a.stdout, out, "will have, and nothing else:")
				rows := make([][]string, 0, len(parts))
				for _, p := range parts {
					rows = append(rows, []string{"  " + p.Name, problem.Bytes(p.Bytes), p.What})
				}
				columns(a.stdout, rows)
			}
			if !yes {
				if ok, _ := a.ask("Write it?"); !ok {
					return &problem.Error{Kind: problem.Canceled, Op: "support-bundle", Title: "Nothing was written"}
				}
			}
			if err := writeBundle(out, parts); err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "parts": parts}, func(w io.Writer) { fmt.Fprintln(w, "written:", out) })
		},
	}
	c.Flags().StringVar(&out, "out", "", "`FILE` to write, which must not exist [yunbox-support-TIME.zip here]")
	c.Flags().StringVar(&log, "log", "", "`FILE` with the box's log, where it is not in the journal")
	c.Flags().BoolVar(&yes, "yes", false, "write it without asking")
	return c
}

// part is a file of a bundle.
type part struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	What  string `json:"what"`
	text  []byte
}

// collect makes the parts. What cannot be had is left out, and said to be.
func (a *app) collect(ctx context.Context, log string) (parts []part) {
	m := newMasker()
	add := func(name, what string, text []byte) {
		parts = append(parts, part{name, int64(len(text)), what, text})
	}
	document := func(name, what string, v any, err error) {
		if err != nil {
			v = map[string]string{"missing": m.mask(problem.Sentence(err))}
		}
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			text = []byte(`{"missing":"it cannot be written down"}`)
		}
		add(name, what, append(text, '\n'))
	}
	s, err := a.localStatus(ctx)
	if err == nil {
		m.knows(s.Name, s.ID, s.Fingerprint, strings.Join(s.Words, " "))
		m.knows(s.Addresses...)
		m.knows(a.everybody(ctx)...)
	}
	m.knows(a.state)
	if host, err := os.Hostname(); err == nil {
		m.knows(host)
	}
	document("versions.json", "versions of the programs and of the system", map[string]string{
		"yunboxctl": version, "yunboxd": s.Version, "go": runtime.Version(), "system": runtime.GOOS + "/" + runtime.GOARCH, "kernel": doctor.Kernel().Says,
	}, nil)
	document("status.json", "how the box is, without its name, key and addresses", anonymous(s), err)
	document("doctor.json", "what doctor finds", m.findings(a.examine(ctx, false)), nil)
	var box json.RawMessage
	c, err := a.local()
	if err == nil {
		err = c.call(ctx, "GET", "/local/support", nil, &box)
	}
	document("box.json", "settings with values that a person chose masked, work in the background, rows of each table", box, err)
	figures, err := a.metrics(ctx)
	if err != nil {
		figures = []byte("# missing: " + m.mask(problem.Sentence(err)) + "\n")
	}
	add("metrics.txt", "figures, as in docs/metrics.md", figures)
	lines, err := readLog(ctx, log, "yunboxd", logLines)
	if err != nil {
		lines = []string{"missing: " + problem.Sentence(err)}
	}
	var text bytes.Buffer
	for _, line := range lines {
		text.WriteString(m.mask(line))
		text.WriteByte('\n')
	}
	add("log.txt", fmt.Sprintf("the newest %d lines of the log at most, masked", logLines), text.Bytes())
	return parts
}

// everybody returns the names that must not be in a bundle.
func (a *app) everybody(ctx context.Context) (names []string) {
	c, err := a.local()
	if err != nil {
		return nil
	}
	var out struct {
		Users []boxUser `json:"users"`
	}
	if c.call(ctx, "GET", "/local/users", nil, &out) == nil {
		for _, u := range out.Users {
			names = append(names, u.Username)
		}
	}
	return names
}

// anonymous is what of a status says nothing about whose box it is.
func anonymous(s boxStatus) map[string]any {
	copies := []map[string]any{}
	for _, c := range s.SecondCopies {
		copies = append(copies, map[string]any{"state": c.State, "current": c.Current, "time": c.Time, "missing": c.Missing, "damaged": c.Damaged})
	}
	records := map[string]any{}
	if s.Records != nil {
		records["ok"], records["generations"], records["newest"] = s.Records.OK, s.Records.Generations, s.Records.Newest
	}
	return map[string]any{
		"version": s.Version, "bound": s.Bound, "disk": s.Disk, "memory": s.Memory, "volume_ok": s.Volume.OK, "uptime_seconds": s.Uptime,
		"uploads": s.Uploads, "users": s.Users, "items": s.Items, "blobs": s.Blobs, "logical_bytes": s.Logical, "physical_bytes": s.Physical,
		"records": records, "scrub": s.Scrub, "second_copies": copies, "requests": s.Requests, "addresses": len(s.Addresses),
	}
}

func writeBundle(name string, parts []part) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &problem.Error{Kind: problem.Conflict, Op: "support-bundle", Title: "That file exists already", Hint: "Name another one with --out."}
	}
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(name) // no half file
		}
	}()
	z := zip.NewWriter(f)
	for _, p := range parts {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "yunbox-support/" + p.Name, Method: zip.Deflate, Modified: time.Now().UTC()})
		if err != nil {
			return err
		}
		if _, err := w.Write(p.text); err != nil {
			return err
		}
	}
	return z.Close()
}

// masker takes out of a text what could say who somebody is: names that it was told, and
// whatever looks like an address, a number to call, a path or a key. It rather masks too
// much: the log of a box has none of it.
type masker struct {
	names []string
	stamp *regexp.Regexp // the time at the beginning of a line, which stays
	looks []*regexp.Regexp
}

func newMasker() *masker {
	m := &masker{stamp: regexp.MustCompile(`^(?:<[0-7]>)?(?:time=)?\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:?\d\d)?`)}
	for _, r := range []string{
		`[A-Za-z0-9._%+*-]+@[A-Za-z0-9.-]+`,                     // mail
		`(?i)\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b`,             // hardware
		`\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?`,                  // IPv4
		`(?i)\[?\b[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}[^\s\]]*`, // IPv6
		`\b[A-Za-z0-9-]+\.(?:local|lan|home|internal)\b`,
		`[a-z]+://[^\s"']+`,
		`(?:^|[\s="'(])(?:/[^\s"'()=]+)+`, // paths
		`\+?\d[\d ()-]{7,}\d`,             // telephone
		`\b[A-Za-z0-9+/_-]{24,}={0,2}`,    // keys, tokens, hashes
		`[^\x00-\x7F][^\s"'=]*`,           // what the program does not say: its texts are English
		`(?i)[^\s"'=/]+\.(?:jpe?g|heic|png|gif|mp4|mov|avi|pdf|docx?|txt|zip|dng|cr2|nef|webp)\b`, // files
	} {
		m.looks = append(m.looks, regexp.MustCompile(r))
	}
	return m
}

// knows adds texts that are masked wherever they stand.
func (m *masker) knows(names ...string) {
	for _, n := range names {
		if len([]rune(n)) >= 2 && !slices.Contains(m.names, n) {
			m.names = append(m.names, n)
		}
	}
	slices.SortFunc(m.names, func(a, b string) int { return len(b) - len(a) }) // the longer first
}

func (m *masker) findings(list []doctor.Finding) []doctor.Finding {
	for i, f := range list {
		list[i].Says = m.mask(f.Says)
	}
	return list
}

const mask = "***"

// mask returns text without them.
func (m *masker) mask(text string) string {
	text = shown(text)
	stamp := m.stamp.FindString(text)
	text = text[len(stamp):]
	for _, n := range m.names {
		text = replaceWord(text, n)
	}
	for _, r := range m.looks {
		text = r.ReplaceAllStringFunc(text, func(found string) string {
			if strings.IndexAny(found[:1], " \t=\"'(") == 0 {
				return found[:1] + mask
			}
			return mask
		})
	}
	return stamp + text
}

// replaceWord masks a name where it is no part of a longer word.
func replaceWord(text, name string) string {
	r, err := regexp.Compile(`(?i)` + regexp.QuoteMeta(name))
	if err != nil {
		return text
	}
	letter := func(b byte) bool { return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' }
	var out strings.Builder
	last := 0
	for _, at := range r.FindAllStringIndex(text, -1) {
		if at[0] > 0 && letter(text[at[0]-1]) && letter(name[0]) || at[1] < len(text) && letter(text[at[1]]) && letter(name[len(name)-1]) {
			continue
		}
		out.WriteString(text[last:at[0]] + mask)
		last = at[1]
	}
	return out.String() + text[last:]
}

// Package metrics says which figures the box tells, and writes them in the text format
// of Prometheus (version 0.0.4). There is one table of them: what is not in it cannot be
// told, and docs/metrics.md is made from it.
//
// No figure speaks of a person: the labels are words of this program, never names,
// addresses or paths, and so few that a figure cannot grow with what people do.
package metrics

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Kind is what a figure does.
type Kind string

// The kinds of figures.
const (
	Counter Kind = "counter" // only rises, from 0 at the start of the box
	Gauge   Kind = "gauge"   // rises and falls
)

// A Family is a figure, or several that differ by a label.
type Family struct {
	Name  string
	Kind  Kind
	Help  string   // one sentence
	Label string   // "": there is none
	Of    []string // the values of Label that there are; empty: see Help
}

// Ways are the values of the label "gateway": the protocols that the box speaks over
// HTTP, and its own page.
func Ways() []string {
	return []string{"api", "immich", "nextcloud", "page", "uploads", "webdav", "other"}
}

// Way returns which of Ways the route with that pattern belongs to.
func Way(pattern string) string {
	path := pattern
	if i := strings.IndexByte(pattern, '/'); i >= 0 {
		path = pattern[i:]
	}
	for _, w := range [...]struct{ prefix, way string }{
		{"/v1/uploads", "uploads"}, {"/v1/", "api"}, {"/dav", "webdav"},
		{"/remote.php", "nextcloud"}, {"/ocs", "nextcloud"}, {"/status.php", "nextcloud"}, {"/index.php", "nextcloud"},
		{"/api", "immich"}, {"/.well-known/immich", "immich"}, {"/assets/", "page"}, {"/{$}", "page"},
	} {
		if strings.HasPrefix(path, w.prefix) {
			return w.way
		}
	}
	return "other"
}

// Answers are the values of the label "answer": the classes of HTTP's status codes.
// "none" is a request that was cut off before it got an answer.
func Answers() []string { return []string{"2xx", "3xx", "4xx", "5xx", "none"} }

// Families returns the table, in the order in which the figures are written.
func Families() []Family {
	families := []Family{
		{Name: "yunbox_build", Kind: Gauge, Help: "1; the label is the version of the software.", Label: "version"},
		{Name: "yunbox_uptime_seconds", Kind: Gauge, Help: "Seconds since the start."},
		{Name: "yunbox_resident_bytes", Kind: Gauge, Help: "Memory of the daemon."},
		{Name: "yunbox_heap_bytes", Kind: Gauge, Help: "Memory that its live objects take."},
		{Name: "yunbox_goroutines", Kind: Gauge, Help: "Tasks that the daemon has begun and not ended."},
		{Name: "yunbox_clock_unsure", Kind: Gauge, Help: "1 while the box knows that its clock may well be wrong."},

		{Name: "yunbox_volume_healthy", Kind: Gauge, Help: "1 unless the volume failed or can only be read."},
		{Name: "yunbox_records_healthy", Kind: Gauge, Help: "1 while the catalogue takes changes and its journal keeps up."},
		{Name: "yunbox_disk_bytes", Kind: Gauge, Help: "Size of the volume."},
		{Name: "yunbox_disk_free_bytes", Kind: Gauge, Help: "Free bytes of the volume."},

		{Name: "yunbox_mdns_links", Kind: Gauge, Help: "Network interfaces on which the box is announced, by who does that.", Label: "by", Of: []string{"own", "avahi"}},
		{Name: "yunbox_mdns_seen", Kind: Gauge, Help: "1 if the box saw itself on each of them when it looked, a moment after its announcement changed last."},

		{Name: "yunbox_items", Kind: Gauge, Help: "Live files of all people."},
		{Name: "yunbox_logical_bytes", Kind: Gauge, Help: "Bytes of all files, versions and the trash."},
		{Name: "yunbox_blobs", Kind: Gauge, Help: "Distinct contents."},
		{Name: "yunbox_physical_bytes", Kind: Gauge, Help: "Bytes of the distinct contents."},

		{Name: "yunbox_received_bytes_total", Kind: Counter, Help: "Bytes of bodies that came in over HTTP, while they come.", Label: "gateway", Of: Ways()},
		{Name: "yunbox_sent_bytes_total", Kind: Counter, Help: "Bytes of answers that left over HTTP, once they have.", Label: "gateway", Of: Ways()},
		{Name: "yunbox_http_connections", Kind: Gauge, Help: "Connections that are open."},
		{Name: "yunbox_ftp_connections_total", Kind: Counter, Help: "Connections of cameras."},
		{Name: "yunbox_uploads_open", Kind: Gauge, Help: "Uploads that are being received."},
		{Name: "yunbox_uploads_total", Kind: Counter, Help: "Files that were offered by any protocol: kept with bytes that were new to their owner, kept with bytes that were there, refused, or broken.", Label: "outcome", Of: Outcomes()},
		{Name: "yunbox_db_writes_total", Kind: Counter, Help: "Changes of the catalogue."},
		{Name: "yunbox_db_commits_total", Kind: Counter, Help: "Transactions that carried them, with one flush of the disk each."},

		{Name: "yunbox_damaged", Kind: Gauge, Help: "Contents that are damaged and wait for a device that still has them."},
		{Name: "yunbox_healed", Kind: Gauge, Help: "Damages that ended well, ever."},
		{Name: "yunbox_scrubbed_timestamp_seconds", Kind: Gauge, Help: "When the box last ended a portion of reading back; 0: never."},
		{Name: "yunbox_unverified_timestamp_seconds", Kind: Gauge, Help: "When that content was last read back or written of which this is longest ago; 0: nothing is kept."},
		{Name: "yunbox_second_copies", Kind: Gauge, Help: "Second copies that are set up."},
		{Name: "yunbox_second_copies_complete", Kind: Gauge, Help: "Those of which everything can be restored."},
		{Name: "yunbox_second_copy_timestamp_seconds", Kind: Gauge, Help: "When the newest complete one was made; 0: there is none."},
		{Name: "yunbox_jobs", Kind: Gauge, Help: "Work in the background that runs or waits.", Label: "kind", Of: Jobs()},
	}
	for _, answer := range Answers() {
		families = append(families, Family{Name: "yunbox_answers_" + answer + "_total", Kind: Counter,
			Help: "Requests over HTTP that were answered with " + answer + ".", Label: "gateway", Of: Ways()})
	}
	return families
}

// Outcomes are the values of the label "outcome".
func Outcomes() []string { return []string{"new", "known", "declined", "failed"} }

// Jobs are the values of the label "kind": what the box does in the background.
func Jobs() []string {
	return []string{"scrub", "view", "second-copy", "duplicates", "export", "erasure", "cancellation"}
}

// A Page is one answer to who reads the figures. The zero Page is empty.
type Page struct{ values map[string]float64 }

// Set tells a figure; label is "" where its family has none.
func (p *Page) Set(name, label string, value float64) {
	if p.values == nil {
		p.values = map[string]float64{}
	}
	p.values[name+"\x00"+label] = value
}

// Flag tells a figure that is 1 or 0.
func (p *Page) Flag(name string, on bool) {
	value := 0.0
	if on {
		value = 1
	}
	p.Set(name, "", value)
}

// WriteTo writes the page in the order of the table. A figure that is not in the table,
// and a family of the table without any, is an error: the document would not be true.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	written := 0
	for _, f := range Families() {
		labels := f.Of
		switch {
		case f.Label == "":
			labels = []string{""}
		case len(f.Of) == 0:
			labels = p.labels(f.Name)
		}
		head := false
		for _, label := range labels {
			value, ok := p.values[f.Name+"\x00"+label]
			if !ok {
				continue
			}
			if !head {
				fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.Name, f.Help, f.Name, f.Kind)
				head = true
			}
			b.WriteString(f.Name)
			if f.Label != "" {
				fmt.Fprintf(&b, "{%s=%s}", f.Label, quote(label))
			}
			b.WriteByte(' ')
			b.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
			b.WriteByte('\n')
			written++
		}
		if !head {
			return 0, fmt.Errorf("metrics: %s has no value", f.Name)
		}
	}
	if written != len(p.values) {
		return 0, fmt.Errorf("metrics: %d figures are not in the table", len(p.values)-written)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (p *Page) labels(name string) (list []string) {
	for key := range p.values {
		if of, label, _ := strings.Cut(key, "\x00"); of == name {
			list = append(list, label)
		}
	}
	slices.Sort(list)
	return list
}

// quote writes the value of a label as the format wants it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// Document returns docs/metrics.md.
func Document() string {
	var b strings.Builder
	b.WriteString(`# Metrics

` + "`GET /metrics`" + ` answers in the text format of Prometheus: to programs on the box itself that ask it
directly, and to admins (an app token of an admin as bearer token). What comes through a proxy on
the box counts as coming from outside. ` + "`yunboxctl --state DIR metrics`" + ` prints the same by the unix socket.

This list is made from the table in ` + "`daemon/metrics`" + `, and a test compares the two. No figure speaks of
a person, and no label has a value that came from one.

| name | kind | label | meaning |
|---|---|---|---|
`)
	for _, f := range Families() {
		label := ""
		if f.Label != "" {
			label = "`" + f.Label + "`"
			if len(f.Of) > 0 {
				label += ": " + strings.Join(f.Of, ", ")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, label, f.Help)
	}
	return b.String()
}

package metrics_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"yunbox.local/daemon/metrics"
)

func TestDocument(t *testing.T) {
	const name = "../../docs/metrics.md"
	want := metrics.Document()
	if os.Getenv("YUNBOX_WRITE_DOCS") != "" {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("docs/metrics.md is not what the table says (%v): run this test with YUNBOX_WRITE_DOCS=1", err)
	}
}

func TestTable(t *testing.T) {
	good := regexp.MustCompile(`^yunbox_[a-z0-9_]+$`)
	seen := map[string]bool{}
	for _, f := range metrics.Families() {
		if !good.MatchString(f.Name) || seen[f.Name] || f.Help == "" || !strings.HasSuffix(f.Help, ".") || strings.ContainsAny(f.Help, "|\n\\") {
			t.Errorf("%+v", f)
		}
		if (f.Kind == metrics.Counter) != strings.HasSuffix(f.Name, "_total") {
			t.Errorf("%s is a %s", f.Name, f.Kind)
		}
		seen[f.Name] = true
	}
}

// full is a page with everything that the table wants.
func full() *metrics.Page {
	p := &metrics.Page{}
	for _, f := range metrics.Families() {
		labels := f.Of
		if len(labels) == 0 {
			labels = []string{""}
		}
		if f.Name == "yunbox_build" {
			labels = []string{`1 "odd" \ version`}
		}
		for _, l := range labels {
			p.Set(f.Name, l, 1)
		}
	}
	return p
}

func TestPage(t *testing.T) {
	traffic := metrics.NewTraffic()
	traffic.Of("PUT /v1/files/{path...}").Received(5)
	traffic.Of("PUT /v1/files/{path...}").Answered(201, 7)
	traffic.Of("GET /dav/").Answered(0, 0)
	var none *metrics.Traffic
	none.Of("/").Received(1)
	none.Of("/").Answered(200, 1)
	p := full()
	traffic.Tell(p)
	var b strings.Builder
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`yunbox_received_bytes_total{gateway="api"} 5`, `yunbox_sent_bytes_total{gateway="api"} 7`, `yunbox_answers_2xx_total{gateway="api"} 1`,
		`yunbox_answers_none_total{gateway="webdav"} 1`, `yunbox_answers_4xx_total{gateway="api"} 0`, `yunbox_build{version="1 \"odd\" \\ version"} 1`,
		"# TYPE yunbox_jobs gauge",
	} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("%q is missing in\n%s", line, b.String())
		}
	}
	if p.Set("yunbox_person", "ada", 1); pageErr(p) == nil {
		t.Error("a figure that is not in the table was told")
	}
	p = full()
	if p.Set("yunbox_jobs", "ada", 1); pageErr(p) == nil {
		t.Error("a label that is not in the table was told")
	}
	if pageErr(&metrics.Page{}) == nil {
		t.Error("a page without figures")
	}
}

func pageErr(p *metrics.Page) error {
	var b strings.Builder
	_, err := p.WriteTo(&b)
	return err
}

func TestWays(t *testing.T) {
	for pattern, want := range map[string]string{
		"GET /v1/items": "api", "POST /v1/uploads": "uploads", "/dav/": "webdav", "/remote.php/dav/files/": "nextcloud", "GET /status.php": "nextcloud",
		"GET /api/albums": "immich", "/api": "immich", "GET /.well-known/immich": "immich", "GET /{$}": "page", "GET /assets/": "page",
		"GET /healthz": "other", "": "other", "none": "other",
	} {
		if got := metrics.Way(pattern); got != want {
			t.Errorf("%q belongs to %s", pattern, got)
		}
	}
}

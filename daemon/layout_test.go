package daemon_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layout is the house: every package of the module and the packages of the
// module that it may import. Imports point one way, and what knows people never
// lies below what knows bytes.
//
// DO NOT CHANGE THIS TABLE TO FIX A BUILD: a new package or a new arrow needs a
// page in docs/decisions.
const layout = `
storage/vfs              :
storage/vfs/vfstest      : storage/vfs
storage                  : storage/vfs
dedup                    : storage storage/vfs
discovery                :
daemon/ident             :
daemon/problem           :
daemon/source            :
daemon/metrics           :
daemon/doctor            :
daemon/spake2plus        :
daemon/signed            :
daemon/config            :
daemon/db                : daemon/problem
daemon/rights            : daemon/db daemon/ident daemon/problem
daemon/audit             : daemon/db daemon/ident daemon/problem daemon/rights
daemon/backup/target     : daemon/problem storage storage/vfs
daemon/backup            : daemon/audit daemon/backup/target daemon/db daemon/httpd daemon/problem storage storage/vfs
daemon/vault             : daemon/db daemon/ident daemon/rights storage/vfs
daemon/consent           : daemon/audit daemon/db daemon/ident daemon/problem daemon/rights daemon/signed
daemon/account           : daemon/audit daemon/consent daemon/db daemon/ident daemon/problem daemon/rights daemon/spake2plus daemon/vault storage/vfs
daemon/catalog           : daemon/audit daemon/db daemon/ident daemon/problem daemon/rights storage
daemon/disclosure        : daemon/audit daemon/db daemon/ident daemon/problem daemon/rights
daemon/mail              : daemon/problem
daemon/mail/mailtest     :
daemon/incident          : daemon/audit daemon/db daemon/disclosure daemon/ident daemon/mail daemon/problem daemon/rights
daemon/reset             : storage/vfs
daemon/secrets           : daemon/httpd daemon/problem storage/vfs
daemon/report            : daemon/consent daemon/db daemon/disclosure daemon/ident daemon/problem
daemon/update/bundle     : daemon/problem
daemon/update/install    : daemon/problem daemon/update/bundle storage/vfs
daemon/update            : daemon/audit daemon/db daemon/disclosure daemon/httpd daemon/ident daemon/problem daemon/update/bundle daemon/update/install storage/vfs
daemon/thirdparty        : daemon/account daemon/consent daemon/db daemon/disclosure daemon/ident daemon/problem
daemon/ingest            : daemon/catalog daemon/consent daemon/db daemon/ident daemon/problem daemon/rights daemon/source storage
daemon/guardian          : daemon/account daemon/audit daemon/consent daemon/db daemon/ident daemon/problem daemon/rights
daemon/health            : daemon/catalog daemon/db daemon/problem storage
daemon/tree              : daemon/catalog daemon/db daemon/httpd daemon/ident daemon/problem daemon/rights storage storage/vfs
daemon/httpd             : daemon/account daemon/audit daemon/config daemon/ident daemon/metrics daemon/problem storage/vfs
daemon/duplicates        : daemon/audit daemon/catalog daemon/consent daemon/db daemon/httpd daemon/ident daemon/problem daemon/rights dedup storage storage/vfs
daemon/erasure           : daemon/account daemon/audit daemon/catalog daemon/consent daemon/db daemon/ident daemon/problem daemon/rights daemon/signed
daemon/requests          : daemon/account daemon/audit daemon/db daemon/ident daemon/problem daemon/rights
daemon/export            : daemon/audit daemon/catalog daemon/db daemon/ident daemon/problem daemon/rights storage storage/vfs
daemon/gateway/content   : daemon/catalog daemon/problem storage
daemon/gateway/webdav    : daemon/catalog daemon/consent daemon/db daemon/gateway/content daemon/httpd daemon/ident daemon/ingest daemon/problem daemon/rights storage
daemon/gateway/nextcloud : daemon/account daemon/catalog daemon/consent daemon/db daemon/gateway/content daemon/gateway/webdav daemon/httpd daemon/ident daemon/ingest daemon/problem daemon/rights storage
daemon/gateway/resumable : daemon/catalog daemon/consent daemon/gateway/content daemon/httpd daemon/ident daemon/ingest daemon/problem storage
daemon/gateway/ftp       : daemon/account daemon/catalog daemon/consent daemon/db daemon/ident daemon/ingest daemon/problem storage
daemon/gateway/immich    : daemon/catalog daemon/consent daemon/db daemon/gateway/content daemon/httpd daemon/ident daemon/ingest daemon/problem daemon/source storage
daemon/gateway/inbox     : daemon/audit daemon/catalog daemon/consent daemon/db daemon/httpd daemon/ident daemon/ingest daemon/problem daemon/rights daemon/source storage storage/vfs
daemon/gateway/api       : daemon/account daemon/audit daemon/catalog daemon/consent daemon/db daemon/disclosure daemon/erasure daemon/export daemon/gateway/content daemon/guardian daemon/health daemon/httpd daemon/ident daemon/incident daemon/ingest daemon/problem daemon/report daemon/requests daemon/rights daemon/source daemon/spake2plus daemon/thirdparty storage
daemon/gateway/web       :
daemon                   : daemon/account daemon/audit daemon/backup daemon/backup/target daemon/catalog daemon/config daemon/consent daemon/db daemon/disclosure daemon/doctor daemon/duplicates daemon/erasure daemon/export daemon/gateway/api daemon/gateway/content daemon/gateway/ftp daemon/gateway/immich daemon/gateway/inbox daemon/gateway/nextcloud daemon/gateway/resumable daemon/gateway/web daemon/gateway/webdav daemon/guardian daemon/health daemon/httpd daemon/ident daemon/incident daemon/ingest daemon/mail daemon/metrics daemon/problem daemon/report daemon/requests daemon/reset daemon/rights daemon/secrets daemon/thirdparty daemon/tree daemon/update daemon/update/bundle daemon/update/install daemon/vault discovery storage storage/vfs
daemon/daemontest        : daemon daemon/account daemon/config daemon/consent daemon/httpd daemon/ident storage/vfs
daemon/simulation        :
daemon/gateway/gatewaytest : daemon/config daemon/daemontest storage/vfs storage/vfs/vfstest
cmd/yunboxd              : daemon daemon/config daemon/problem
cmd/yunboxctl            : daemon/backup/target daemon/config daemon/doctor daemon/ident daemon/problem daemon/signed daemon/spake2plus daemon/update/bundle daemon/update/install discovery storage storage/vfs
`

// programs of the source tree itself: they measure and build, nothing imports
// them, and they may import what they measure.
const tools = "scripts/"

type listed struct {
	ImportPath string
	Imports    []string
}

const module = "yunbox.local/"

func packages(t *testing.T) (list []listed) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestLayout(t *testing.T) {
	allowed := map[string][]string{}
	for line := range strings.Lines(layout) {
		name, may, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			allowed[strings.TrimSpace(name)] = strings.Fields(may)
		}
	}
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, tools) {
			continue
		}
		seen[name] = true
		may, ok := allowed[name]
		if !ok {
			t.Errorf("%s is not in the layout: give it a line and a reason, or put the code into a package that exists", name)
			continue
		}
		for _, i := range p.Imports {
			if dep, ours := strings.CutPrefix(i, module); ours && !slices.Contains(may, dep) {
				t.Errorf("%s must not import %s", name, dep)
			}
		}
		for _, part := range strings.Split(name, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "models", "core", "misc"}, part) {
				t.Errorf("%s says nothing about what is in it", name)
			}
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("%s is in the layout but does not exist", name)
		}
	}
}

// The daemon must not link what belongs to clients, tests or the outside world.
func TestNothingUnwantedIsLinked(t *testing.T) {
	unwanted := map[string]string{
		"github.com/spf13/cobra":                            "the daemon has flags, not commands",
		"github.com/schollz/progressbar/v3":                 "a daemon draws no progress bars",
		"github.com/rogpeppe/go-internal":                   "test code",
		"testing":                                           "test code",
		"net/http/pprof":                                    "an open profiler tells the network what people do",
		"yunbox.local/storage/vfs/vfstest":                  "test code",
		"yunbox.local/daemon/mail/mailtest":                 "test code",
		"yunbox.local/daemon/daemontest":                    "test code",
		"github.com/danielgtaylor/huma/v2/adapters/humachi": "a second router",
	}
	out, err := exec.Command("go", "list", "-deps", module+"cmd/yunboxd").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		for bad, why := range unwanted {
			if dep == bad || strings.HasPrefix(dep, bad+"/") {
				t.Errorf("yunboxd links %s: %s", dep, why)
			}
		}
	}
}

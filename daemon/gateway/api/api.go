// Package api is the box's own HTTP interface: everything under /v1, the few
// public documents beside it, and the maintenance operations on the unix socket.
//
// It is a gateway: it speaks a protocol and owns no rule. Each operation is
// registered once, with its access level, and appears in the OpenAPI 3.1
// document at /v1/openapi.json by that same registration.
package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/erasure"
	"yunbox.local/daemon/export"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/guardian"
	"yunbox.local/daemon/health"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/incident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/report"
	"yunbox.local/daemon/requests"
	"yunbox.local/daemon/rights"
	"yunbox.local/daemon/thirdparty"
	"yunbox.local/storage"
)

// Options are the rooms that the interface opens to the outside. All are needed.
type Options struct {
	Server   *httpd.Server
	Identity *httpd.Identity
	Accounts *account.Accounts
	Audit    *audit.Log
	Consent  *consent.Ledger
	Catalog  *catalog.Catalog
	Ingest   *ingest.Ingest
	Store    *storage.Store
	Health   *health.Health
	DB       *db.DB                  // for checking it
	Rights   func() *rights.Register // asked once people do
	Exports  *export.Room
	Erasure  *erasure.Room
	Requests *requests.Room

	Guardians *guardian.Room
	Outside   *disclosure.Register
	Incidents *incident.Room
	Elsewhere *thirdparty.Room
	Maker     *report.Room

	Box Box
	Log *slog.Logger
}

// Box is what only the whole box knows about itself.
type Box struct {
	Version   string                 // of the software
	Name      func() string          // of the box, as people see it
	Addresses func() []string        // URLs under which its page can be opened
	Resident  func() int64           // memory of the process in bytes
	Uptime    func() (seconds int64) // since the start
	Uploads   func() int             // uploads that are open now
	FTPPort   func() int             // where cameras connect; 0: nowhere
	// Clock is the time, and whether it may well be wrong; nil: the system's, which is not.
	Clock   func() (now time.Time, unsure bool)
	Records func() RecordsState // how the catalogue and its journal stand; nil: not said
	Network func() NetworkState // how the box is announced; nil: not said
	// Metrics returns what the box tells in figures, as package metrics writes it.
	Metrics func(context.Context) ([]byte, error)
	// Works lists what it does in the background, and what it did last.
	Works func(context.Context) ([]Work, error)
	// SecondCopies lists those that are kept on other disks; nil: none are.
	SecondCopies func(context.Context) ([]SecondCopy, error)
	// Reset makes it certain that the box is erased, and closes it; the serial number stays.
	Reset func(serial string) error
}

// API serves /v1. Make one with New; it is safe for concurrent use.
type API struct {
	server    *httpd.Server
	identity  *httpd.Identity
	accounts  *account.Accounts
	audit     *audit.Log
	consent   *consent.Ledger
	catalog   *catalog.Catalog
	ingest    *ingest.Ingest
	store     *storage.Store
	keeper    *health.Health
	db        *db.DB
	rights    func() *rights.Register
	exports   *export.Room
	guardian  *guardian.Room
	erasure   *erasure.Room
	requests  *requests.Room
	outside   *disclosure.Register
	incidents *incident.Room
	elsewhere *thirdparty.Room
	maker     *report.Room
	content   *content.Files
	box       Box
	log       *slog.Logger
	judged    *account.Throttle // passwords that strangers have judged, by source
	codes     *account.Throttle // codes of receipts and answers that strangers have tried, by source
	readiness readiness
	ahead     chan struct{} // holds one for each file of a request of many that waits for its answer
	reading   chan struct{} // holds one while stored bytes are read back: a slow disk does one thing at a time

	json  huma.API // operations that huma serves
	paper huma.API // operations that are only described, in the same document
}

// New registers every operation of the interface with the server of o.
func New(o Options) *API {
	a := &API{
		server: o.Server, identity: o.Identity, accounts: o.Accounts, audit: o.Audit, consent: o.Consent,
		catalog: o.Catalog, ingest: o.Ingest, store: o.Store, keeper: o.Health, db: o.DB, rights: o.Rights, exports: o.Exports, erasure: o.Erasure, requests: o.Requests, guardian: o.Guardians,
		outside: o.Outside, incidents: o.Incidents, elsewhere: o.Elsewhere, maker: o.Maker, box: o.Box, log: o.Log, reading: make(chan struct{}, 1), ahead: make(chan struct{}, manyAheadOfAll),
		judged:  account.NewThrottle(200*time.Millisecond, 60, 1024),
		codes:   account.NewThrottle(5*time.Second, 20, 1024),
		content: &content.Files{Catalog: o.Catalog, Store: o.Store, Log: o.Log},
	}
	if a.box.Clock == nil {
		a.box.Clock = func() (time.Time, bool) { return time.Now(), false }
	}
	config := a.config()
	a.json = huma.NewAPI(config, hallway{o.Server})
	a.paper = huma.NewAPI(config, paper{})
	config.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")

	a.registerAbout()
	a.registerBinding()
	a.registerSession()
	a.registerProtection()
	a.registerPeople()
	a.registerConsents()
	a.registerGuardians()
	a.registerItems()
	a.registerFiles()
	a.registerMany()
	a.registerSources()
	a.registerVerify()
	a.registerRecord()
	a.registerRights()
	a.registerErasing()
	a.registerOwnership()
	a.registerRequests()
	a.registerCorrections()
	a.registerProfile()
	a.registerDisclosures()
	a.registerIncidents()
	a.registerElsewhere()
	a.registerMaker()
	a.registerCare()
	a.registerJobs()
	a.registerReset()
	a.registerEvents()

	schemas := config.Components.Schemas.Map()
	// huma describes its own error model beside ours; it never leaves the box.
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	for _, s := range schemas {
		neverNull(s)
	}
	return a
}

// neverNull says that the lists in s are always there: huma thinks of nil slices,
// this interface sends and takes an empty list.
func neverNull(s *huma.Schema) {
	if s.Type == huma.TypeArray {
		s.Nullable = false
		neverNull(s.Items)
	}
	for _, p := range s.Properties {
		neverNull(p)
	}
	if of, ok := s.AdditionalProperties.(*huma.Schema); ok {
		neverNull(of)
	}
}

func (a *API) config() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "yunbox",
				Version: a.box.Version,
				Description: "The interface of a box at home that keeps photos and files. Errors are problem documents (RFC 9457) " +
					"with a stable type. Times are RFC 3339 in UTC, hashes are 64 lower-case hex digits, sizes are bytes. " +
					"`x-access` says who may use an operation: public, files (app tokens for files suffice), signed-in, admin. " +
					"`x-step-up` says that it asks for a proof of identity of the last five minutes: of everybody (always), or of people with a " +
					"second factor. Then the answer is a problem of type step-up-required: POST /v1/session/proof, and repeat the request.",
			},
			Servers: []*huma.Server{{URL: "/", Description: "This box"}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry(schemaPrefix, huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"session": {Type: "apiKey", In: "cookie", Name: httpd.CookieName, Description: "The cookie that POST /v1/session sets"},
					"bearer":  {Type: "http", Scheme: "bearer", Description: "The token of a session or an app token"},
					"basic":   {Type: "http", Scheme: "basic", Description: "User name and an app token, never the account's password"},
				},
			},
			Tags: []*huma.Tag{
				{Name: "box", Description: "What this box is"},
				{Name: "account", Description: "Binding, signing in, people, devices and app tokens"},
				{Name: "consent", Description: "The privacy policy, purposes and decisions"},
				{Name: "rights", Description: "What the box holds about the asker, and having it all"},
				{Name: "incidents", Description: "What went wrong with people's data, and telling them"},
				{Name: "files", Description: "Sending, reading and listing one's own files"},
				{Name: "events", Description: "What changes"},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{writeProblems},
	}
}

// OpenAPI returns the document that /v1/openapi.json serves. Other gateways add
// what they serve under /v1 to it before the server starts.
func (a *API) OpenAPI() *huma.OpenAPI { return a.json.OpenAPI() }

// serveOpenAPI serves the document. It is rendered for each request: it is read
// seldom, and 100 kB that nobody reads need not stay in memory.
func (a *API) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	doc, err := json.Marshal(a.OpenAPI())
	if err != nil {
		httpd.WriteProblem(w, r, &problem.Error{Kind: problem.Internal, Op: "api.openapi", Err: err})
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	w.Write(doc)
}

package api

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/requests"
)

// Local serves the maintenance operations under /local on the box's unix socket.
// Whoever may open it as root or as the daemon's user administers the box; it
// cannot consent for a person and cannot read a person's files.
//
// Use it as the Handler of an http.Server whose ConnContext is Local.ConnContext:
// that is where the peer's credentials are read. A request that did not come that
// way is refused.
type Local struct {
	api *API
	mux *http.ServeMux
}

// Local returns the handler for the unix socket.
func (a *API) Local() *Local {
	l := &Local{api: a, mux: http.NewServeMux()}
	handle := l.Handle
	handle("GET /local/status", l.status)
	handle("GET /local/metrics", l.localMetrics)
	handle("GET /local/devices", l.devices)
	handle("GET /local/label", l.label)
	handle("POST /local/factory-reset", l.reset)
	handle("GET /local/users", l.users)
	handle("POST /local/users", l.createUser)
	handle("PATCH /local/users/{name}", l.patchUser)
	handle("POST /local/users/find", l.findUser)
	handle("GET /local/users/{name}/usage", l.usage)
	handle("GET /local/sign-ins", l.signIns)
	handle("GET /local/guardians", l.guardians)
	handle("POST /local/guardians/{name}", l.nameGuardian)
	handle("DELETE /local/guardians/{name}/{guardian}", l.removeGuardian)
	handle("POST /local/users/{name}/removal", l.removeUser)
	handle("DELETE /local/users/{name}/removal", l.keepUser)
	handle("POST /local/deletion-receipt", l.fetchReceipt)
	handle("GET /local/requests", l.requests)
	handle("POST /local/requests/{id}/answer", l.answerRequest)
	handle("POST /local/check", l.check)
	handle("POST /local/scrub", l.scrub)
	handle("POST /local/scrub/stop", l.stopScrub)
	handle("POST /local/repair", l.repair)
	handle("GET /local/damage", l.damage)
	handle("POST /local/sweep", l.sweep)
	handle("GET /local/audit/verify", l.auditVerify)
	handle("GET /local/audit/tail", l.auditTail)
	handle("GET /local/disclosures", l.disclosures)
	l.incidentRoutes()
	handle("GET /local/update-check", l.showPayload(a.maker.Update))
	handle("GET /local/statistics", l.showPayload(a.maker.Sums))
	handle("/", func(http.ResponseWriter, *http.Request) error {
		return &problem.Error{Kind: problem.NotFound, Op: "api.local", Title: "There is no such operation", Hint: "This yunboxctl may be older or newer than the box."}
	})
	return l
}

// Closed returns a handler for the unix socket of a box that cannot be opened: it
// answers everything with why, unless Handle adds something.
func Closed(why error) *Local {
	l := &Local{mux: http.NewServeMux()}
	l.Handle("/", func(http.ResponseWriter, *http.Request) error { return why })
	return l
}

// Handle adds an operation of another gateway, with the same protection. An error
// of h becomes the problem document of the answer.
func (l *Local) Handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	l.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			httpd.WriteProblem(w, r, err)
		}
	})
}

// Refuse answers a request with err, whoever asks.
func (l *Local) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	httpd.WriteProblem(w, r, err)
}

type peerKey struct{}

// ConnContext reads who is at the other end of an accepted connection.
func (l *Local) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, trustedPeer(c))
}

// ServeHTTP implements http.Handler.
func (l *Local) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if trusted, _ := r.Context().Value(peerKey{}).(bool); !trusted {
		httpd.WriteProblem(w, r, &problem.Error{
			Kind: problem.Forbidden, Op: "api.local", Title: "Only root and the box's own user may do that",
			Hint: "Run yunboxctl with sudo.",
		})
		return
	}
	l.mux.ServeHTTP(w, r)
}

// actor is who acts over the socket, for permission and for the audit record.
func actor() account.Actor { return account.Root("socket") }

// LocalStatus is the answer of GET /local/status.
type LocalStatus struct {
	Name          string         `json:"name"`
	ID            string         `json:"id"`
	Version       string         `json:"version"`
	Addresses     []string       `json:"addresses"`
	Fingerprint   string         `json:"fingerprint"`
	Words         []string       `json:"words"`
	Bound         bool           `json:"bound"`
	Disk          DiskUse        `json:"disk"`
	Memory        MemoryUse      `json:"memory"`
	Volume        VolumeState    `json:"volume"`
	UptimeSeconds int64          `json:"uptime_seconds"`
	Uploads       int            `json:"uploads"`
	Users         int64          `json:"users"`
	Items         int64          `json:"items"`
	Blobs         int64          `json:"blobs"`
	LogicalBytes  int64          `json:"logical_bytes"`
	PhysicalBytes int64          `json:"physical_bytes"`
	Scrub         ScrubState     `json:"scrub"`
	SecondCopies  []localCopy    `json:"second_copies"`
	Requests      requests.Tally `json:"requests"`

	Records *RecordsState `json:"records,omitempty"`
	Network *NetworkState `json:"network,omitempty"`
}

// NetworkState says how the box is announced on the local network.
type NetworkState struct {
	MDNS      string   `json:"mdns"`      // who announces it: own, avahi; off: nobody
	Name      string   `json:"name"`      // of the box there
	Host      string   `json:"host"`      // its host name there
	Announced bool     `json:"announced"` // the names are its own on every link
	Links     []string `json:"links"`     // interfaces on which it is announced
	// Seen: it asked the network for itself, a moment after the announcement changed last,
	// and was answered on every link. Null: not yet.
	Seen  *bool   `json:"seen"`
	Error *string `json:"error"` // what is in the way; null: nothing
}

// RecordsState says whether the catalogue takes changes, and whether its journal
// alone could bring it back. Error is null while both do.
type RecordsState struct {
	OK          bool      `json:"ok"`
	Error       *string   `json:"error"`
	Number      int64     `json:"number"`      // of the last transaction
	Generations int       `json:"generations"` // copies in the journal
	Newest      time.Time `json:"newest"`      // when the newest was made; the zero time: none yet
	LogBytes    int64     `json:"log_bytes"`   // since then
}

// MemoryUse is the memory of the daemon in bytes.
type MemoryUse struct {
	RSS int64 `json:"rss"`
}

// VolumeState says whether the volume can be trusted; Error is null while it can.
type VolumeState struct {
	ID    string  `json:"id"`
	OK    bool    `json:"ok"`
	Error *string `json:"error"`
}

func (l *Local) status(w http.ResponseWriter, r *http.Request) error {
	a, ctx := l.api, r.Context()
	space, err := a.store.Space()
	if err != nil {
		return err
	}
	totals, err := a.catalog.Totals(ctx)
	if err != nil {
		return err
	}
	people, err := a.accounts.Users(ctx)
	if err != nil {
		return err
	}
	scrub, err := a.scrubState(ctx)
	if err != nil {
		return err
	}
	words := a.identity.Words()
	s := LocalStatus{
		Name: a.box.Name(), ID: a.identity.ID(), Version: a.box.Version, Addresses: append([]string{}, a.box.Addresses()...),
		Fingerprint: a.identity.Fingerprint(), Words: words[:], Bound: a.accounts.Bound(ctx),
		Disk: DiskUse{Total: space.Total, Free: space.Free}, Memory: MemoryUse{RSS: a.box.Resident()},
		Volume:        VolumeState{ID: a.store.VolumeID(), OK: true},
		UptimeSeconds: a.box.Uptime(), Uploads: a.box.Uploads(), Users: int64(len(people)),
		Items: totals.Items, Blobs: totals.Blobs, LogicalBytes: totals.LogicalBytes, PhysicalBytes: totals.PhysicalBytes, Scrub: scrub,
	}
	if s.Requests, err = a.requests.Tally(ctx); err != nil {
		return err
	}
	if s.SecondCopies, err = a.localCopies(ctx); err != nil {
		return err
	}
	if err := a.store.Err(); err != nil {
		text := err.Error()
		s.Volume.OK, s.Volume.Error = false, &text
	}
	if a.box.Records != nil {
		records := a.box.Records()
		s.Records = &records
	}
	if a.box.Network != nil {
		network := a.box.Network()
		s.Network = &network
	}
	httpd.WriteJSON(w, http.StatusOK, s)
	return nil
}

func (l *Local) label(w http.ResponseWriter, r *http.Request) error {
	label, err := l.api.accounts.Label(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		Serial  string  `json:"serial"`
		Code    *string `json:"code"`
		PairURI *string `json:"pair_uri"`
		Spent   bool    `json:"spent"`
	}{label.Serial, orNull(label.Code), orNull(label.PairURI), label.Spent})
	return nil
}

func (l *Local) users(w http.ResponseWriter, r *http.Request) error {
	list, err := l.api.userList(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (l *Local) createUser(w http.ResponseWriter, r *http.Request) error {
	var in NewUser
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	u, err := l.api.createUser(r.Context(), actor(), in)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusCreated, u)
	return nil
}

// patchUser changes what an admin may change about a person, and gives a
// forgotten password another one. What is left out stays.
func (l *Local) patchUser(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		UserChange
		Password *string `json:"password"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	u, err := l.api.accounts.UserNamed(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	if in.Password != nil {
		if err := l.api.accounts.SetPassword(r.Context(), actor(), u.ID, *in.Password); err != nil {
			return err
		}
	}
	changed, err := l.api.changeUserAs(r.Context(), actor(), u.ID, in.UserChange)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, changed)
	return nil
}

// chainReport is how a hash-chained record stands. Bad is null if all of it holds.
type chainReport struct {
	Entries int64      `json:"entries"`
	Head    string     `json:"head"`
	Bad     *audit.Bad `json:"bad"`
}

// auditVerify verifies the records that are chained: who did what, who consented to
// what, and what left the box. The query's audit and consent are marks that were kept elsewhere.
func (l *Local) auditVerify(w http.ResponseWriter, r *http.Request) error {
	keptActs, err := keptMarks(r.URL.Query()["audit"])
	if err != nil {
		return err
	}
	keptConsents, err := keptMarks(r.URL.Query()["consent"])
	if err != nil {
		return err
	}
	keptOutside, err := keptMarks(r.URL.Query()["disclosure"])
	if err != nil {
		return err
	}
	acts, err := l.api.audit.Verify(r.Context(), keptActs...)
	if err != nil {
		return err
	}
	consents, err := l.api.consent.Verify(r.Context(), keptConsents...)
	if err != nil {
		return err
	}
	outside, err := l.api.outside.Verify(r.Context(), keptOutside...)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		chainReport
		Consent    chainReport `json:"consent"`
		Disclosure chainReport `json:"disclosure"`
	}{chainReport(acts), chainReport(consents), chainReport(outside)})
	return nil
}

// maxTail is how many entries of the audit record are read at once.
const maxTail = 1000

func (l *Local) auditTail(w http.ResponseWriter, r *http.Request) error {
	n := 20
	if s := r.URL.Query().Get("n"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 || n > maxTail {
			return &problem.Error{Kind: problem.Invalid, Op: "api.local", Title: "That number of entries cannot be shown", Hint: "n is between 1 and 1000."}
		}
	}
	entries, err := l.api.audit.Tail(r.Context(), n)
	if err != nil {
		return err
	}
	people := map[ident.UserID]bool{}
	for _, e := range entries {
		people[e.Actor], people[e.Subject] = true, true
	}
	delete(people, 0)
	if err := l.api.consent.Excepted(r.Context(), consent.ActRecordRead, 0, "socket", slices.Sorted(maps.Keys(people))...); err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		Entries []audit.Entry `json:"entries"`
	}{append([]audit.Entry{}, entries...)})
	return nil
}

// sweep removes at once what the box would remove in time.
func (l *Local) sweep(w http.ResponseWriter, r *http.Request) error {
	if err := l.api.guardian.Settle(r.Context()); err != nil {
		return err
	}
	swept, err := l.api.ingest.Sweep(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		Uploads int   `json:"uploads"`
		Blobs   int   `json:"blobs"`
		Bytes   int64 `json:"bytes"`
	}{swept.Uploads, swept.Blobs, swept.Bytes})
	return nil
}

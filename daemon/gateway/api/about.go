package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

func (a *API) registerAbout() {
	register(a, route{
		Method: "GET", Path: "/.well-known/yunbox", ID: "describe-box", Tag: "box",
		Summary:     "What answers here",
		Description: "Public. Compare `fingerprint` (or the six words) with the label before you send a secret.",
	}, httpd.Public, a.describeBox)

	stream[struct{}, struct{}](a, route{
		Method: "GET", Path: "/ca.crt", ID: "get-ca", Tag: "box", Status: 200,
		Summary: "The certificate authority of this box, in PEM",
	}, httpd.Public, "/ca.crt", map[string]*huma.Response{"200": {
		Description: "PEM",
		Content:     map[string]*huma.MediaType{"application/x-pem-file": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}, a.serveCA)
	stream[struct{}, struct{}](a, route{
		Method: "GET", Path: "/v1/openapi.json", ID: "get-openapi", Tag: "box", Status: 200,
		Summary: "This document",
	}, httpd.Public, "/v1/openapi.json", map[string]*huma.Response{"200": {
		Description: "OpenAPI 3.1",
		Content:     map[string]*huma.MediaType{"application/vnd.oai.openapi+json;version=3.1": {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
	}}, a.serveOpenAPI)
	register(a, route{
		Method: "GET", Path: "/healthz", ID: "get-health", Tag: "box",
		Summary: "Whether the box can take and keep files right now",
	}, httpd.Public, a.health)
	register(a, route{
		Method: "GET", Path: "/readyz", ID: "get-readiness", Tag: "box",
		Summary:     "Whether the box does its work right now: takes changes of its catalogue, and writes to its disk",
		Description: "503 with what is wrong while it does not. The box looks at most every two seconds, however many ask.",
	}, httpd.Public, a.ready)
	stream[struct{}, struct{}](a, route{
		Method: "GET", Path: "/metrics", ID: "get-metrics", Tag: "box", Status: 200,
		Summary: "Figures for Prometheus; for the box itself and for admins",
	}, httpd.Public, "/metrics", map[string]*huma.Response{"200": {
		Description: "Prometheus text format",
		Content:     map[string]*huma.MediaType{"text/plain; version=0.0.4": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}, a.serveMetrics)
}

type boxAnswer struct {
	Body BoxDescription
}

// BoxDescription is the public description of a box.
type BoxDescription struct {
	Name           string   `json:"name" doc:"As people see it"`
	ID             string   `json:"id" doc:"80 bits of the key's hash, base32: the id of the mDNS record"`
	Bound          bool     `json:"bound" doc:"Whether it has an owner"`
	State          string   `json:"state" enum:"u,b" doc:"u: unbound, b: bound; as in the mDNS record"`
	API            string   `json:"api" doc:"Base path of this interface"`
	Fingerprint    string   `json:"fingerprint" doc:"base64url SHA-256 of the public key of the box's authority"`
	Words          []string `json:"words" minItems:"6" maxItems:"6" doc:"The fingerprint as six words, to compare by eye"`
	PolicyRevision string   `json:"policy_revision" doc:"The privacy policy in force"`
	Version        string   `json:"version" doc:"Version of the software"`
	Gate           bool     `json:"gate" doc:"There are announcements to read, or services to sign in with: GET /v1/announcements, GET /v1/sign-in"`
}

func (a *API) describeBox(ctx context.Context, _ *struct{}) (*boxAnswer, error) {
	bound := a.accounts.Bound(ctx)
	words := a.identity.Words()
	d := BoxDescription{
		Name: a.box.Name(), ID: a.identity.ID(), Bound: bound, State: "u", API: "/v1",
		Fingerprint: a.identity.Fingerprint(), Words: words[:],
		PolicyRevision: a.consent.Policy().Revision, Version: a.box.Version,
	}
	if bound {
		d.State = "b"
		told, err := a.incidents.Published(ctx)
		if err != nil {
			return nil, err
		}
		d.Gate = len(told) > 0 || len(a.elsewhere.Services()) > 0
	}
	return &boxAnswer{Body: d}, nil
}

func (a *API) serveCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="yunbox-ca.crt"`)
	w.Write(a.identity.CertificatePEM())
}

type healthAnswer struct {
	Body struct {
		OK bool `json:"ok"`
	} `nameHint:"Health"`
}

// health fails once the box cannot take anything new: such a box keeps what it has
// and must not be given more.
func (a *API) health(context.Context, *struct{}) (*healthAnswer, error) {
	hint := "Look after the disk; `yunboxctl status` tells more."
	switch a.diskState() {
	case diskReadOnly:
		return nil, &problem.Error{
			Kind: problem.Unavailable, Op: "api.health", Title: "The box's disk can only be read", Err: a.store.Err(),
			Detail: "The box takes nothing new; what it acknowledged before stays readable.", Hint: hint,
		}
	case diskFailed:
		return nil, &problem.Error{
			Kind: problem.Unavailable, Op: "api.health", Title: "The disk has failed", Err: errors.Join(a.store.Err(), a.db.Err()),
			Detail: "The box takes nothing new; what it acknowledged before stays readable.", Hint: hint,
		}
	}
	out := &healthAnswer{}
	out.Body.OK = true
	return out, nil
}

// What Care.Disk says.
const (
	diskOK       = "ok"
	diskReadOnly = "read-only" // until it can be written again
	diskFailed   = "failed"    // until the box was restarted
)

// diskState says whether files and records can be written.
func (a *API) diskState() string {
	err := errors.Join(a.store.Err(), a.db.Err())
	switch {
	case err == nil:
		return diskOK
	case errors.Is(err, storage.ErrReadOnly):
		return diskReadOnly
	}
	return diskFailed
}

package update

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/update/install"
	"yunbox.local/storage/vfs"
)

const maxBody = 4 << 10 // of a question

type handler func(w http.ResponseWriter, r *http.Request, by Who) error

// Register mounts the operations for who manages the box, and what the box offers to
// others, and writes them down in doc.
func (r *Room) Register(server *httpd.Server, doc *huma.OpenAPI) {
	handle := func(access httpd.Access, word, method, path, id, summary, text string, body *huma.RequestBody, answer *huma.Response, do handler) {
		server.Handle(method+" "+path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			p, _ := httpd.PrincipalFrom(req.Context())
			if err := do(w, req, Who{p.User, "http"}); err != nil {
				httpd.WriteProblem(w, req, err)
			}
		}), access)
		op := &huma.Operation{
			Method: method, Path: path, OperationID: id, Tags: []string{"update"}, Summary: summary, Description: text, RequestBody: body,
			Extensions: map[string]any{"x-access": word},
			Responses: map[string]*huma.Response{
				"200": answer,
				"default": {
					Description: "What went wrong and what to do about it (RFC 9457)",
					Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
				},
			},
		}
		op.Security = []map[string][]string{}
		if access != httpd.Public {
			op.Security = []map[string][]string{{"session": {}}, {"bearer": {}}, {"basic": {}}}
		}
		if step := httpd.StepUp(method + " " + path); step != 0 {
			op.Extensions["x-step-up"] = "always"
		}
		doc.AddOperation(op)
	}
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[State](), true, "")
	state := &huma.Response{Description: "How the box's software stands", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	file := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	which := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
		Type: huma.TypeObject, Required: []string{"counter"}, Properties: map[string]*huma.Schema{"counter": {Type: huma.TypeInteger, Description: "Of the release that waits, as it was shown"}},
	}}}}
	handle(httpd.AdminOnly, "admin", http.MethodGet, "/v1/update", "show-update", "How the box's software stands", "", nil, state, r.serveState)
	handle(httpd.AdminOnly, "admin", http.MethodPut, "/v1/update/bundle", "send-update", "Give the box an update",
		"It is verified while it comes; nothing changes before it is installed.", &huma.RequestBody{Required: true, Content: file}, state, r.serveTake)
	handle(httpd.AdminOnly, "admin", http.MethodDelete, "/v1/update/bundle", "discard-update", "Throw away the update that waits", "", nil, state, r.serveDiscard)
	handle(httpd.AdminOnly, "admin", http.MethodPost, "/v1/update/install", "install-update", "Install the update that waits",
		"The box restarts, tries the new version out, and goes back by itself if that does not prove itself.", which, state, r.serveInstall)
	handle(httpd.AdminOnly, "admin", http.MethodPost, "/v1/update/rollback", "roll-back", "Go back to the version before", "", nil, state, r.serveRollback)
	handle(httpd.Public, "public", http.MethodGet, "/v1/update/offer", "offer-update", "The update that this box was given last",
		"As its maker signed it, for another box of the same kind. Nothing of anybody is in it.", nil, &huma.Response{Description: "The bundle", Content: file}, r.serveOffer)
	doc.Tags = append(doc.Tags, &huma.Tag{Name: "update", Description: "The box's own software"})
}

// Routes mounts the maintenance operations.
func (r *Room) Routes(handle func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	local := func(pattern string, do handler) {
		handle(pattern, func(w http.ResponseWriter, req *http.Request) error { return do(w, req, Who{Via: "socket"}) })
	}
	local("GET /local/update", r.serveState)
	local("PUT /local/update/bundle", r.serveTake)
	local("DELETE /local/update/bundle", r.serveDiscard)
	local("POST /local/update/fetch", r.serveFetch)
	local("POST /local/update/install", r.serveInstall)
	local("POST /local/update/rollback", r.serveRollback)
}

func (r *Room) serveState(w http.ResponseWriter, req *http.Request, _ Who) error {
	s, err := r.State(req.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, s)
	return nil
}

func (r *Room) serveTake(w http.ResponseWriter, req *http.Request, by Who) error {
	if _, err := r.Take(req.Context(), by, req.Body); err != nil {
		return err
	}
	return r.serveState(w, req, by)
}

func (r *Room) serveDiscard(w http.ResponseWriter, req *http.Request, by Who) error {
	if err := r.Discard(req.Context(), by); err != nil {
		return err
	}
	return r.serveState(w, req, by)
}

// serveFetch is for root alone: whoever names an address has the box knock there.
func (r *Room) serveFetch(w http.ResponseWriter, req *http.Request, by Who) error {
	var in struct {
		URL string `json:"url"`
		Box bool   `json:"box"`
	}
	if err := httpd.ReadJSON(w, req, &in, maxBody); err != nil {
		return err
	}
	if _, err := r.Fetch(req.Context(), by, in.URL, in.Box); err != nil {
		return err
	}
	return r.serveState(w, req, by)
}

func (r *Room) serveInstall(w http.ResponseWriter, req *http.Request, by Who) error {
	var in struct {
		Counter int64 `json:"counter"`
	}
	if err := httpd.ReadJSON(w, req, &in, maxBody); err != nil {
		return err
	}
	if err := r.Install(req.Context(), by, in.Counter); err != nil {
		return err
	}
	return r.serveState(w, req, by)
}

func (r *Room) serveRollback(w http.ResponseWriter, req *http.Request, by Who) error {
	if err := r.Rollback(req.Context(), by); err != nil {
		return err
	}
	return r.serveState(w, req, by)
}

// offers is how many others may fetch at a time.
const offers = 2

func (r *Room) serveOffer(w http.ResponseWriter, req *http.Request, _ Who) error {
	select {
	case r.offering <- struct{}{}:
		defer func() { <-r.offering }()
	default:
		return &problem.Error{Kind: problem.Unavailable, Op: "update.offer", Title: "Others fetch the update just now", Hint: "Try again in a moment."}
	}
	f, err := r.opt.State.OpenFile(install.OfferedFile, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &problem.Error{Kind: problem.NotFound, Op: "update.offer", Title: "This box has no update to give", Detail: "It has its software from a package.", Hint: "Get the update from the maker."}
	} else if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	if _, err := io.Copy(w, f); err != nil {
		r.opt.Log.Debug("an update was not fetched to its end", "err", err)
	}
	return nil
}

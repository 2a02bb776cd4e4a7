package api

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// A route is what every operation must say about itself. There is no way to
// register one without an access level: the zero route does not compile into a
// pattern, and the access is an argument of its own.
type route struct {
	Method, Path string // OpenAPI template: /v1/items/{id}
	ID, Tag      string // operationId, and the heading it stands under
	Summary      string
	Description  string
	Status       int   // of success; 0: 200, or 204 without a body
	MaxBody      int64 // bytes of a JSON body; 0: 64 KiB
}

// maxJSON is the size of a JSON body that no ordinary operation needs to exceed.
const maxJSON = 64 << 10

// register adds one JSON operation: its route, its access and its place in the
// OpenAPI document come from the same call.
func register[I, O any](a *API, rt route, access httpd.Access, h func(context.Context, *I) (*O, error)) {
	huma.Register(a.json, a.operation(rt, access), func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, &failure{err}
		}
		return out, nil
	})
}

// stream adds an operation whose bodies are not JSON. The handler is a plain
// one; I and O only describe it in the OpenAPI document. pattern is the path as
// http.ServeMux writes it.
func stream[I, O any](a *API, rt route, access httpd.Access, pattern string, responses map[string]*huma.Response, h http.HandlerFunc) {
	op := a.operation(rt, access)
	for status, response := range responses {
		op.Responses[status] = response
	}
	huma.Register(a.paper, op, func(context.Context, *I) (*O, error) { return nil, nil }) // never called
	a.server.Handle(rt.Method+" "+pattern, h, access)
}

// accessKey is where an operation carries its httpd.Access.
const accessKey = "access"

func (a *API) operation(rt route, access httpd.Access) huma.Operation {
	if rt.MaxBody == 0 {
		rt.MaxBody = maxJSON
	}
	extensions := map[string]any{"x-access": accessName(access)}
	switch httpd.StepUp(rt.Method + " " + rt.Path) {
	case account.Always:
		extensions["x-step-up"] = "always"
	case account.WithFactor:
		extensions["x-step-up"] = "with-second-factor"
	}
	return huma.Operation{
		Method: rt.Method, Path: rt.Path, OperationID: rt.ID, Tags: []string{rt.Tag},
		Summary: rt.Summary, Description: rt.Description, DefaultStatus: rt.Status,
		MaxBodyBytes:    rt.MaxBody,
		BodyReadTimeout: -1, // httpd watches every body for progress instead
		Metadata:        map[string]any{accessKey: access},
		Security:        security(access),
		Extensions:      extensions,
		Responses:       map[string]*huma.Response{"default": ProblemResponse()},
	}
}

// security is the OpenAPI requirement of an access level.
func security(access httpd.Access) []map[string][]string {
	if access == httpd.Public {
		return []map[string][]string{}
	}
	return []map[string][]string{{"session": {}}, {"bearer": {}}, {"basic": {}}}
}

// accessName is x-access in the OpenAPI document: what OpenAPI's own security
// requirements cannot say.
func accessName(access httpd.Access) string {
	switch access {
	case httpd.Public:
		return "public"
	case httpd.Files:
		return "files"
	case httpd.AdminOnly:
		return "admin"
	case httpd.SignedIn:
		return "signed-in"
	}
	panic("api: an access level that httpd does not have")
}

// ProblemResponse is the answer that every operation may give instead of the
// one it promises: a problem document (RFC 9457).
func ProblemResponse() *huma.Response {
	return &huma.Response{
		Description: "What went wrong and what to do about it (RFC 9457)",
		Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: schemaPrefix + "Problem"}},
		},
	}
}

// hallway lets huma put its operations into the front hall.
type hallway struct{ server *httpd.Server }

func (h hallway) Handle(op *huma.Operation, handler func(huma.Context)) {
	access := op.Metadata[accessKey].(httpd.Access) // a panic at start, never an open door
	h.server.Handle(op.Method+" "+op.Path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{w: w}
		e.r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e))
		e.humaContext = humago.NewContext(op, e.r, w)
		w.Header().Set("Cache-Control", "no-store")
		handler(e)
	}), access)
}

func (h hallway) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.server.ServeHTTP(w, r) }

// paper takes operations that are only written down.
type paper struct{}

func (paper) Handle(*huma.Operation, func(huma.Context))       {}
func (paper) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

type exchangeKey struct{}

// exchangeOf returns the HTTP request and its answer behind a JSON operation.
func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// failure carries an error of ours through huma, which wants a status with it.
type failure struct{ err error }

func (f *failure) Error() string  { return f.err.Error() }
func (f *failure) Unwrap() error  { return f.err }
func (f *failure) GetStatus() int { return problem.As(f.err).Kind.Status() }

// humaContext is embedded under a name that leaves room for its method Context.
type humaContext = huma.Context

// exchange is huma's view of one request. Once a problem was written, it
// swallows what huma would write after it.
type exchange struct {
	humaContext
	w       http.ResponseWriter
	r       *http.Request
	refused bool
}

func (e *exchange) SetStatus(code int) {
	if !e.refused {
		e.humaContext.SetStatus(code)
	}
}

func (e *exchange) BodyWriter() io.Writer {
	if e.refused {
		return io.Discard
	}
	return lastWord{e.w}
}

// lastWord writes an answer to a client that may be gone by now. Then there is
// nobody to tell, and it is no fault of ours that huma should panic for.
type lastWord struct{ w io.Writer }

func (l lastWord) Write(b []byte) (int, error) {
	l.w.Write(b)
	return len(b), nil
}

// writeProblems is the huma.Transformer through which every error passes, ours
// and those that huma finds itself: all of them leave by httpd.WriteProblem, so
// that there is one form of error and one place that logs it.
func writeProblems(ctx huma.Context, _ string, v any) (any, error) {
	var err error
	switch v := v.(type) {
	case *failure:
		err = v.err
	case *huma.ErrorModel:
		err = refusal(v)
	default:
		return v, nil
	}
	e := ctx.(*exchange)
	e.refused = true
	httpd.WriteProblem(e.w, e.r, err)
	return nil, nil
}

// fieldError says which part of a request does not hold, and why. It repeats no
// value: it may be a password.
type fieldError struct {
	Location string `json:"location" doc:"Where: body.device.name, query.limit, path.id"`
	Message  string `json:"message" doc:"What is expected there"`
}

// refusal turns what huma found into a problem of ours.
func refusal(m *huma.ErrorModel) error {
	e := &problem.Error{Kind: problem.Invalid, Op: "api.request", Detail: m.Detail, Hint: "Compare the request with /v1/openapi.json."}
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		e.Kind = problem.TooLarge
	case http.StatusUnsupportedMediaType:
		e.Kind = problem.UnsupportedMedia
	case http.StatusRequestTimeout:
		e.Kind = problem.Canceled
	}
	if m.Status >= http.StatusInternalServerError {
		e.Kind, e.Detail, e.Hint = problem.Internal, "", ""
	}
	var fields []fieldError
	for _, d := range m.Errors {
		fields = append(fields, fieldError{Location: d.Location, Message: d.Message})
	}
	if e.Kind == problem.Invalid && len(fields) > 0 {
		e.Detail = "One field is not as expected."
		if len(fields) > 1 {
			e.Detail = strconv.Itoa(len(fields)) + " fields are not as expected."
		}
		e.Members = map[string]any{"errors": fields}
	}
	return e
}

package api

import (
	"context"
	"net/http"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/requests"
)

func (a *API) registerRequests() {
	register(a, route{
		Method: "POST", Path: "/v1/requests", ID: "write-request", Tag: "rights", Status: 201,
		Summary: "Ask, request or complain about personal data",
		Description: "With an account or without. Whether who wrote it had signed in is recorded. It is answered within 15 working days, and the answer says until when. " +
			"Who has no account gets a `code` to read the answer with; how many may write at once is bounded.",
	}, httpd.Public, a.writeRequest)
	register(a, route{
		Method: "POST", Path: "/v1/requests/read", ID: "read-request", Tag: "rights", Status: 200, Summary: "The request of somebody without an account, and its answer, by its code",
	}, httpd.Public, a.readRequest)
	register(a, route{
		Method: "GET", Path: "/v1/me/requests", ID: "list-my-requests", Tag: "rights", Summary: "The asker's requests and their answers, the newest first",
	}, httpd.SignedIn, func(ctx context.Context, _ *struct{}) (*requestsAnswer, error) {
		list, err := a.requests.Mine(ctx, principal(ctx).User)
		return requestsOf(list, nil), err
	})
	register(a, route{
		Method: "GET", Path: "/v1/requests", ID: "list-requests", Tag: "rights", Summary: "Everybody's requests: those that wait, the most urgent first; or those that are closed",
	}, httpd.AdminOnly, a.allRequests)
	register(a, route{
		Method: "PUT", Path: "/v1/requests/{id}/answer", ID: "answer-request", Tag: "rights", Status: 204, Summary: "Answer a request, or say why it is refused",
	}, httpd.AdminOnly, func(ctx context.Context, in *answerInput) (*struct{}, error) {
		return nil, a.requests.Answer(ctx, account.As(principal(ctx), "http"), in.ID.ID, in.Body.Refuse, in.Body.Text)
	})
}

// RequestEntry is a request about personal data.
type RequestEntry struct {
	ID       requests.ID `json:"id"`
	From     *string     `json:"from" doc:"User name of who wrote it; null: the asker, or somebody without an account"`
	Kind     string      `json:"kind" enum:"question,access,correction,deletion,complaint,other"`
	Text     string      `json:"text"`
	Contact  *string     `json:"contact"`
	Verified bool        `json:"verified" doc:"Who wrote it had signed in"`
	Received moment      `json:"received"`
	Due      string      `json:"due" format:"date" doc:"The last day for an answer: 15 working days"`
	Overdue  bool        `json:"overdue"`
	State    string      `json:"state" enum:"open,answered,refused"`
	Answer   *string     `json:"answer"`
	Closed   *moment     `json:"closed,omitempty"`
}

func requestEntry(q requests.Request) RequestEntry {
	e := RequestEntry{ID: q.ID, Kind: q.Kind, Text: q.Text, Contact: orNull(q.Contact), Verified: q.Verified, Received: moment(q.Received), Due: q.Due, Overdue: q.Overdue,
		State: q.State, Answer: orNull(q.Answer)}
	if !q.Closed.IsZero() {
		at := moment(q.Closed)
		e.Closed = &at
	}
	return e
}

type requestsAnswer struct {
	Body RequestList
}

// RequestList is a list of requests, and how many wait in all.
type RequestList struct {
	Requests []RequestEntry  `json:"requests"`
	Tally    *requests.Tally `json:"waiting,omitempty" doc:"Everybody's, for admins"`
}

func requestsOf(list []requests.Request, t *requests.Tally) *requestsAnswer {
	out := &requestsAnswer{RequestList{Requests: []RequestEntry{}, Tally: t}}
	for _, q := range list {
		out.Body.Requests = append(out.Body.Requests, requestEntry(q))
	}
	return out
}

type writeRequestInput struct {
	Body struct {
		Kind    string `json:"kind" enum:"question,access,correction,deletion,complaint,other"`
		Text    string `json:"text" maxLength:"8000"`
		Contact string `json:"contact,omitempty" maxLength:"200" doc:"How somebody without an account can be reached"`
	} `nameHint:"RequestText"`
}

type writtenRequest struct {
	Body struct {
		RequestEntry
		Code *string `json:"code" doc:"With which somebody without an account reads the answer; shown once"`
	} `nameHint:"WrittenRequest"`
}

func (a *API) writeRequest(ctx context.Context, in *writeRequestInput) (*writtenRequest, error) {
	p, _ := httpd.PrincipalFrom(ctx)
	if p.Scope != ident.ScopeFull {
		p = ident.Principal{} // an app's token does not speak for its person
	}
	q, code, err := a.requests.Write(ctx, p, httpd.Remote(exchangeOf(ctx).r), requests.Wish{Kind: in.Body.Kind, Text: in.Body.Text, Contact: in.Body.Contact})
	if err != nil {
		return nil, err
	}
	out := &writtenRequest{}
	out.Body.RequestEntry, out.Body.Code = requestEntry(q), orNull(code)
	return out, nil
}

type readRequestInput struct {
	Body struct {
		Code string `json:"code" maxLength:"128"`
	} `nameHint:"RequestCode"`
}

type requestAnswer struct{ Body RequestEntry }

func (a *API) readRequest(ctx context.Context, in *readRequestInput) (*requestAnswer, error) {
	if wait, ok := a.codes.Take(time.Now(), httpd.Remote(exchangeOf(ctx).r)); !ok {
		return nil, &problem.Error{Kind: problem.RateLimited, Op: "api.request", RetryAfter: wait, Title: "Too many codes in a short time", Hint: "Wait a while, then try again."}
	}
	q, err := a.requests.Read(ctx, in.Body.Code)
	if err != nil {
		return nil, err
	}
	return &requestAnswer{requestEntry(q)}, nil
}

type allRequestsInput struct {
	Closed bool `query:"closed"`
}

func (a *API) allRequests(ctx context.Context, in *allRequestsInput) (*requestsAnswer, error) {
	return a.requestList(ctx, in.Closed)
}

func (a *API) requestList(ctx context.Context, closed bool) (*requestsAnswer, error) {
	list, err := a.requests.All(ctx, closed)
	if err != nil {
		return nil, err
	}
	t, err := a.requests.Tally(ctx)
	if err != nil {
		return nil, err
	}
	out := requestsOf(list, &t)
	for i, q := range list {
		if q.User == 0 {
			continue
		}
		u, err := a.accounts.User(ctx, q.User)
		if err != nil && problem.KindOf(err) != problem.NotFound {
			return nil, err
		}
		out.Body.Requests[i].From = orNull(u.Username)
	}
	return out, nil
}

type answerInput struct {
	ID   idParam[requests.ID] `path:"id"`
	Body struct {
		Text   string `json:"text" maxLength:"8000"`
		Refuse bool   `json:"refuse,omitempty"`
	} `nameHint:"RequestAnswer"`
}

func (l *Local) requests(w http.ResponseWriter, r *http.Request) error {
	out, err := l.api.requestList(r.Context(), r.URL.Query().Get("closed") == "true")
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, out.Body)
	return nil
}

func (l *Local) answerRequest(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Text   string `json:"text"`
		Refuse bool   `json:"refuse"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	id, err := ident.Parse[requests.ID](r.PathValue("id"))
	if err != nil {
		return &problem.Error{Kind: problem.NotFound, Op: "api.local", Title: "There is no such request", Hint: "`yunboxctl request list` lists them."}
	}
	if err := l.api.requests.Answer(r.Context(), actor(), id, in.Refuse, in.Text); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

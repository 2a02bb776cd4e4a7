package api

import (
	"context"
	"net/http"
	"time"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/incident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerIncidents() {
	const all, one = "/v1/incidents", "/v1/incidents/{id}"
	register(a, route{
		Method: "GET", Path: "/v1/announcements", ID: "list-announcements", Tag: "incidents",
		Summary:     "Incidents that were published, because not everybody could be told otherwise",
		Description: "For everybody who opens the page, for 90 days or until whoever runs the box ends it.",
	}, httpd.Public, a.announcements)
	register(a, route{
		Method: "GET", Path: "/v1/me/incidents", ID: "list-my-incidents", Tag: "incidents",
		Summary: "Incidents that concern the asker, the newest first",
	}, httpd.SignedIn, a.myIncidents)
	register(a, route{
		Method: "POST", Path: "/v1/me/incidents/{id}/seen", ID: "see-incident", Tag: "incidents",
		Summary: "Say that the asker has read what they were sent",
	}, httpd.SignedIn, func(ctx context.Context, in *incidentInput) (*struct{}, error) {
		return nil, a.incidents.Seen(ctx, principal(ctx).User, in.ID.ID)
	})
	register(a, route{
		Method: "GET", Path: all, ID: "list-incidents", Tag: "incidents", Summary: "Incidents, drafts among them, the newest first",
	}, httpd.AdminOnly, func(ctx context.Context, _ *struct{}) (*incidentsAnswer, error) { return a.incidentList(ctx) })
	register(a, route{
		Method: "GET", Path: one, ID: "get-incident", Tag: "incidents", Summary: "An incident, and how each person concerned was told",
	}, httpd.AdminOnly, func(ctx context.Context, in *incidentInput) (*incidentAnswer, error) {
		return a.incident(ctx, in.ID.ID)
	})
	register(a, route{
		Method: "POST", Path: all, ID: "draft-incident", Tag: "incidents", Status: 201,
		Summary: "Write down an incident as a draft, which nobody else sees",
	}, httpd.AdminOnly, func(ctx context.Context, in *draftInput) (*incidentAnswer, error) {
		return a.writeIncident(ctx, by(ctx), 0, in.Body)
	})
	register(a, route{
		Method: "PUT", Path: one, ID: "change-incident", Tag: "incidents", Summary: "Change a draft",
	}, httpd.AdminOnly, func(ctx context.Context, in *changeDraftInput) (*incidentAnswer, error) {
		return a.writeIncident(ctx, by(ctx), in.ID.ID, in.Body)
	})
	register(a, route{
		Method: "DELETE", Path: one, ID: "remove-incident", Tag: "incidents", Summary: "Remove a draft",
	}, httpd.AdminOnly, func(ctx context.Context, in *incidentInput) (*struct{}, error) {
		return nil, a.incidents.Remove(ctx, by(ctx), in.ID.ID)
	})
	register(a, route{
		Method: "POST", Path: one + "/send", ID: "send-incident", Tag: "incidents",
		Summary: "Send a draft to the people whom it concerns",
		Description: "They find it on the page until they have read it, and get an e-mail if there is a mail server and they gave an address. " +
			"With `publish` everybody who opens the page sees it at once; else if somebody could not be reached within three days. What was sent cannot be changed.",
	}, httpd.AdminOnly, func(ctx context.Context, in *sendInput) (*incidentAnswer, error) {
		if _, err := a.incidents.Send(ctx, by(ctx), in.ID.ID, in.Body.Publish); err != nil {
			return nil, err
		}
		return a.incident(ctx, in.ID.ID)
	})
	register(a, route{
		Method: "DELETE", Path: one + "/publication", ID: "end-announcement", Tag: "incidents", Summary: "Take a published incident off the page",
	}, httpd.AdminOnly, func(ctx context.Context, in *incidentInput) (*struct{}, error) {
		return nil, a.incidents.End(ctx, by(ctx), in.ID.ID)
	})
}

// by is who asks, for the records.
func by(ctx context.Context) incident.By {
	p := principal(ctx)
	return incident.By{User: p.User, Device: p.Device, Via: "http"}
}

// IncidentDraft is what whoever runs the box writes.
type IncidentDraft struct {
	Happened moment                   `json:"happened" doc:"When it happened, or was noticed"`
	Contact  string                   `json:"contact" maxLength:"200" doc:"Whom to ask"`
	Text     map[string]incident.Text `json:"text" doc:"By language: en, zh; one of them is enough"`
	Scope    incident.Scope           `json:"scope" doc:"Whom it concerns: everyone, people, or touched"`
}

type draftInput struct{ Body IncidentDraft }

type changeDraftInput struct {
	ID   idParam[ident.ItemID] `path:"id"`
	Body IncidentDraft
}

type incidentInput struct {
	ID idParam[ident.ItemID] `path:"id"`
}

type sendInput struct {
	ID   idParam[ident.ItemID] `path:"id"`
	Body struct {
		Publish bool `json:"publish" doc:"Show it at once to everybody who opens the page"`
	} `nameHint:"IncidentSending"`
}

// IncidentInfo is an incident for whoever runs the box.
type IncidentInfo struct {
	ID ident.ItemID `json:"id"`
	IncidentDraft
	Created   moment         `json:"created"`
	Sent      *moment        `json:"sent" nullable:"true" doc:"null: a draft"`
	Published *moment        `json:"published" nullable:"true" doc:"Since when it is on the page; null: it is not"`
	Ended     *moment        `json:"ended" nullable:"true" doc:"Since when it is not any more"`
	Reach     incident.Reach `json:"reach"`
	People    []ToldPerson   `json:"people" doc:"Whom it was sent to; empty in a list"`
}

// ToldPerson is somebody whom an incident concerns.
type ToldPerson struct {
	User     ident.UserID `json:"user"`
	Username string       `json:"username"`
	Seen     *moment      `json:"seen" nullable:"true" doc:"When they had read it; null: not yet"`
	Mail     string       `json:"mail" enum:"none,waiting,sent,failed" doc:"none: they gave no address, or there is no mail server"`
	Mailed   *moment      `json:"mailed" nullable:"true"`
}

type incidentAnswer struct{ Body IncidentInfo }

type incidentsAnswer struct {
	Body struct {
		Incidents []IncidentInfo `json:"incidents"`
	} `nameHint:"Incidents"`
}

func incidentInfo(i incident.Incident) IncidentInfo {
	return IncidentInfo{
		ID: i.ID, IncidentDraft: IncidentDraft{Happened: moment(i.Happened), Contact: i.Contact, Text: i.Text, Scope: i.Scope},
		Created: moment(i.Created), Sent: momentOrNull(i.Sent), Published: momentOrNull(i.Published), Ended: momentOrNull(i.Ended), Reach: i.Reach, People: []ToldPerson{},
	}
}

func (a *API) writeIncident(ctx context.Context, by incident.By, id ident.ItemID, d IncidentDraft) (*incidentAnswer, error) {
	i, err := a.incidents.Write(ctx, by, id, incident.Draft{Happened: time.Time(d.Happened), Contact: d.Contact, Text: d.Text, Scope: d.Scope})
	if err != nil {
		return nil, err
	}
	return &incidentAnswer{incidentInfo(i)}, nil
}

func (a *API) incidentList(ctx context.Context) (*incidentsAnswer, error) {
	list, err := a.incidents.List(ctx)
	out := &incidentsAnswer{}
	out.Body.Incidents = make([]IncidentInfo, 0, len(list))
	for _, i := range list {
		out.Body.Incidents = append(out.Body.Incidents, incidentInfo(i))
	}
	return out, err
}

func (a *API) incident(ctx context.Context, id ident.ItemID) (*incidentAnswer, error) {
	i, err := a.incidents.One(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &incidentAnswer{incidentInfo(i)}
	told, err := a.incidents.Told(ctx, id)
	if err != nil || len(told) == 0 {
		return out, err
	}
	people, err := a.accounts.Users(ctx)
	if err != nil {
		return nil, err
	}
	names := map[ident.UserID]string{}
	for _, u := range people {
		names[u.ID] = u.Username
	}
	for _, t := range told {
		out.Body.People = append(out.Body.People, ToldPerson{User: t.User, Username: names[t.User], Seen: momentOrNull(t.Seen), Mail: t.Mail, Mailed: momentOrNull(t.Mailed)})
	}
	return out, nil
}

// IncidentNotice is what people read.
type IncidentNotice struct {
	ID       ident.ItemID             `json:"id"`
	Happened moment                   `json:"happened"`
	Sent     moment                   `json:"sent"`
	Contact  string                   `json:"contact"`
	Text     map[string]incident.Text `json:"text" doc:"By language: en, zh"`
	Seen     *moment                  `json:"seen" nullable:"true" doc:"When the asker had read it; null: not yet"`
}

type noticesOfIncidents struct {
	Body struct {
		Incidents []IncidentNotice `json:"incidents"`
	} `nameHint:"IncidentNotices"`
}

func incidentNotice(i incident.Incident) IncidentNotice {
	return IncidentNotice{ID: i.ID, Happened: moment(i.Happened), Sent: moment(i.Sent), Contact: i.Contact, Text: i.Text}
}

func (a *API) announcements(ctx context.Context, _ *struct{}) (*noticesOfIncidents, error) {
	list, err := a.incidents.Published(ctx)
	out := &noticesOfIncidents{}
	out.Body.Incidents = make([]IncidentNotice, 0, len(list))
	for _, i := range list {
		out.Body.Incidents = append(out.Body.Incidents, incidentNotice(i))
	}
	return out, err
}

func (a *API) myIncidents(ctx context.Context, _ *struct{}) (*noticesOfIncidents, error) {
	list, err := a.incidents.Of(ctx, principal(ctx).User)
	out := &noticesOfIncidents{}
	out.Body.Incidents = make([]IncidentNotice, 0, len(list))
	for _, m := range list {
		n := incidentNotice(m.Incident)
		n.Seen = momentOrNull(m.Seen)
		out.Body.Incidents = append(out.Body.Incidents, n)
	}
	return out, err
}

// incidentRoutes are the same for the system's administrator.
func (l *Local) incidentRoutes() {
	root := incident.By{Via: "socket"}
	id := func(r *http.Request) (ident.ItemID, error) {
		id, err := ident.Parse[ident.ItemID](r.PathValue("id"))
		if err != nil {
			return 0, &problem.Error{Kind: problem.NotFound, Op: "api.local", Title: "There is no such notice", Hint: "`yunboxctl incident list` lists them."}
		}
		return id, nil
	}
	l.Handle("GET /local/incidents", func(w http.ResponseWriter, r *http.Request) error {
		list, err := l.api.incidentList(r.Context())
		if err != nil {
			return err
		}
		httpd.WriteJSON(w, http.StatusOK, list.Body)
		return nil
	})
	l.Handle("POST /local/incidents", func(w http.ResponseWriter, r *http.Request) error {
		// People are named by their user names here.
		var in struct {
			IncidentDraft
			Names []string `json:"names"`
		}
		if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
			return err
		}
		for _, name := range in.Names {
			u, err := l.api.accounts.UserNamed(r.Context(), name)
			if err != nil {
				return err
			}
			in.Scope.People = append(in.Scope.People, u.ID)
		}
		i, err := l.api.writeIncident(r.Context(), root, 0, in.IncidentDraft)
		if err != nil {
			return err
		}
		httpd.WriteJSON(w, http.StatusCreated, i.Body)
		return nil
	})
	with := func(do func(w http.ResponseWriter, r *http.Request, id ident.ItemID) error) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error {
			i, err := id(r)
			if err != nil {
				return err
			}
			if err := do(w, r, i); err != nil {
				return err
			}
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusNoContent)
				return nil
			}
			out, err := l.api.incident(r.Context(), i)
			if err != nil {
				return err
			}
			httpd.WriteJSON(w, http.StatusOK, out.Body)
			return nil
		}
	}
	l.Handle("GET /local/incidents/{id}", with(func(http.ResponseWriter, *http.Request, ident.ItemID) error { return nil }))
	l.Handle("POST /local/incidents/{id}/send", with(func(w http.ResponseWriter, r *http.Request, id ident.ItemID) error {
		var in struct {
			Publish bool `json:"publish"`
		}
		if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
			return err
		}
		_, err := l.api.incidents.Send(r.Context(), root, id, in.Publish)
		return err
	}))
	l.Handle("DELETE /local/incidents/{id}", with(func(_ http.ResponseWriter, r *http.Request, id ident.ItemID) error {
		return l.api.incidents.Remove(r.Context(), root, id)
	}))
	l.Handle("DELETE /local/incidents/{id}/publication", with(func(_ http.ResponseWriter, r *http.Request, id ident.ItemID) error {
		return l.api.incidents.End(r.Context(), root, id)
	}))
}

package api

import (
	"context"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
)

func (a *API) registerRevisions() {
	register(a, route{
		Method: "GET", Path: "/v1/policy/revisions", ID: "list-policy-revisions", Tag: "consent",
		Summary: "All revisions of the privacy policy, the newest first, and what each changed",
	}, httpd.Public, a.revisions)
	register(a, route{
		Method: "GET", Path: "/v1/policy/revisions/{revision}", ID: "get-policy-revision", Tag: "consent",
		Summary: "One revision of the privacy policy, as it was",
	}, httpd.Public, a.revision)
	register(a, route{
		Method: "GET", Path: "/v1/policy/changes", ID: "list-policy-changes", Tag: "consent",
		Summary:     "What is new in the privacy policy since the revision that the asker agreed to",
		Description: "Also which purposes that they agreed to have become wider: those are off until they agree again.",
	}, httpd.SignedIn, a.policyChanges)
	register(a, route{
		Method: "GET", Path: "/v1/policy/exceptions", ID: "list-exceptions", Tag: "consent",
		Summary:     "What the box does with people's data without asking them, and the clause that allows it",
		Description: "What of it concerned the asker, and when, is in the category `exceptions` of GET /v1/me/data.",
	}, httpd.Public, a.exceptions)
}

// Revision is a revision of the policy without its text.
type Revision struct {
	Revision string            `json:"revision"`
	Modified moment            `json:"modified"`
	Changes  []string          `json:"changes" doc:"What is new since the revision before, point by point"`
	SHA256   map[string]string `json:"sha256" doc:"Of the text by language; receipts carry the same"`
	Current  bool              `json:"current"`
}

func (a *API) asRevision(p consent.Policy, lang string) Revision {
	r := Revision{
		Revision: p.Revision, Modified: moment(p.Modified), Changes: append([]string{}, p.Changes[lang]...), SHA256: map[string]string{},
		Current: p.Revision == a.consent.Policy().Revision,
	}
	for _, l := range consent.Languages() {
		r.SHA256[l] = p.Digest(l)
	}
	return r
}

// newestFirst turns policies, the oldest first, into revisions.
func (a *API) newestFirst(list []consent.Policy, lang string) []Revision {
	out := make([]Revision, 0, len(list))
	for i := range list {
		out = append(out, a.asRevision(list[len(list)-1-i], lang))
	}
	return out
}

type revisionsAnswer struct {
	ContentLanguage string `header:"Content-Language"`
	Body            struct {
		Revisions []Revision `json:"revisions"`
	} `nameHint:"Revisions"`
}

func (a *API) revisions(_ context.Context, in *Localized) (*revisionsAnswer, error) {
	out := &revisionsAnswer{ContentLanguage: in.language()}
	out.Body.Revisions = a.newestFirst(a.consent.Policies(), in.language())
	return out, nil
}

type revisionInput struct {
	Localized
	Revision string `path:"revision" maxLength:"64" example:"1"`
}

type revisionAnswer struct {
	ContentLanguage string `header:"Content-Language"`
	Body            RevisionText
}

// RevisionText is a revision with its text.
type RevisionText struct {
	Revision
	Text string `json:"text" doc:"Markdown"`
	Lang string `json:"lang" enum:"en,zh"`
}

func (a *API) revision(_ context.Context, in *revisionInput) (*revisionAnswer, error) {
	p, err := a.consent.Revision(in.Revision)
	if err != nil {
		return nil, err
	}
	lang := in.language()
	return &revisionAnswer{ContentLanguage: lang, Body: RevisionText{a.asRevision(p, lang), p.Text[lang], lang}}, nil
}

type changesInput struct {
	Localized
	Since string `query:"since" maxLength:"64" doc:"Since this revision; left out: since the one that the asker agreed to"`
}

type changesAnswer struct {
	ContentLanguage string `header:"Content-Language"`
	Body            struct {
		Since     *string    `json:"since" doc:"null: the asker agreed to none"`
		Current   string     `json:"current"`
		Revisions []Revision `json:"revisions" doc:"Those after it, the newest first"`
		Wider     []string   `json:"wider" doc:"Purposes that the asker agreed to and that are wider now"`
	} `nameHint:"PolicyChanges"`
}

func (a *API) policyChanges(ctx context.Context, in *changesInput) (*changesAnswer, error) {
	u := principal(ctx).User
	since, list, err := a.consent.Changes(ctx, u)
	if err == nil && in.Since != "" {
		since = in.Since
		list, err = a.consent.ChangesSince(since)
	}
	if err != nil {
		return nil, err
	}
	state, err := a.consent.State(ctx, u)
	if err != nil {
		return nil, err
	}
	out := &changesAnswer{ContentLanguage: in.language()}
	out.Body.Since, out.Body.Current = orNull(since), a.consent.Policy().Revision
	out.Body.Revisions = a.newestFirst(list, in.language())
	out.Body.Wider = []string{}
	versions := map[consent.Purpose]int{}
	for _, p := range a.consent.Purposes() {
		versions[p.ID] = p.Version
	}
	for _, c := range state {
		if c.Device == 0 && c.State == consent.Suspended && c.PurposeVersion < versions[c.Purpose] {
			out.Body.Wider = append(out.Body.Wider, string(c.Purpose))
		}
	}
	return out, nil
}

// ExceptionText is an act that needs no consent, in one language.
type ExceptionText struct {
	ID     string `json:"id"`
	What   string `json:"what"`
	Clause string `json:"clause" doc:"Of the privacy policy of the box's maker"`
	Basis  string `json:"basis" enum:"law,safety,faults"`
	Each   bool   `json:"each" doc:"Each time is entered for each person concerned; else it goes on all the time"`
}

type exceptionsAnswer struct {
	ContentLanguage string `header:"Content-Language"`
	Body            struct {
		Exceptions []ExceptionText `json:"exceptions"`
	} `nameHint:"Exceptions"`
}

func (a *API) exceptions(_ context.Context, in *Localized) (*exceptionsAnswer, error) {
	out := &exceptionsAnswer{ContentLanguage: in.language()}
	out.Body.Exceptions = []ExceptionText{}
	for _, act := range a.consent.Acts() {
		e := ExceptionText{ID: act.ID, What: act.EN, Clause: act.Clause, Basis: act.Basis, Each: act.Each}
		if in.language() == "zh" {
			e.What = act.ZH
		}
		out.Body.Exceptions = append(out.Body.Exceptions, e)
	}
	return out, nil
}

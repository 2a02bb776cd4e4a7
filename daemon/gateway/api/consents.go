package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/text/language"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerConsents() {
	register(a, route{
		Method: "GET", Path: "/v1/policy", ID: "get-policy", Tag: "consent",
		Summary:     "The privacy policy in force, and whether the asker accepted it",
		Description: "Public: it can be read before there is an account. `accepted` is null for the one who is not signed in.",
	}, httpd.Public, a.policy)
	register(a, route{
		Method: "PUT", Path: "/v1/policy", ID: "accept-policy", Tag: "consent",
		Summary: "Accept or decline the privacy policy",
		Description: "Accepting it is the consent to the core service (purpose `storage`). It grants no other purpose, but what was consented to before under an earlier revision, and did not become wider, goes on. " +
			"Declining it (`accepted` false) ends every consent: what runs stops at once, and what is left is seeing, exporting and deleting what is there. The answer is a receipt either way.",
	}, httpd.SignedIn, a.decidePolicy)
	a.registerRevisions()
	register(a, route{
		Method: "GET", Path: "/v1/purposes", ID: "list-purposes", Tag: "consent",
		Summary: "What the box may process personal data for, each to be consented to by itself",
	}, httpd.Public, a.purposes)
	register(a, route{
		Method: "GET", Path: "/v1/consents", ID: "list-consents", Tag: "consent",
		Summary: "The asker's consents as they stand",
	}, httpd.Files, a.consents)
	register(a, route{
		Method: "PUT", Path: "/v1/consents/{purpose}", ID: "grant-consent", Tag: "consent",
		Summary:     "Consent to a purpose",
		Description: "`policy_revision` is the one that the person has read; another than the current one is refused. The answer is a receipt signed by the box.",
	}, httpd.SignedIn, a.grantConsent)
	register(a, route{
		Method: "DELETE", Path: "/v1/consents/{purpose}", ID: "withdraw-consent", Tag: "consent", Status: 200,
		Summary:     "Withdraw a consent",
		Description: "What runs for this purpose stops at once, uploads in the middle included. What is stored stays until it is deleted.",
	}, httpd.SignedIn, a.withdrawConsent)
	register(a, route{
		Method: "GET", Path: "/v1/consents/receipts", ID: "list-receipts", Tag: "consent",
		Summary:     "The signed receipts of all of the asker's decisions",
		Description: "Newest first, up to 1,000 at a time. `next` of one page is the `cursor` of the following one; only null says that it was the last.",
	}, httpd.SignedIn, func(ctx context.Context, in *ReceiptsPage) (*receiptsAnswer, error) { return a.receipts(ctx, "", in) })
	register(a, route{
		Method: "GET", Path: "/v1/consents/{purpose}/receipts", ID: "list-purpose-receipts", Tag: "consent",
		Summary:     "The signed receipts of the asker's decisions about one purpose",
		Description: "Newest first; see list-receipts.",
	}, httpd.SignedIn, func(ctx context.Context, in *purposeReceiptsInput) (*receiptsAnswer, error) {
		return a.receipts(ctx, in.Purpose, &in.ReceiptsPage)
	})
}

// Localized is embedded by the input of operations that answer in a language.
type Localized struct {
	Lang           string `query:"lang" maxLength:"35" doc:"Language of the answer, en or zh; wins over Accept-Language"`
	AcceptLanguage string `header:"Accept-Language" maxLength:"1024" doc:"Languages that the reader understands (RFC 9110 §12.5.4)"`
}

// language returns "en" or "zh": what the asker names, else what the browser
// prefers, else English.
func (l Localized) language() string {
	supported := []language.Tag{language.English, language.Chinese}
	_, index := language.MatchStrings(language.NewMatcher(supported), l.Lang, l.AcceptLanguage)
	base, _ := supported[index].Base()
	return base.String()
}

type policyAnswer struct {
	ContentLanguage string `header:"Content-Language"`
	Body            PolicyText
}

// PolicyText is the privacy policy in one language.
type PolicyText struct {
	Revision string      `json:"revision"`
	Modified moment      `json:"modified"`
	Text     string      `json:"text" doc:"Markdown"`
	Lang     string      `json:"lang" enum:"en,zh"`
	Changes  []string    `json:"changes" doc:"What is new since the revision before, point by point"`
	Accepted *Acceptance `json:"accepted" doc:"The newest acceptance of the asker, null before the first"`
	Standing *string     `json:"standing" enum:"unasked,accepted,behind,declined" doc:"How the asker stands to this revision; null: nobody is signed in. behind and declined: see the member left of the problem that other operations answer"`
}

// TransformSchema implements huma.SchemaTransformer.
func (PolicyText) TransformSchema(r huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["accepted"] = nullable[Acceptance](r)
	return s
}

// Acceptance says which revision of the policy a person accepted, and when.
type Acceptance struct {
	Revision string `json:"revision"`
	Time     moment `json:"time"`
}

func (a *API) policy(ctx context.Context, in *Localized) (*policyAnswer, error) {
	p, lang, u := a.consent.Policy(), in.language(), principal(ctx).User
	accepted, err := a.acceptance(ctx, u)
	if err != nil {
		return nil, err
	}
	out := &policyAnswer{ContentLanguage: lang, Body: PolicyText{
		Revision: p.Revision, Modified: moment(p.Modified), Text: p.Text[lang], Lang: lang, Changes: p.Changes[lang], Accepted: accepted,
	}}
	if u != 0 {
		out.Body.Standing = orNull(string(a.consent.Standing(u)))
	}
	return out, nil
}

// acceptance returns the acceptance that is in force, nil when there is none.
func (a *API) acceptance(ctx context.Context, u ident.UserID) (*Acceptance, error) {
	if u == 0 {
		return nil, nil
	}
	state, err := a.consent.State(ctx, u)
	if err != nil {
		return nil, err
	}
	for _, c := range state {
		if c.Purpose == consent.Storage && c.Device == 0 && granted(c) {
			return &Acceptance{Revision: c.PolicyRevision, Time: moment(c.Time)}, nil
		}
	}
	return nil, nil
}

func granted(c consent.Consent) bool { return c.State == consent.Granted }

type decideInput struct {
	Way
	Body struct {
		Accepted bool    `json:"accepted" doc:"true: accept; false: decline. Neither is ever meant by leaving it out"`
		Revision string  `json:"revision" doc:"The revision that was read"`
		After    *string `json:"after,omitempty" maxLength:"64" doc:"With accepted true: as in PUT /v1/consents/{purpose}, about the core purpose. A no is always heard"`
		Fourteen *bool   `json:"fourteen,omitempty" doc:"What the person says of being 14 or older. It is asked at the first acceptance; that it was said is all that is kept. Who is younger needs a guardian"`
	} `nameHint:"PolicyDecision"`
}

func (a *API) decidePolicy(ctx context.Context, in *decideInput) (*receiptAnswer, error) {
	d := consent.Decision{Purpose: consent.WholePolicy, PolicyRevision: in.Body.Revision}
	if in.Body.Accepted {
		d.Purpose, d.Granted, d.After = consent.Storage, true, in.Body.After
	}
	p := principal(ctx)
	if says := in.Body.Fourteen; says != nil && p.Role != ident.Child && in.Body.Accepted {
		if !*says {
			return nil, &problem.Error{
				Kind: problem.Forbidden, Op: "api.policy", Title: "Who is under 14 needs a guardian",
				Detail: "This account is one for adults and young people from 14 on. Nothing was accepted.",
				Hint:   "Ask whoever manages the box to add an account for a child, with you and your guardian.",
			}
		}
		if err := a.guardian.Declare(ctx, p); err != nil {
			return nil, err
		}
	}
	return a.record(ctx, in.Way, d)
}

type purposesAnswer struct {
	ContentLanguage string `header:"Content-Language"`
	Body            struct {
		Purposes []PurposeText `json:"purposes"`
	} `nameHint:"Purposes"`
}

// PurposeText describes a purpose in one language.
type PurposeText struct {
	ID        string   `json:"id"`
	Version   int      `json:"version" doc:"Rises when the purpose is widened; consent is then asked for again"`
	Title     string   `json:"title"`
	What      string   `json:"what" doc:"What the box does for it"`
	Without   string   `json:"without" doc:"What happens if one says no"`
	Data      []string `json:"data" doc:"Categories of data"`
	Sensitive bool     `json:"sensitive"`
	Retention string   `json:"retention"`
	Erased    string   `json:"erased" doc:"What is removed when it is withdrawn"`
	Erases    []string `json:"erases" doc:"Categories of GET /v1/me/data that are removed then"`
	Clauses   []string `json:"clauses" doc:"Of the privacy policy of the box's maker that speak of it" example:"[\"1.1\"]"`
	Room      string   `json:"room" doc:"The part of the box that does it"`
	Processor string   `json:"processor" doc:"Who processes the data"`
	Core      bool     `json:"core" doc:"Part of the service itself; every other purpose can be refused without losing it"`
	PerDevice bool     `json:"per_device" doc:"It can be decided for each device apart"`
	Sources   []string `json:"sources" doc:"Values of source that need this purpose"`
	Available bool     `json:"available" doc:"Whether this version of the box does it at all"`
}

func (a *API) purposes(_ context.Context, in *Localized) (*purposesAnswer, error) {
	lang := in.language()
	out := &purposesAnswer{ContentLanguage: lang}
	out.Body.Purposes = []PurposeText{}
	for _, p := range a.consent.Purposes() {
		t := p.Text[lang]
		out.Body.Purposes = append(out.Body.Purposes, PurposeText{
			ID: string(p.ID), Version: p.Version, Title: t.Title, What: t.What, Without: t.Without,
			Data: append([]string{}, t.Data...), Sensitive: p.Sensitive, Retention: t.Retention, Processor: t.Processor,
			Erased: t.Erased, Erases: append([]string{}, p.Erases...), Clauses: append([]string{}, p.Clauses...), Room: p.Room,
			Core: p.Core, PerDevice: p.PerDevice, Sources: append([]string{}, p.Sources...), Available: p.Available,
		})
	}
	return out, nil
}

type consentsAnswer struct {
	Body struct {
		Consents []ConsentState `json:"consents"`
	} `nameHint:"Consents"`
}

// ConsentState is how the decision about a purpose stands, for all devices or
// for one.
type ConsentState struct {
	Purpose        string          `json:"purpose"`
	State          string          `json:"state" enum:"never,granted,withdrawn,suspended" doc:"suspended: granted under a policy or purpose that has changed since"`
	Granted        bool            `json:"granted" doc:"Whether the purpose may be pursued now"`
	Device         *ident.DeviceID `json:"device" doc:"null: all devices"`
	PolicyRevision string          `json:"policy_revision" doc:"Empty before the first decision"`
	Time           *moment         `json:"time" nullable:"true" doc:"null before the first decision"`
	Newest         string          `json:"newest" doc:"record_id of the newest receipt about this purpose, for whichever device, or of declining the policy if that is newer; empty if there is none. A consent that is given on seeing this sends it as after"`
}

func (a *API) consents(ctx context.Context, _ *struct{}) (*consentsAnswer, error) {
	state, err := a.consent.State(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	out := &consentsAnswer{}
	out.Body.Consents = make([]ConsentState, 0, len(state))
	for _, c := range state {
		out.Body.Consents = append(out.Body.Consents, ConsentState{
			Purpose: string(c.Purpose), State: string(c.State), Granted: granted(c), Device: orNull(c.Device),
			PolicyRevision: c.PolicyRevision, Time: momentOrNull(c.Time), Newest: c.Newest,
		})
	}
	return out, nil
}

// OnePurpose is embedded by the input of operations on a purpose.
type OnePurpose struct {
	Purpose string `path:"purpose" maxLength:"64" example:"wechat_backup"`
}

type grantInput struct {
	Way
	OnePurpose
	Body struct {
		Granted        bool            `json:"granted" doc:"true: withdrawing is DELETE"`
		PolicyRevision string          `json:"policy_revision" doc:"The revision that was read"`
		Device         *ident.DeviceID `json:"device,omitempty" doc:"Only for this device; left out: for all"`
		After          *string         `json:"after,omitempty" maxLength:"64" doc:"What newest of this purpose was in GET /v1/consents when the person decided. If it was decided anew since, or the policy was declined, this is refused (conflict): a request that was held up, or is sent again, does not undo a no. Left out: it may"`
	} `nameHint:"ConsentDecision"`
}

func (a *API) grantConsent(ctx context.Context, in *grantInput) (*receiptAnswer, error) {
	if !in.Body.Granted {
		return nil, &problem.Error{
			Kind: problem.Invalid, Op: "api.consent", Title: "A consent is withdrawn by DELETE",
			Hint: "Send \"granted\": true to consent, or DELETE /v1/consents/" + in.Purpose + " to withdraw.",
		}
	}
	d := consent.Decision{Purpose: consent.Purpose(in.Purpose), Granted: true, PolicyRevision: in.Body.PolicyRevision, After: in.Body.After}
	if in.Body.Device != nil {
		d.Device = *in.Body.Device
	}
	return a.record(ctx, in.Way, d)
}

type withdrawInput struct {
	Way
	OnePurpose
	Device idParam[ident.DeviceID] `query:"device" doc:"Only for this device; left out: for all"`
}

func (a *API) withdrawConsent(ctx context.Context, in *withdrawInput) (*receiptAnswer, error) {
	return a.record(ctx, in.Way, consent.Decision{
		Purpose: consent.Purpose(in.Purpose), Device: in.Device.ID, PolicyRevision: a.consent.Policy().Revision,
	})
}

type receiptAnswer struct {
	Body consent.Receipt
}

// Way says how a decision reached the box; the receipt keeps it. It is what the
// client says of itself and proves nothing.
type Way struct{ how string }

// Resolve implements huma.Resolver.
func (w *Way) Resolve(ctx huma.Context) []error {
	switch {
	case ctx.Header("Authorization") == "": // the cookie of a browser
		w.how = "page"
	case strings.HasPrefix(ctx.Header("User-Agent"), "yunboxctl/"):
		w.how = "yunboxctl"
	default:
		w.how = "app"
	}
	return nil
}

// record enters a decision of the asker about the asker's own data; nobody can
// consent for another person here.
func (a *API) record(ctx context.Context, way Way, d consent.Decision) (*receiptAnswer, error) {
	p := principal(ctx)
	if err := a.ownDevice(ctx, d.Device); err != nil {
		return nil, err
	}
	d.User, d.Actor, d.How = p.User, p.User, way.how
	receipt, err := a.consent.Record(ctx, d)
	if err != nil {
		return nil, err
	}
	return &receiptAnswer{Body: receipt}, nil
}

// ReceiptsPage is embedded by the input of operations that list receipts.
type ReceiptsPage struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
	Cursor string `query:"cursor" maxLength:"20" pattern:"^[0-9]*$"`
}

type purposeReceiptsInput struct {
	OnePurpose
	ReceiptsPage
}

type receiptsAnswer struct {
	Body struct {
		Receipts []consent.Receipt `json:"receipts"`
		Next     *string           `json:"next" doc:"cursor of the next page; null: this is the last"`
	} `nameHint:"Receipts"`
}

func (a *API) receipts(ctx context.Context, purpose string, in *ReceiptsPage) (*receiptsAnswer, error) {
	return a.receiptsOf(ctx, principal(ctx).User, purpose, in)
}

// receiptsOf is a page of the receipts of u.
func (a *API) receiptsOf(ctx context.Context, u ident.UserID, purpose string, in *ReceiptsPage) (*receiptsAnswer, error) {
	known := func(p consent.Info) bool { return string(p.ID) == purpose }
	if purpose != "" && !slices.ContainsFunc(a.consent.Purposes(), known) {
		return nil, &problem.Error{Kind: problem.NotFound, Op: "api.receipts", Title: "There is no such purpose", Hint: "GET /v1/purposes lists them."}
	}
	before, _ := strconv.ParseInt(cmp.Or(in.Cursor, "0"), 10, 64) // one that is too large is the largest
	list, next, err := a.consent.Receipts(ctx, u, consent.Purpose(purpose), before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &receiptsAnswer{}
	if next != 0 {
		out.Body.Next = orNull(strconv.FormatInt(next, 10))
	}
	out.Body.Receipts = append([]consent.Receipt{}, list...)
	return out, nil
}

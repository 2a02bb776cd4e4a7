package api

import (
	"context"
	"net/http"
	"slices"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/guardian"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerGuardians() {
	const child = "/v1/children/{id}"
	register(a, route{
		Method: "GET", Path: "/v1/guardianship", ID: "get-guardianship", Tag: "consent",
		Summary: "The asker as a child, and the children for whom they stand",
		Description: "A child sees who stands for it, what it asked and what is to be deleted; a guardian the same of each child. " +
			"Neither files nor devices are in it.",
	}, httpd.SignedIn, a.guardianship)
	register(a, route{
		Method: "POST", Path: "/v1/guardianship/requests", ID: "ask-guardian", Tag: "consent", Status: 201,
		Summary: "Ask one's guardians to agree to a purpose",
	}, httpd.SignedIn, a.askGuardian)
	register(a, route{
		Method: "PUT", Path: "/v1/guardianship/requests/{id}", ID: "answer-child", Tag: "consent",
		Summary:     "Answer what a child asked",
		Description: "yes is a consent under `policy_revision`, which the guardian has read. The answer is the receipt.",
	}, httpd.SignedIn, a.answerChild)
	register(a, route{
		Method: "DELETE", Path: "/v1/guardianship/requests/{id}", ID: "take-request-back", Tag: "consent",
		Summary: "Take back what one asked one's guardians",
	}, httpd.SignedIn, a.takeBack)
	register(a, route{
		Method: "PUT", Path: child, ID: "become-guardian", Tag: "consent", Status: 204,
		Summary: "Accept to be a child's guardian",
	}, httpd.SignedIn, a.becomeGuardian)
	register(a, route{
		Method: "DELETE", Path: child, ID: "leave-child", Tag: "consent",
		Summary:     "Decline an invitation, or be a child's guardian no longer",
		Description: "What this guardian agreed to for the child is suspended at once; what is stored stays.",
	}, httpd.SignedIn, a.leaveChild)
	register(a, route{
		Method: "POST", Path: child + "/guardians", ID: "share-child", Tag: "consent", Status: 204,
		Summary: "Ask another adult to stand for the child too, or to take over",
	}, httpd.SignedIn, func(ctx context.Context, in *nameGuardianInput) (*struct{}, error) {
		return nil, a.nameGuardian(ctx, in)
	})
	register(a, route{
		Method: "GET", Path: child + "/consents", ID: "list-child-consents", Tag: "consent",
		Summary: "The consents of a child as they stand, for its guardian",
	}, httpd.SignedIn, a.childConsents)
	register(a, route{
		Method: "PUT", Path: child + "/consents/{purpose}", ID: "grant-child-consent", Tag: "consent",
		Summary:     "Agree to a purpose for a child",
		Description: "For all of its devices. The policy (purpose `storage`) comes first. The receipt names both.",
	}, httpd.SignedIn, a.grantForChild)
	register(a, route{
		Method: "DELETE", Path: child + "/consents/{purpose}", ID: "withdraw-child-consent", Tag: "consent", Status: 200,
		Summary: "Withdraw a consent of a child",
		Description: "What runs for it stops at once. What came in under it is deleted after 14 days unless a guardian agrees again before; " +
			"DELETE " + child + "/data/{purpose} does it now.",
	}, httpd.SignedIn, a.withdrawForChild)
	register(a, route{
		Method: "GET", Path: child + "/receipts", ID: "list-child-receipts", Tag: "consent",
		Summary: "The signed receipts of the decisions for a child, the newest first; see list-receipts",
	}, httpd.SignedIn, a.childReceipts)
	register(a, route{
		Method: "DELETE", Path: child + "/data/{purpose}", ID: "erase-child-data", Tag: "consent", Status: 204,
		Summary: "Delete now what came in of a child under a consent that has ended",
		Description: "`storage` is everything. It is done soon after; then GET /v1/guardianship has the signed receipt. " +
			"The receipt's `jws` is a JSON Web Signature whose protected header is exactly `{\"alg\":\"ES256\",\"typ\":\"" + guardian.DeletionType + "\",\"kid\":\"<pii_controller.key>\"}`.",
	}, httpd.SignedIn, a.eraseChildData)
	register(a, route{
		Method: "GET", Path: "/v1/users/{id}/guardians", ID: "list-guardians", Tag: "account",
		Summary: "Who stands for a child; for admins", Description: "That they do, and nothing of what they decide.",
	}, httpd.AdminOnly, a.guardiansOf)
	register(a, route{
		Method: "POST", Path: "/v1/users/{id}/guardians", ID: "name-guardian", Tag: "account", Status: 204,
		Summary: "Name a guardian for a child that has none; for admins",
	}, httpd.AdminOnly, func(ctx context.Context, in *nameGuardianInput) (*struct{}, error) {
		return nil, a.nameGuardian(ctx, in)
	})
	register(a, route{
		Method: "DELETE", Path: "/v1/users/{id}/guardians/{user}", ID: "remove-guardian", Tag: "account",
		Summary: "End that somebody stands for a child; for admins", Description: "`user` is a user name. Both are told.",
	}, httpd.AdminOnly, func(ctx context.Context, in *removeGuardianInput) (*struct{}, error) {
		u, err := a.accounts.UserNamed(ctx, in.User)
		if err != nil {
			return nil, err
		}
		return nil, a.guardian.Leave(ctx, account.As(principal(ctx), "http"), in.ID.ID, u.ID)
	})
}

// GuardianEntry is one who stands for a child, or was asked to.
type GuardianEntry struct {
	Username string  `json:"username"`
	Asked    moment  `json:"asked"`
	Since    *moment `json:"since" nullable:"true" doc:"null: has not accepted yet"`
	Stands   bool    `json:"stands" doc:"May decide now: has accepted, and the account is not switched off"`
}

// WardRequestEntry is what a child asked.
type WardRequestEntry struct {
	ID       string  `json:"id" pattern:"^[0-9a-hjkmnp-tv-z]{13}$"`
	Purpose  string  `json:"purpose"`
	Asked    moment  `json:"asked"`
	Answer   *string `json:"answer" enum:"yes,no" doc:"null: none yet"`
	Answered *moment `json:"answered" nullable:"true"`
}

// ErasureEntry is what is to be deleted.
type ErasureEntry struct {
	Purpose string `json:"purpose" doc:"storage: everything"`
	Decided moment `json:"decided" doc:"When the consent ended"`
	Due     moment `json:"due" doc:"When it is deleted at the latest"`
	Now     bool   `json:"now" doc:"A guardian wants it deleted at once"`
	Begun   bool   `json:"begun" doc:"Some of it is gone"`
}

// ChildEntry is a child as it and its guardians see it.
type ChildEntry struct {
	ID        ident.UserID        `json:"id"`
	Username  string              `json:"username"`
	OfAge     string              `json:"of_age" pattern:"^[0-9]{4}-[0-9]{2}$" doc:"The month in which it turns 14; when that is over it decides for itself"`
	Grown     bool                `json:"grown" doc:"It decides for itself, and has not accepted the policy yet"`
	Guarded   bool                `json:"guarded" doc:"Somebody stands for it now"`
	Stands    bool                `json:"stands" doc:"The asker stands for it"`
	Guardians []GuardianEntry     `json:"guardians"`
	Requests  []WardRequestEntry  `json:"requests" doc:"The newest first"`
	Erasures  []ErasureEntry      `json:"erasures"`
	Deletions []guardian.Deletion `json:"deletions" doc:"The newest first"`
}

func childEntry(w guardian.Ward, asker ident.UserID) (ChildEntry, error) {
	e := ChildEntry{ID: w.Child, Username: w.Name, OfAge: w.OfAge, Grown: !w.Grown.IsZero(),
		Guardians: []GuardianEntry{}, Requests: []WardRequestEntry{}, Erasures: []ErasureEntry{}}
	for _, l := range w.Guardians {
		e.Guardians = append(e.Guardians, GuardianEntry{Username: l.Name, Asked: moment(l.Asked), Since: momentOrNull(l.Since), Stands: l.Stands()})
		e.Guarded = e.Guarded || l.Stands()
		e.Stands = e.Stands || l.Stands() && l.Guardian == asker
	}
	for _, q := range w.Requests {
		e.Requests = append(e.Requests, wardRequestEntry(q))
	}
	for _, x := range w.Erasures {
		e.Erasures = append(e.Erasures, ErasureEntry{Purpose: string(x.Purpose), Decided: moment(x.Decided), Due: moment(x.Due), Now: x.Now, Begun: x.Begun})
	}
	var err error
	e.Deletions, err = deletions(w.Receipts)
	return e, err
}

func wardRequestEntry(q guardian.Request) WardRequestEntry {
	return WardRequestEntry{ID: q.ID.String(), Purpose: string(q.Purpose), Asked: moment(q.Asked), Answer: orNull(q.Answer), Answered: momentOrNull(q.Answered)}
}

func deletions(jws []string) ([]guardian.Deletion, error) {
	list := []guardian.Deletion{}
	for _, s := range jws {
		d, err := guardian.Decode(s)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

type guardianshipAnswer struct {
	Body struct {
		Children  []ChildEntry        `json:"children" doc:"For whom the asker stands, or was asked to"`
		Self      []ChildEntry        `json:"self" doc:"The asker as a child; empty for everybody else"`
		Deletions []guardian.Deletion `json:"deletions" doc:"What was deleted of the asker as a child, also long after"`
	} `nameHint:"Guardianship"`
}

func (a *API) guardianship(ctx context.Context, _ *struct{}) (*guardianshipAnswer, error) {
	u := principal(ctx).User
	out := &guardianshipAnswer{}
	out.Body.Children, out.Body.Self = []ChildEntry{}, []ChildEntry{}
	children, err := a.guardian.Children(ctx, u)
	if err != nil {
		return nil, err
	}
	for _, w := range children {
		e, err := childEntry(w, u)
		if err != nil {
			return nil, err
		}
		out.Body.Children = append(out.Body.Children, e)
	}
	switch w, err := a.guardian.Ward(ctx, u); {
	case problem.KindOf(err) == problem.NotFound:
	case err != nil:
		return nil, err
	default:
		e, err := childEntry(w, u)
		if err != nil {
			return nil, err
		}
		out.Body.Self = append(out.Body.Self, e)
	}
	receipts, err := a.guardian.Deletions(ctx, u)
	if err != nil {
		return nil, err
	}
	out.Body.Deletions, err = deletions(receipts)
	return out, err
}

type askGuardianInput struct {
	Body struct {
		Purpose string `json:"purpose" maxLength:"64" example:"album_backup"`
	} `nameHint:"GuardianRequest"`
}

type wardRequestAnswer struct {
	Body WardRequestEntry
}

func (a *API) askGuardian(ctx context.Context, in *askGuardianInput) (*wardRequestAnswer, error) {
	q, err := a.guardian.Ask(ctx, principal(ctx), consent.Purpose(in.Body.Purpose))
	if err != nil {
		return nil, err
	}
	return &wardRequestAnswer{Body: wardRequestEntry(q)}, nil
}

// OneRequest is embedded by the input of operations on a request.
type OneRequest struct {
	ID idParam[guardian.RequestID] `path:"id"`
}

type answerChildInput struct {
	Way
	OneRequest
	Body struct {
		Answer         string  `json:"answer" enum:"yes,no"`
		PolicyRevision string  `json:"policy_revision,omitempty" doc:"With yes: the revision that the guardian has read"`
		After          *string `json:"after,omitempty" maxLength:"64" doc:"With yes: as in PUT /v1/children/{id}/consents/{purpose}"`
	} `nameHint:"GuardianAnswer"`
}

func (a *API) answerChild(ctx context.Context, in *answerChildInput) (*receiptAnswer, error) {
	receipt, err := a.guardian.Answer(ctx, principal(ctx), in.ID.ID, in.Body.Answer == "yes", in.Body.PolicyRevision, in.Body.After, in.how)
	if err != nil {
		return nil, err
	}
	return &receiptAnswer{Body: receipt}, nil
}

func (a *API) takeBack(ctx context.Context, in *OneRequest) (*struct{}, error) {
	return nil, a.guardian.TakeBack(ctx, principal(ctx).User, in.ID.ID)
}

// OneChild is embedded by the input of operations on a child.
type OneChild struct {
	ID idParam[ident.UserID] `path:"id"`
}

type becomeGuardianInput struct {
	OneChild
	Body struct {
		Accepted bool `json:"accepted" doc:"true: nothing is ever accepted by leaving it out"`
	} `nameHint:"GuardianDecision"`
}

func (a *API) becomeGuardian(ctx context.Context, in *becomeGuardianInput) (*struct{}, error) {
	if !in.Body.Accepted {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "api.guardian", Title: "Only an acceptance can be recorded here",
			Hint: "Send \"accepted\": true, or decline with DELETE."}
	}
	return nil, a.guardian.Accept(ctx, principal(ctx), in.ID.ID)
}

func (a *API) leaveChild(ctx context.Context, in *OneChild) (*struct{}, error) {
	p := principal(ctx)
	return nil, a.guardian.Leave(ctx, account.As(p, "http"), in.ID.ID, p.User)
}

type nameGuardianInput struct {
	OneChild
	Body struct {
		Username string `json:"username" maxLength:"1024" doc:"Of an adult of the box, who has to accept"`
	} `nameHint:"GuardianName"`
}

func (a *API) nameGuardian(ctx context.Context, in *nameGuardianInput) error {
	return a.guardian.Name(ctx, account.As(principal(ctx), "http"), in.ID.ID, in.Body.Username)
}

type removeGuardianInput struct {
	OneChild
	User string `path:"user" maxLength:"1024"`
}

func (a *API) childConsents(ctx context.Context, in *OneChild) (*consentsAnswer, error) {
	if err := a.guardian.MustStand(ctx, principal(ctx).User, in.ID.ID); err != nil {
		return nil, err
	}
	state, err := a.consent.State(ctx, in.ID.ID)
	if err != nil {
		return nil, err
	}
	out := &consentsAnswer{}
	out.Body.Consents = []ConsentState{}
	for _, c := range state {
		if c.Device == 0 { // which devices there are is not a guardian's to see
			out.Body.Consents = append(out.Body.Consents, ConsentState{
				Purpose: string(c.Purpose), State: string(c.State), Granted: granted(c), PolicyRevision: c.PolicyRevision, Time: momentOrNull(c.Time), Newest: c.Newest,
			})
		}
	}
	return out, nil
}

type grantForChildInput struct {
	Way
	OneChild
	OnePurpose
	Body struct {
		Granted        bool    `json:"granted" doc:"true: withdrawing is DELETE"`
		PolicyRevision string  `json:"policy_revision" doc:"The revision that the guardian has read"`
		After          *string `json:"after,omitempty" maxLength:"64" doc:"What newest of this purpose was among the child's consents when the guardian decided. If the child or another guardian decided anew since, this is refused (conflict). Left out: it is not"`
	} `nameHint:"ChildConsent"`
}

func (a *API) grantForChild(ctx context.Context, in *grantForChildInput) (*receiptAnswer, error) {
	if !in.Body.Granted {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "api.consent", Title: "A consent is withdrawn by DELETE",
			Hint: "Send \"granted\": true to consent, or DELETE the same path to withdraw."}
	}
	return a.decideForChild(ctx, in.Way, in.ID.ID, in.Purpose, true, in.Body.PolicyRevision, in.Body.After)
}

func (a *API) decideForChild(ctx context.Context, way Way, child ident.UserID, purpose string, yes bool, revision string, after *string) (*receiptAnswer, error) {
	receipt, err := a.guardian.Decide(ctx, principal(ctx), child, consent.Purpose(purpose), yes, revision, after, way.how)
	if err != nil {
		return nil, err
	}
	return &receiptAnswer{Body: receipt}, nil
}

type withdrawForChildInput struct {
	Way
	OneChild
	OnePurpose
}

func (a *API) withdrawForChild(ctx context.Context, in *withdrawForChildInput) (*receiptAnswer, error) {
	return a.decideForChild(ctx, in.Way, in.ID.ID, in.Purpose, false, a.consent.Policy().Revision, nil)
}

type childReceiptsInput struct {
	OneChild
	ReceiptsPage
}

func (a *API) childReceipts(ctx context.Context, in *childReceiptsInput) (*receiptsAnswer, error) {
	if err := a.guardian.MustStand(ctx, principal(ctx).User, in.ID.ID); err != nil {
		return nil, err
	}
	out, err := a.receiptsOf(ctx, in.ID.ID, "", &in.ReceiptsPage)
	if err != nil {
		return nil, err
	}
	// Which devices there are is not a guardian's to see.
	out.Body.Receipts = slices.DeleteFunc(out.Body.Receipts, func(r consent.Receipt) bool { return r.Device != 0 })
	return out, nil
}

type eraseChildInput struct {
	OneChild
	OnePurpose
}

func (a *API) eraseChildData(ctx context.Context, in *eraseChildInput) (*struct{}, error) {
	return nil, a.guardian.EraseNow(ctx, principal(ctx), in.ID.ID, consent.Purpose(in.Purpose))
}

// GuardedEntry is a child as who manages the box sees it.
type GuardedEntry struct {
	ID        ident.UserID    `json:"id"`
	Username  string          `json:"username"`
	OfAge     string          `json:"of_age" doc:"The month in which it turns 14"`
	Grown     bool            `json:"grown" doc:"It decides for itself, and has not accepted the policy yet"`
	Guarded   bool            `json:"guarded" doc:"Somebody stands for it now"`
	Guardians []GuardianEntry `json:"guardians"`
}

// GuardedList is every child of the box.
type GuardedList struct {
	Children []GuardedEntry `json:"children"`
}

func (a *API) guarded(ctx context.Context) (GuardedList, error) {
	list, err := a.guardian.Standing(ctx)
	if err != nil {
		return GuardedList{}, err
	}
	out := GuardedList{Children: []GuardedEntry{}}
	for _, w := range list {
		e, err := childEntry(w, 0)
		if err != nil {
			return GuardedList{}, err
		}
		out.Children = append(out.Children, GuardedEntry{ID: e.ID, Username: e.Username, OfAge: e.OfAge, Grown: e.Grown, Guarded: e.Guarded, Guardians: e.Guardians})
	}
	return out, nil
}

type guardedAnswer struct {
	Body GuardedEntry
}

func (a *API) guardiansOf(ctx context.Context, in *OneChild) (*guardedAnswer, error) {
	list, err := a.guarded(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Children {
		if e.ID == in.ID.ID {
			return &guardedAnswer{Body: e}, nil
		}
	}
	return nil, &problem.Error{Kind: problem.NotFound, Op: "api.guardian", Title: "That person is no child", Hint: "Only who is under 14 has guardians."}
}

func (l *Local) guardians(w http.ResponseWriter, r *http.Request) error {
	list, err := l.api.guarded(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (l *Local) nameGuardian(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Username string `json:"username"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	child, err := l.api.accounts.UserNamed(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	if err := l.api.guardian.Name(r.Context(), actor(), child.ID, in.Username); err != nil {
		return err
	}
	return l.guardians(w, r)
}

func (l *Local) removeGuardian(w http.ResponseWriter, r *http.Request) error {
	child, err := l.api.accounts.UserNamed(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	g, err := l.api.accounts.UserNamed(r.Context(), r.PathValue("guardian"))
	if err != nil {
		return err
	}
	if err := l.api.guardian.Leave(r.Context(), actor(), child.ID, g.ID); err != nil {
		return err
	}
	return l.guardians(w, r)
}

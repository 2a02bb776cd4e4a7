package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/erasure"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// patience is how long a request to erase waits for its end.
const patience = 5 * time.Second

func (a *API) registerErasing() {
	register(a, route{
		Method: "GET", Path: "/v1/me/erasures/preview", ID: "preview-erasure", Tag: "rights",
		Summary:     "What erasing would take, and what would stay and why",
		Description: "Of one category, or of what rests on one purpose, or with neither of everything that does not go with the account only. Nothing is erased.",
	}, httpd.SignedIn, a.previewErasure)
	register(a, route{
		Method: "GET", Path: "/v1/me/erasures", ID: "list-erasures", Tag: "rights", Summary: "What of the asker's data is being erased",
	}, httpd.SignedIn, a.listErasures)
	const how = "It is written down at once and goes on whatever happens, a power cut included; the answer says whether it has ended already. " +
		"What is erased for good comes back from nowhere on the box: not from its records, their log or their copies. A second copy on another disk forgets it with its second run."
	register(a, route{
		Method: "DELETE", Path: "/v1/me/data/{category}", ID: "erase-category", Tag: "rights", Status: 202,
		Summary: "Erase all of one category", Description: how,
	}, httpd.SignedIn, a.eraseCategory)
	register(a, route{
		Method: "DELETE", Path: "/v1/me/data", ID: "erase-data", Tag: "rights", Status: 202,
		Summary:     "Erase what rests on one purpose, or everything but the account itself",
		Description: how,
	}, httpd.SignedIn, a.eraseData)
	register(a, route{
		Method: "PUT", Path: "/v1/retention/{category}", ID: "set-retention", Tag: "rights", Status: 204,
		Summary:     "After how many days records of a category go by themselves; 0: never",
		Description: "For everybody on the box, by its owner, within the bounds that GET /v1/me/data says.",
	}, httpd.AdminOnly, a.setRetention)

	const cancel = "/v1/me/cancellation"
	register(a, route{
		Method: "GET", Path: cancel, ID: "get-cancellation", Tag: "rights", Summary: "How far the cancellation of the asker's account is",
	}, httpd.SignedIn, a.getCancellation)
	register(a, route{
		Method: "POST", Path: cancel, ID: "cancel-account", Tag: "rights", Status: 201,
		Summary: "Cancel the asker's account, or choose anew what becomes of its files",
		Description: "The files are offered to somebody on the box, or erased; an export can be asked for before. Until `due` the account can be read, exported and kept, " +
			"and nothing is taken in; its app tokens rest, and all other sessions have ended. Then it is erased by itself, from everywhere, without a way back. " +
			"With the `code`, which is shown once, the receipt of that is fetched when nobody can sign in any more. The owner of a box hands it over first (POST /v1/ownership).",
	}, httpd.SignedIn, a.cancelAccount)
	register(a, route{
		Method: "DELETE", Path: cancel, ID: "keep-account", Tag: "rights", Status: 204, Summary: "Keep the account after all",
	}, httpd.SignedIn, a.keepAccount)
	register(a, route{
		Method: "POST", Path: cancel + "/code", ID: "new-receipt-code", Tag: "rights", Status: 201,
		Summary: "Another code for the receipt, in the place of the one before",
	}, httpd.SignedIn, a.newReceiptCode)
	register(a, route{
		Method: "POST", Path: "/v1/deletion-receipt", ID: "fetch-deletion-receipt", Tag: "rights", Status: 200,
		Summary:     "The receipt of an account that is gone, for whoever has its code",
		Description: "Signed by the box as consent receipts are, with its key beside it: `yunboxctl receipt verify` checks it without the box. It is kept for 90 days.",
	}, httpd.Public, a.deletionReceipt)

	register(a, route{
		Method: "GET", Path: "/v1/handovers", ID: "list-handovers", Tag: "rights", Summary: "Files that people who leave offer to the asker",
	}, httpd.SignedIn, a.listHandovers)
	register(a, route{
		Method: "PUT", Path: "/v1/handovers/{id}", ID: "answer-handover", Tag: "rights", Status: 204,
		Summary:     "Take or refuse the files of somebody who leaves",
		Description: "To take them needs the asker's consent to storage, and room in their share. They come when the account is erased, in a folder of their own.",
	}, httpd.SignedIn, a.answerHandover)

	register(a, route{
		Method: "POST", Path: "/v1/users/{id}/removal", ID: "remove-user", Tag: "account", Status: 201,
		Summary:     "Have the account of a person cancelled",
		Description: "The person is told and can sign in to export until `due`; then everything of theirs is erased, as if they had cancelled. Whoever manages the box can undo it until then.",
	}, httpd.AdminOnly, func(ctx context.Context, in *removalInput) (*cancelledAnswer, error) {
		return a.remove(ctx, account.As(principal(ctx), "http"), in.ID.ID, in.Body.Days)
	})
	register(a, route{
		Method: "DELETE", Path: "/v1/users/{id}/removal", ID: "keep-user", Tag: "account", Status: 204, Summary: "Keep a person whose account is being cancelled",
	}, httpd.AdminOnly, func(ctx context.Context, in *userInput) (*struct{}, error) {
		return nil, a.erasure.Keep(ctx, account.As(principal(ctx), "http"), in.ID.ID)
	})
}

// ErasureFate is what erasing does to one category.
type ErasureFate struct {
	Category string        `json:"category"`
	Title    rights.Words  `json:"title"`
	Records  int64         `json:"records" minimum:"0" doc:"That go"`
	Bytes    int64         `json:"bytes" minimum:"0" doc:"Of files"`
	Stays    *rights.Words `json:"stays,omitempty" doc:"Why nothing of it goes; left out: it does"`
}

type previewInput struct {
	Category string `query:"category" maxLength:"64"`
	Purpose  string `query:"purpose" maxLength:"64"`
	Trash    bool   `query:"trash"`
}

type previewAnswer struct {
	Body struct {
		Categories []ErasureFate `json:"categories"`
	} `nameHint:"ErasurePreview"`
}

func (a *API) previewErasure(ctx context.Context, in *previewInput) (*previewAnswer, error) {
	list, err := a.rights().Plan(ctx, principal(ctx).User, in.Category, rights.Which{Purpose: in.Purpose, Trash: in.Trash})
	out := &previewAnswer{}
	out.Body.Categories = []ErasureFate{}
	for _, f := range list {
		out.Body.Categories = append(out.Body.Categories, ErasureFate{f.Category, f.Title, f.Goes.Records, f.Goes.Bytes, orNull(f.Stays)})
	}
	return out, err
}

// ErasureJob is something that is being erased.
type ErasureJob struct {
	ID       string  `json:"id"`
	Category *string `json:"category" doc:"null: all"`
	Purpose  *string `json:"purpose" doc:"null: whatever it rests on"`
	Trash    bool    `json:"trash"`
	Asked    *moment `json:"asked,omitempty" doc:"Left out: it is forgotten already"`
	Erased   int64   `json:"erased" minimum:"0" doc:"Records so far"`
	Done     bool    `json:"done" doc:"Nothing of it is left"`
}

func erasureJob(j erasure.Job) ErasureJob {
	out := ErasureJob{ID: strconv.FormatInt(j.ID, 10), Category: orNull(j.Category), Purpose: orNull(j.Purpose), Trash: j.Trash, Erased: j.Erased, Done: j.Done}
	if !j.Asked.IsZero() {
		at := moment(j.Asked)
		out.Asked = &at
	}
	return out
}

type erasuresAnswer struct {
	Body struct {
		Erasures []ErasureJob `json:"erasures"`
	} `nameHint:"Erasures"`
}

func (a *API) listErasures(ctx context.Context, _ *struct{}) (*erasuresAnswer, error) {
	list, err := a.erasure.Jobs(ctx, principal(ctx).User)
	out := &erasuresAnswer{}
	out.Body.Erasures = []ErasureJob{}
	for _, j := range list {
		out.Body.Erasures = append(out.Body.Erasures, erasureJob(j))
	}
	return out, err
}

type erasureAnswer struct{ Body ErasureJob }

func (a *API) begin(ctx context.Context, category, purpose string, trash bool) (*erasureAnswer, error) {
	p := principal(ctx)
	j, err := a.erasure.Begin(ctx, p, category, purpose, trash)
	if err != nil {
		return nil, err
	}
	now, err := a.erasure.Wait(ctx, p.User, j.ID, patience)
	if err != nil {
		return nil, err
	}
	if now.Asked.IsZero() {
		j.Done = true
		now = j
	}
	return &erasureAnswer{erasureJob(now)}, nil
}

type eraseCategoryInput struct {
	Category string `path:"category" maxLength:"64" example:"offers"`
	Trash    bool   `query:"trash" doc:"Files go into the trash, where they can be had back, instead of for good"`
}

func (a *API) eraseCategory(ctx context.Context, in *eraseCategoryInput) (*erasureAnswer, error) {
	return a.begin(ctx, in.Category, "", in.Trash)
}

type eraseDataInput struct {
	Purpose string `query:"purpose" maxLength:"64" doc:"What rests on this consent"`
	What    string `query:"what" enum:"everything" doc:"Or everything; then one is signed out, too"`
	Trash   bool   `query:"trash" doc:"Files go into the trash, where they can be had back, instead of for good"`
}

func (a *API) eraseData(ctx context.Context, in *eraseDataInput) (*erasureAnswer, error) {
	if (in.What == "") == (in.Purpose == "") {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "api.erase", Title: "Say what is to be erased",
			Hint: "Either what rests on one purpose, ?purpose=…, or everything, ?what=everything."}
	}
	return a.begin(ctx, "", in.Purpose, in.Trash)
}

type retentionInput struct {
	Category string `path:"category" maxLength:"64"`
	Body     struct {
		Days int `json:"days" minimum:"0" maximum:"36500"`
	} `nameHint:"RetentionChoice"`
}

func (a *API) setRetention(ctx context.Context, in *retentionInput) (*struct{}, error) {
	return nil, a.erasure.SetPeriod(ctx, principal(ctx), in.Category, in.Body.Days)
}

// CancellationState is how far the cancellation of an account is.
type CancellationState struct {
	Stage    string  `json:"stage" enum:"waiting,withdrawing,handing,clearing,forgetting" doc:"waiting: it can be undone"`
	Asked    moment  `json:"asked"`
	Due      moment  `json:"due" doc:"When the erasing begins"`
	By       string  `json:"asked_by" enum:"person,manager"`
	Heir     *string `json:"hand_over_to" doc:"User name of whom the files are offered to; null: they are erased"`
	Accepted bool    `json:"accepted" doc:"They take them"`
	Trouble  *string `json:"trouble" enum:"refused,unanswered,quota,consent,failed" doc:"Why it does not go on: whom the files are offered to refused, does not answer, has no room or no consent; or something failed and is tried again"`
}

func (a *API) cancellationState(ctx context.Context, c erasure.Cancellation) (CancellationState, error) {
	s := CancellationState{Stage: c.Stage, Asked: moment(c.Asked), Due: moment(c.Due), By: "manager", Accepted: c.Accepted, Trouble: orNull(c.Trouble)}
	if c.Actor == c.User {
		s.By = "person"
	}
	if c.Heir != 0 {
		u, err := a.accounts.User(ctx, c.Heir)
		if err != nil && problem.KindOf(err) != problem.NotFound {
			return s, err
		}
		s.Heir = &u.Username
	}
	return s, nil
}

type cancellationAnswer struct{ Body CancellationState }

func (a *API) getCancellation(ctx context.Context, _ *struct{}) (*cancellationAnswer, error) {
	c, err := a.erasure.Cancellation(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	s, err := a.cancellationState(ctx, c)
	return &cancellationAnswer{s}, err
}

// Cancelled is the answer to a cancellation.
type Cancelled struct {
	CancellationState
	Code string `json:"code" doc:"With it the receipt is fetched. It is shown once; write it down"`
}

type cancelledAnswer struct{ Body Cancelled }

type cancelInput struct {
	Body struct {
		Files string `json:"files" enum:"erase,hand-over"`
		To    string `json:"to,omitempty" maxLength:"1024" doc:"User name of whom the files are offered to"`
	} `nameHint:"CancellationRequest"`
}

func (a *API) cancelAccount(ctx context.Context, in *cancelInput) (*cancelledAnswer, error) {
	if (in.Body.Files == "hand-over") != (in.Body.To != "") {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "api.cancel", Title: "Say what becomes of the files",
			Hint: "Either files is erase, or it is hand-over and to says to whom."}
	}
	c, code, err := a.erasure.Cancel(ctx, principal(ctx), erasure.Choice{Heir: in.Body.To})
	if err != nil {
		return nil, err
	}
	s, err := a.cancellationState(ctx, c)
	return &cancelledAnswer{Cancelled{s, code}}, err
}

func (a *API) keepAccount(ctx context.Context, _ *struct{}) (*struct{}, error) {
	p := principal(ctx)
	return nil, a.erasure.Keep(ctx, account.As(p, "http"), p.User)
}

type codeAnswer struct {
	Body struct {
		Code string `json:"code"`
	} `nameHint:"ReceiptCode"`
}

func (a *API) newReceiptCode(ctx context.Context, _ *struct{}) (out *codeAnswer, err error) {
	out = &codeAnswer{}
	out.Body.Code, err = a.erasure.NewCode(ctx, principal(ctx).User)
	return out, err
}

type deletionInput struct {
	Body struct {
		Code string `json:"code" maxLength:"128"`
	} `nameHint:"DeletionReceiptRequest"`
}

type deletionAnswer struct {
	Body struct {
		State   string          `json:"state" enum:"waiting,erasing,done"`
		Due     *moment         `json:"due,omitempty" doc:"When the erasing begins, while it waits"`
		Receipt *SignedDeletion `json:"receipt,omitempty" doc:"Once it is done"`
	} `nameHint:"DeletionReceipt"`
}

// SignedDeletion is a receipt: what is readable repeats what is signed.
type SignedDeletion struct {
	erasure.Receipt
	JWS string `json:"jws" doc:"JSON Web Signature in compact form, ES256, by the key under box"`
}

func (a *API) deletionReceipt(ctx context.Context, in *deletionInput) (*deletionAnswer, error) {
	if wait, ok := a.codes.Take(time.Now(), httpd.Remote(exchangeOf(ctx).r)); !ok {
		return nil, &problem.Error{Kind: problem.RateLimited, Op: "api.receipt", RetryAfter: wait, Title: "Too many codes in a short time", Hint: "Wait a while, then try again."}
	}
	f, err := a.erasure.Fetch(ctx, in.Body.Code)
	if err != nil {
		return nil, err
	}
	out := &deletionAnswer{}
	out.Body.State = f.State
	switch f.State {
	case "waiting":
		due := moment(f.Due)
		out.Body.Due = &due
	case "done":
		r, err := erasure.Read(f.JWS)
		if err != nil {
			return nil, err
		}
		out.Body.Receipt = &SignedDeletion{r, f.JWS}
	}
	return out, nil
}

// Handover is an offer of files.
type Handover struct {
	ID       ident.UserID `json:"id"`
	From     string       `json:"from" doc:"User name of who leaves"`
	Due      moment       `json:"due"`
	Files    int64        `json:"files" minimum:"0"`
	Bytes    int64        `json:"bytes" minimum:"0" doc:"At most: older versions and the trash do not come along"`
	Accepted bool         `json:"accepted"`
	Refused  bool         `json:"refused"`
}

type handoversAnswer struct {
	Body struct {
		Handovers []Handover `json:"handovers"`
	} `nameHint:"Handovers"`
}

func (a *API) listHandovers(ctx context.Context, _ *struct{}) (*handoversAnswer, error) {
	list, err := a.erasure.Offers(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	out := &handoversAnswer{}
	out.Body.Handovers = []Handover{}
	for _, c := range list {
		u, err := a.accounts.User(ctx, c.User)
		if problem.KindOf(err) == problem.NotFound {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		has, err := a.catalog.Usage(ctx, c.User)
		if err != nil {
			return nil, err
		}
		out.Body.Handovers = append(out.Body.Handovers, Handover{c.User, u.Username, moment(c.Due), has.Items, has.Bytes, c.Accepted, c.Trouble == "refused"})
	}
	return out, nil
}

type handoverInput struct {
	ID   idParam[ident.UserID] `path:"id"`
	Body struct {
		Accept bool `json:"accept"`
	} `nameHint:"HandoverAnswer"`
}

func (a *API) answerHandover(ctx context.Context, in *handoverInput) (*struct{}, error) {
	return nil, a.erasure.Answer(ctx, principal(ctx), in.ID.ID, in.Body.Accept)
}

type userInput struct {
	ID idParam[ident.UserID] `path:"id"`
}

type removalInput struct {
	ID   idParam[ident.UserID] `path:"id"`
	Body struct {
		Days int `json:"days,omitempty" minimum:"7" maximum:"90" default:"30" doc:"For which the person can export"`
	} `nameHint:"RemovalRequest"`
}

func (a *API) remove(ctx context.Context, by account.Actor, u ident.UserID, days int) (*cancelledAnswer, error) {
	c, code, err := a.erasure.Remove(ctx, by, u, days)
	if err != nil {
		return nil, err
	}
	s, err := a.cancellationState(ctx, c)
	return &cancelledAnswer{Cancelled{s, code}}, err
}

func (l *Local) removeUser(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Days int `json:"days"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	u, err := l.api.accounts.UserNamed(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	out, err := l.api.remove(r.Context(), actor(), u.ID, in.Days)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusCreated, out.Body)
	return nil
}

func (l *Local) keepUser(w http.ResponseWriter, r *http.Request) error {
	u, err := l.api.accounts.UserNamed(r.Context(), r.PathValue("name"))
	if err == nil {
		err = l.api.erasure.Keep(r.Context(), actor(), u.ID)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (l *Local) fetchReceipt(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Code string `json:"code"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	f, err := l.api.erasure.Fetch(r.Context(), in.Code)
	if err != nil {
		return err
	}
	out := struct {
		State   string          `json:"state"`
		Receipt json.RawMessage `json:"receipt"`
	}{State: f.State}
	if f.JWS != "" {
		read, err := erasure.Read(f.JWS)
		if err != nil {
			return err
		}
		if out.Receipt, err = json.Marshal(SignedDeletion{read, f.JWS}); err != nil {
			return err
		}
	}
	httpd.WriteJSON(w, http.StatusOK, out)
	return nil
}

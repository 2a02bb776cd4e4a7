package api

import (
	"context"
	"net/http"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerReset() {
	register(a, route{
		Method: "POST", Path: "/v1/factory-reset", ID: "reset-box", Tag: "box", Status: 202,
		Summary: "Erase everything, of everybody, and make the box nobody's",
		Description: "For the owner. `confirm` is the name of the box, typed by a person. It cannot be taken back: keys first, then all files, names and records are " +
			"erased, and the box starts with a new key and a new code; the serial number stays. Second copies on other disks stay, encrypted, and can be opened with their recovery keys.",
	}, httpd.AdminOnly, a.reset)
}

type resetInput struct {
	Body struct {
		Confirm string `json:"confirm" maxLength:"256" doc:"The name of the box"`
	} `nameHint:"FactoryReset"`
}

type resetAnswer struct {
	Body ResetBegun
}

// ResetBegun is what is told of a reset that cannot be stopped any more.
type ResetBegun struct {
	SecondCopies []string `json:"second_copies" doc:"Names of the second copies, which stay as they are"`
}

func (a *API) reset(ctx context.Context, in *resetInput) (*resetAnswer, error) {
	if principal(ctx).Role != ident.Owner {
		return nil, &problem.Error{Kind: problem.Forbidden, Op: "api.reset",
			Title: "Only the owner may reset the box", Detail: "It erases what everybody keeps on it.", Hint: "Ask the owner of the box."}
	}
	if in.Body.Confirm != a.box.Name() {
		return nil, &problem.Error{Kind: problem.Invalid, Op: "api.reset",
			Title: "That is not the name of this box", Detail: "Nothing was erased.", Hint: "Type the name as it is shown at the top of the page."}
	}
	begun, err := a.beginReset(ctx)
	if err != nil {
		return nil, err
	}
	return &resetAnswer{Body: begun}, nil
}

func (a *API) beginReset(ctx context.Context) (ResetBegun, error) {
	begun := ResetBegun{SecondCopies: []string{}}
	if a.box.SecondCopies != nil {
		copies, err := a.box.SecondCopies(ctx)
		if err != nil {
			return begun, err
		}
		for _, c := range copies {
			begun.SecondCopies = append(begun.SecondCopies, c.Name)
		}
	}
	label, err := a.accounts.Label(ctx)
	if err != nil {
		return begun, err
	}
	return begun, a.box.Reset(label.Serial)
}

func (l *Local) reset(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Yes bool `json:"yes"`
	}
	if err := httpd.ReadJSON(w, r, &in, 1<<10); err != nil {
		return err
	}
	if !in.Yes {
		return &problem.Error{Kind: problem.Invalid, Op: "api.reset", Title: "A reset has to be confirmed", Detail: "Nothing was erased.", Hint: "`yunboxctl factory-reset --yes`"}
	}
	begun, err := l.api.beginReset(r.Context())
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusAccepted, begun)
	return nil
}

package api

import (
	"context"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

func (a *API) registerOwnership() {
	const path = "/v1/ownership"
	register(a, route{
		Method: "GET", Path: path, ID: "get-box-offer", Tag: "account", Summary: "Whether the box is being handed over, by the asker or to them",
	}, httpd.SignedIn, a.getBoxOffer)
	register(a, route{
		Method: "POST", Path: path, ID: "offer-box", Tag: "account", Status: 201,
		Summary: "Offer the box to another person",
		Description: "For its owner. The other is an adult of the box whose account is neither switched off nor being cancelled. They have until `due` to accept; " +
			"until then nothing changes. An earlier offer is taken back by it.",
	}, httpd.SignedIn, a.offerBox)
	register(a, route{
		Method: "PUT", Path: path, ID: "take-box", Tag: "account", Status: 204,
		Summary: "Accept the box: the asker becomes its owner",
		Description: "Whoever owned it becomes a member at that moment, everywhere where they are signed in, and can cancel their account from then on. " +
			"Both keep their files and consents.",
	}, httpd.SignedIn, a.takeBox)
	register(a, route{
		Method: "DELETE", Path: path, ID: "end-box-offer", Tag: "account", Status: 204, Summary: "Take the offer back, or decline it",
	}, httpd.SignedIn, a.endBoxOffer)
}

// BoxOffer is that the owner wants to hand the box over.
type BoxOffer struct {
	From  string `json:"from" doc:"User name of the owner"`
	To    string `json:"to" doc:"User name of who becomes the owner when they accept"`
	Mine  bool   `json:"mine" doc:"The asker made it; else they got it"`
	Asked moment `json:"asked"`
	Due   moment `json:"due" doc:"When it ends by itself"`
}

type boxOfferAnswer struct {
	Body struct {
		Offer *BoxOffer `json:"offer,omitempty" doc:"Left out: there is none that concerns the asker"`
	} `nameHint:"Ownership"`
}

func boxOffer(ctx context.Context, o account.BoxOffer) BoxOffer {
	return BoxOffer{From: o.FromName, To: o.ToName, Mine: o.From == principal(ctx).User, Asked: moment(o.Asked), Due: moment(o.Due)}
}

func (a *API) getBoxOffer(ctx context.Context, _ *struct{}) (*boxOfferAnswer, error) {
	out := &boxOfferAnswer{}
	o, err := a.accounts.Offered(ctx, principal(ctx).User)
	if problem.KindOf(err) == problem.NotFound {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	offer := boxOffer(ctx, o)
	out.Body.Offer = &offer
	return out, nil
}

type offerBoxInput struct {
	Body struct {
		To string `json:"to" minLength:"1" maxLength:"1024" doc:"User name"`
	} `nameHint:"BoxOfferRequest"`
}

type offeredAnswer struct{ Body BoxOffer }

func (a *API) offerBox(ctx context.Context, in *offerBoxInput) (*offeredAnswer, error) {
	o, err := a.accounts.OfferBox(ctx, principal(ctx), in.Body.To)
	if err != nil {
		return nil, err
	}
	return &offeredAnswer{boxOffer(ctx, o)}, nil
}

func (a *API) takeBox(ctx context.Context, _ *struct{}) (*struct{}, error) {
	return nil, a.accounts.TakeBox(ctx, principal(ctx))
}

func (a *API) endBoxOffer(ctx context.Context, _ *struct{}) (*struct{}, error) {
	return nil, a.accounts.EndOffer(ctx, principal(ctx))
}

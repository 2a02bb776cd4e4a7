package api

import (
	"context"
	"encoding/base64"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/spake2plus"
)

func (a *API) registerBinding() {
	register(a, route{
		Method: "POST", Path: "/v1/bind", ID: "bind-box", Tag: "account", Status: 201,
		Summary: "Make the first person of an unbound box its owner",
		Description: "`secret` from the label's QR code, sent over a connection whose key was compared with the one in the code. " +
			"`serial` and `code` as typed from the label are taken from the box's own page only, in a browser on the same network, where somebody " +
			"has compared the six words of the key first, and from programs on the box itself: whoever answers in the box's place could pass them on. Apps use start-binding.",
	}, httpd.Public, a.bind)
	register(a, route{
		Method: "POST", Path: "/v1/bind/start", ID: "start-binding", Tag: "account",
		Summary: "Begin to bind an unbound box by the code of its label, without sending it",
		Description: "SPAKE2+ (RFC 9383), suite P256-SHA256-HKDF-SHA256-HMAC-SHA256; docs/decisions/0034-binding.md has the derivation and the context, which " +
			"holds the hash of the key that TLS showed. Check `confirm` before anything else is sent, and pin that key then. " +
			"A start counts as a try, finished or not: five in ten minutes lock this way for an hour and longer, from whatever device; the QR code is not locked by it.",
	}, httpd.Public, a.startBinding)
	register(a, route{
		Method: "POST", Path: "/v1/bind/finish", ID: "finish-binding", Tag: "account", Status: 201,
		Summary:     "Become the owner, with the proof that the code is known",
		Description: "Within two minutes of start-binding. One confirmation ends the run, right or wrong.",
	}, httpd.Public, a.finishBinding)
	register(a, route{
		Method: "POST", Path: "/v1/invitations", ID: "invite-person", Tag: "account", Status: 201,
		Summary: "Invite one person, who makes the account themselves; for admins",
		Description: "Good for ten minutes and one person, until the box is restarted. `uri` holds the hash of the box's key, as the label's QR code does. " +
			"Children are added with create-user, which names their guardian.",
	}, httpd.AdminOnly, a.invite)
	register(a, route{
		Method: "DELETE", Path: "/v1/invitations", ID: "take-back-invitations", Tag: "account",
		Summary: "Take back the asker's invitations that nobody has used",
	}, httpd.AdminOnly, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		a.accounts.Uninvite(principal(ctx).User)
		return nil, nil
	})
	register(a, route{
		Method: "POST", Path: "/v1/join", ID: "join-box", Tag: "account", Status: 201,
		Summary:     "Make an account by an invitation, and sign in",
		Description: "`secret` is `s` of the invitation's URI; compare the key of the box with `k` before it is sent.",
	}, httpd.Public, a.join)
}

type inviteInput struct {
	Body struct {
		Role ident.Role `json:"role" enum:"member,admin" doc:"Only the owner invites admins"`
	} `nameHint:"InvitationRequest"`
}

type inviteAnswer struct {
	Body struct {
		URI     string     `json:"uri" doc:"yunbox://join?v=1&id=…&k=…&s=…, for a QR code"`
		QR      []string   `json:"qr" doc:"uri as a QR code: a row a line, # is dark"`
		Secret  string     `json:"secret" doc:"s of uri, for the box's own page"`
		Role    ident.Role `json:"role" enum:"member,admin"`
		Expires moment     `json:"expires"`
	} `nameHint:"Invitation"`
}

func (a *API) invite(ctx context.Context, in *inviteInput) (*inviteAnswer, error) {
	i, err := a.accounts.Invite(ctx, principal(ctx), in.Body.Role)
	if err != nil {
		return nil, err
	}
	out := &inviteAnswer{}
	out.Body.URI, out.Body.Secret, out.Body.Role, out.Body.Expires = i.URI, i.Secret, i.Role, moment(i.Expires)
	out.Body.QR, err = qrRows(i.URI)
	return out, err
}

type joinInput struct {
	Body struct {
		Secret   string      `json:"secret" maxLength:"128"`
		Username string      `json:"username" maxLength:"1024"`
		Password string      `json:"password" maxLength:"4096"`
		Device   *deviceInfo `json:"device,omitempty"`
	} `nameHint:"JoinRequest"`
}

func (a *API) join(ctx context.Context, in *joinInput) (*sessionAnswer, error) {
	s, err := a.accounts.Join(ctx, account.JoinRequest{
		Secret: in.Body.Secret, Username: in.Body.Username, Password: in.Body.Password, Device: in.Body.Device.info(), Remote: httpd.Remote(exchangeOf(ctx).r),
	})
	if err != nil {
		return nil, err
	}
	return begun(ctx, s), nil
}

type bindInput struct {
	Body struct {
		Serial   string      `json:"serial,omitempty" maxLength:"64" example:"YB26-4F7Q-9KMD"`
		Code     string      `json:"code,omitempty" maxLength:"64" doc:"The verification code of the label"`
		Secret   string      `json:"secret,omitempty" maxLength:"128" doc:"s of the pairing URI"`
		Username string      `json:"username" maxLength:"1024"`
		Password string      `json:"password" maxLength:"4096"`
		Device   *deviceInfo `json:"device,omitempty"`
	} `nameHint:"BindRequest"`
}

func (a *API) bind(ctx context.Context, in *bindInput) (*sessionAnswer, error) {
	typed := in.Body.Serial != "" && in.Body.Code != ""
	if typed == (in.Body.Secret != "") {
		return nil, &problem.Error{
			Kind: problem.Invalid, Op: "api.bind", Title: "The box cannot be bound like that",
			Hint: "Send either secret from the label's QR code, or serial and code as they stand on the label.",
		}
	}
	r := exchangeOf(ctx).r
	if typed && !a.accounts.Bound(ctx) {
		switch {
		case !httpd.FromPage(r) && !fromThisMachine(r): // here nobody is in between
			return nil, &problem.Error{
				Kind: problem.Forbidden, Op: "api.bind", Title: "The code of the label must not be sent",
				Detail: "Whoever answers in the box's place could pass it on.",
				Hint:   "Use POST /v1/bind/start, as `yunboxctl bind` does, or the QR code of the label.",
			}
		case !httpd.OnLink(r):
			return nil, &problem.Error{
				Kind: problem.Forbidden, Op: "api.bind", Title: "The page can bind the box on its own network only",
				Detail: "This browser is not on a network that the box is attached to.",
				Hint:   "Go where the box is, or bind it with an app or `yunboxctl bind`.",
			}
		}
	}
	s, err := a.accounts.Bind(ctx, account.BindRequest{
		Serial: in.Body.Serial, Code: in.Body.Code, Secret: in.Body.Secret, Username: in.Body.Username,
		Password: in.Body.Password, Device: in.Body.Device.info(), Remote: httpd.Remote(r),
	})
	if err != nil {
		return nil, err
	}
	return begun(ctx, s), nil
}

type startInput struct {
	Body struct {
		Method   string `json:"method" enum:"code" doc:"What was typed"`
		Username string `json:"username" maxLength:"1024" doc:"Who becomes the owner; part of the context as it is sent"`
		Share    string `json:"share" maxLength:"87" doc:"shareP: an uncompressed point of P-256, in base64url without padding"`
	} `nameHint:"BindStart"`
}

type startAnswer struct {
	Body struct {
		Run     string `json:"run" doc:"Names this run in finish-binding"`
		Share   string `json:"share" doc:"shareV, in base64url without padding"`
		Confirm string `json:"confirm" doc:"confirmV, likewise"`
		Expires moment `json:"expires"`
	} `nameHint:"BindOffer"`
}

func (a *API) startBinding(ctx context.Context, in *startInput) (*startAnswer, error) {
	share, err := base64.RawURLEncoding.DecodeString(in.Body.Share)
	if err != nil {
		share = nil // which is no share either
	}
	o, err := a.accounts.StartBind(ctx, in.Body.Username, share)
	if err != nil {
		return nil, err
	}
	out := &startAnswer{}
	out.Body.Run, out.Body.Share, out.Body.Confirm, out.Body.Expires = o.Run, base64.RawURLEncoding.EncodeToString(o.Share), base64.RawURLEncoding.EncodeToString(o.Confirm), moment(o.Expires)
	return out, nil
}

type finishInput struct {
	Body struct {
		Run      string      `json:"run" maxLength:"64"`
		Confirm  string      `json:"confirm" maxLength:"43" doc:"confirmP, in base64url without padding"`
		Password string      `json:"password" maxLength:"4096"`
		Device   *deviceInfo `json:"device,omitempty"`
	} `nameHint:"BindFinish"`
}

func (a *API) finishBinding(ctx context.Context, in *finishInput) (*sessionAnswer, error) {
	confirm, err := base64.RawURLEncoding.DecodeString(in.Body.Confirm)
	if err != nil || len(confirm) != spake2plus.ConfirmSize {
		return nil, &problem.Error{
			Kind: problem.Invalid, Op: "api.bind", Title: "That is no confirmation", Detail: "It has 32 bytes, in base64url.", Hint: "Use a current app.",
		}
	}
	s, err := a.accounts.FinishBind(ctx, account.BindFinish{
		Run: in.Body.Run, Confirm: confirm, Password: in.Body.Password, Device: in.Body.Device.info(), Remote: httpd.Remote(exchangeOf(ctx).r),
	})
	if err != nil {
		return nil, err
	}
	return begun(ctx, s), nil
}

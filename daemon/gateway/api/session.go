package api

import (
	"context"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
)

func (a *API) registerSession() {
	register(a, route{
		Method: "POST", Path: "/v1/session", ID: "sign-in", Tag: "account",
		Summary: "Sign in",
		Description: "The answer also sets a cookie for browsers. Where the person has a second factor and `otp` is missing, the answer is a " +
			"problem of type code-required: ask for the code and send all of it again. Programs that know only a password are given an app token instead.",
	}, httpd.Public, a.signIn)
	register(a, route{
		Method: "DELETE", Path: "/v1/session", ID: "sign-out", Tag: "account",
		Summary: "End this session",
	}, httpd.SignedIn, a.signOut)
	register(a, route{
		Method: "GET", Path: "/v1/me", ID: "get-me", Tag: "account",
		Summary: "Who is asking",
	}, httpd.Files, a.me)
	register(a, route{
		Method: "PATCH", Path: "/v1/me", ID: "change-me", Tag: "account",
		Summary: "Change what the asker prefers",
	}, httpd.SignedIn, a.changeMe)
	register(a, route{
		Method: "PUT", Path: "/v1/me/password", ID: "change-password", Tag: "account",
		Summary:     "Choose another password",
		Description: "All sessions end; the answer is a new one. App tokens stay.",
	}, httpd.SignedIn, a.changePassword)
	register(a, route{
		Method: "GET", Path: "/v1/tokens", ID: "list-tokens", Tag: "account",
		Summary: "The asker's app tokens",
	}, httpd.SignedIn, a.tokens)
	register(a, route{
		Method: "POST", Path: "/v1/tokens", ID: "create-token", Tag: "account", Status: 201,
		Summary: "Make an app token for a program",
		Description: "The token is shown this once. With scope `camera` it is a password of 16 letters and digits for the camera gateway (FTP), " +
			"with which photos can be left there and nothing else be done; small and capital letters, hyphens and spaces make no difference. " +
			"What comes by it lies in the folder Camera and the token's name. Scope `full` asks everybody for a recent proof of identity.",
	}, httpd.SignedIn, a.createToken)
	register(a, route{
		Method: "DELETE", Path: "/v1/tokens/{id}", ID: "revoke-token", Tag: "account",
		Summary: "Revoke an app token",
	}, httpd.SignedIn, a.revokeToken)
}

// principal is who a request acts as; every operation that asks is open to the
// signed-in only.
func principal(ctx context.Context) ident.Principal {
	p, _ := httpd.PrincipalFrom(ctx)
	return p
}

// deviceInfo is what a client says about the device that it runs on.
type deviceInfo struct {
	ID   *ident.DeviceID `json:"id,omitempty" doc:"One of the person's devices; left out: a new one"`
	Name string          `json:"name,omitempty" maxLength:"256" example:"Anna's phone"`
	Kind string          `json:"kind,omitempty" enum:"phone,tablet,computer,camera,browser,other"`

	DeviceAbout // kept only with the consent to device_info, left out of what is kept otherwise
}

func (d *deviceInfo) info() account.DeviceInfo {
	if d == nil {
		return account.DeviceInfo{}
	}
	info := account.DeviceInfo{Name: d.Name, Kind: d.Kind}
	if d.ID != nil {
		info.ID = *d.ID
	}
	return info
}

type sessionAnswer struct {
	Body SessionInfo
}

// SessionInfo is a session that has just begun.
type SessionInfo struct {
	Token   string          `json:"token" doc:"For Authorization: Bearer"`
	User    Person          `json:"user"`
	Device  *ident.DeviceID `json:"device" doc:"null: of no device in particular"`
	Expires moment          `json:"expires" doc:"At the latest"`
}

// Person is somebody who keeps files on the box.
type Person struct {
	ID       ident.UserID `json:"id"`
	Username string       `json:"username"`
	Role     ident.Role   `json:"role" enum:"owner,admin,member,child"`
}

// begun answers with a new session: its token for programs, its cookie for
// browsers.
func begun(ctx context.Context, s account.Session) *sessionAnswer {
	httpd.SetSessionCookie(exchangeOf(ctx).w, s)
	return &sessionAnswer{Body: SessionInfo{
		Token:  s.Token,
		User:   Person{ID: s.Principal.User, Username: s.Principal.Name, Role: s.Principal.Role},
		Device: orNull(s.Principal.Device), Expires: moment(s.Expires),
	}}
}

type signInInput struct {
	Body struct {
		Username string      `json:"username" maxLength:"1024"`
		Password string      `json:"password" maxLength:"4096"`
		OTP      string      `json:"otp,omitempty" maxLength:"128" doc:"The code of the person's authenticator, or one of their recovery codes"`
		Device   *deviceInfo `json:"device,omitempty"`
	} `nameHint:"SignInRequest"`
}

func (a *API) signIn(ctx context.Context, in *signInInput) (*sessionAnswer, error) {
	s, err := a.accounts.Login(ctx, account.LoginRequest{
		Username: in.Body.Username, Password: in.Body.Password, Code: in.Body.OTP, Device: in.Body.Device.info(), Remote: httpd.Remote(exchangeOf(ctx).r),
	})
	if err == nil {
		err = a.describe(ctx, s.Principal, in.Body.Device)
	}
	if err != nil {
		return nil, err
	}
	return begun(ctx, s), nil
}

func (a *API) signOut(ctx context.Context, _ *struct{}) (*struct{}, error) {
	if err := a.accounts.Logout(ctx, principal(ctx)); err != nil {
		return nil, err
	}
	httpd.ClearSessionCookie(exchangeOf(ctx).w)
	return nil, nil
}

type meAnswer struct {
	Body Me
}

// Me is the person who asks.
type Me struct {
	Person
	Usage  UsageFigures `json:"usage"`
	Policy PolicyState  `json:"policy"`
	// DeclineDeletedDays is how long deletions are remembered against backups.
	DeclineDeletedDays int `json:"decline_deleted_days" minimum:"0" maximum:"36500" doc:"For how many days backups may not bring back what the asker deleted from the box; 0: they may at once"`
}

// UsageFigures is what a person keeps.
type UsageFigures struct {
	Items         int64  `json:"items" minimum:"0"`
	Bytes         int64  `json:"bytes" minimum:"0" doc:"Versions and the trash included: what the quota limits"`
	DistinctBytes int64  `json:"distinct_bytes" minimum:"0" doc:"The same with each content counted once"`
	Quota         *int64 `json:"quota" minimum:"0" doc:"null: no limit"`
}

// PolicyState says whether the policy in force was accepted.
type PolicyState struct {
	Current  string  `json:"current"`
	Accepted *string `json:"accepted" doc:"The revision that the person accepted; null: none"`
	Standing string  `json:"standing" enum:"unasked,accepted,behind,declined" doc:"behind: they have not accepted the current revision after an earlier one; declined: they declined it"`
}

func (a *API) me(ctx context.Context, _ *struct{}) (*meAnswer, error) {
	p := principal(ctx)
	usage, err := a.catalog.Usage(ctx, p.User)
	if err != nil {
		return nil, err
	}
	out := &meAnswer{Body: Me{
		Person: Person{ID: p.User, Username: p.Name, Role: p.Role},
		Usage:  UsageFigures{Items: usage.Items, Bytes: usage.Bytes, DistinctBytes: usage.Distinct},
		Policy: PolicyState{Current: a.consent.Policy().Revision, Standing: string(a.consent.Standing(p.User))},
	}}
	if usage.Quota >= 0 {
		out.Body.Usage.Quota = &usage.Quota
	}
	accepted, err := a.acceptance(ctx, p.User)
	if err != nil {
		return nil, err
	}
	if accepted != nil {
		out.Body.Policy.Accepted = &accepted.Revision
	}
	out.Body.DeclineDeletedDays, err = a.accounts.DeclineDays(ctx, p.User)
	return out, err
}

type changeMeInput struct {
	Body struct {
		DeclineDeletedDays *int `json:"decline_deleted_days,omitempty" minimum:"0" maximum:"36500" doc:"See get-me; left out: it stays"`
	} `nameHint:"MeChange"`
}

func (a *API) changeMe(ctx context.Context, in *changeMeInput) (*meAnswer, error) {
	if days := in.Body.DeclineDeletedDays; days != nil {
		if err := a.accounts.SetDeclineDays(ctx, principal(ctx).User, *days); err != nil {
			return nil, err
		}
	}
	return a.me(ctx, nil)
}

type passwordInput struct {
	Body struct {
		Old string `json:"old" maxLength:"4096"`
		New string `json:"new" maxLength:"4096"`
	} `nameHint:"PasswordChange"`
}

func (a *API) changePassword(ctx context.Context, in *passwordInput) (*sessionAnswer, error) {
	s, err := a.accounts.ChangePassword(ctx, principal(ctx), in.Body.Old, in.Body.New, httpd.Remote(exchangeOf(ctx).r))
	if err != nil {
		return nil, err
	}
	return begun(ctx, s), nil
}

type tokensAnswer struct {
	Body struct {
		Tokens []TokenInfo `json:"tokens"`
	} `nameHint:"Tokens"`
}

// TokenInfo describes an app token, without its secret.
type TokenInfo struct {
	ID       string          `json:"id" pattern:"^[0-9a-hjkmnp-tv-z]{13}$"`
	Name     string          `json:"name"`
	Scope    ident.Scope     `json:"scope" enum:"full,files,camera"`
	Device   *ident.DeviceID `json:"device" doc:"null: of no device"`
	Created  moment          `json:"created"`
	LastUsed *moment         `json:"last_used" nullable:"true" doc:"To within an hour; null: never"`
}

func tokenInfo(t account.Token) TokenInfo {
	return TokenInfo{
		ID: account.TokenID(t.ID).String(), Name: t.Name, Scope: t.Scope, Device: orNull(t.Device),
		Created: moment(t.Created), LastUsed: momentOrNull(t.LastUsed),
	}
}

func (a *API) tokens(ctx context.Context, _ *struct{}) (*tokensAnswer, error) {
	list, err := a.accounts.Tokens(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	out := &tokensAnswer{}
	out.Body.Tokens = make([]TokenInfo, 0, len(list))
	for _, t := range list {
		out.Body.Tokens = append(out.Body.Tokens, tokenInfo(t))
	}
	return out, nil
}

type createTokenInput struct {
	Body struct {
		Name   string          `json:"name" maxLength:"256" doc:"By which its owner will know it" example:"PhotoSync"`
		Scope  ident.Scope     `json:"scope" enum:"full,files,camera" doc:"files: the person's files and uploads only; camera: leaving photos by FTP only"`
		Device *ident.DeviceID `json:"device,omitempty" doc:"The token goes with the device"`
	} `nameHint:"TokenRequest"`
}

type createTokenAnswer struct {
	Body NewToken
}

// NewToken is an app token with its secret.
type NewToken struct {
	TokenInfo
	FTPPort *int   `json:"ftp_port,omitempty" doc:"With scope camera: where the camera connects, if the camera gateway is switched on"`
	Token   string `json:"token" doc:"For Authorization: Bearer, or as the password of Basic; with scope camera the password for FTP. Shown this once"`
}

func (a *API) createToken(ctx context.Context, in *createTokenInput) (*createTokenAnswer, error) {
	var device ident.DeviceID
	if in.Body.Device != nil {
		device = *in.Body.Device
	}
	if in.Body.Scope == ident.ScopeFull {
		if err := a.accounts.RequireFresh(ctx, principal(ctx), account.Always); err != nil {
			return nil, err
		}
	}
	t, secret, err := a.accounts.CreateToken(ctx, principal(ctx), in.Body.Name, in.Body.Scope, device)
	if err != nil {
		return nil, err
	}
	out := &createTokenAnswer{Body: NewToken{TokenInfo: tokenInfo(t), Token: secret}}
	if port := a.box.FTPPort(); t.Scope == ident.ScopeCamera && port != 0 {
		out.Body.FTPPort = &port
	}
	return out, nil
}

type tokenInput struct {
	ID idParam[account.TokenID] `path:"id"`
}

func (a *API) revokeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	return nil, a.accounts.RevokeToken(ctx, principal(ctx), in.ID.ID)
}

package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerProfile() {
	const profile = "/v1/me/profile"
	register(a, route{
		Method: "GET", Path: profile, ID: "get-profile", Tag: "account",
		Summary:     "What the asker told about themselves beside their user name, masked",
		Description: "All of it is optional, rests on the consent to profile_details, and is erased when that is withdrawn.",
	}, httpd.SignedIn, a.profile)
	register(a, route{
		Method: "POST", Path: profile + "/reveal", ID: "reveal-profile", Tag: "account", Status: 200,
		Summary: "The same unmasked: the asker's explicit act, which is recorded",
	}, httpd.SignedIn, a.revealProfile)
	stream[setDetailInput, struct{}](a, route{
		Method: "PUT", Path: profile + "/{detail}", ID: "set-detail", Tag: "account", Status: 204,
		Summary: "Tell or correct a detail", Description: "Needs the consent to profile_details, which is asked for before the body is read.",
	}, httpd.SignedIn, profile+"/{detail}", nil, a.setDetail)
	register(a, route{
		Method: "DELETE", Path: profile + "/{detail}", ID: "delete-detail", Tag: "account",
		Summary: "Delete a detail",
	}, httpd.SignedIn, func(ctx context.Context, in *DetailPath) (*struct{}, error) {
		return nil, a.accounts.DeleteDetail(ctx, principal(ctx), in.Detail)
	})
	picture := map[string]*huma.MediaType{"image/jpeg": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	stream[struct{}, struct{}](a, route{
		Method: "GET", Path: profile + "/avatar", ID: "get-avatar", Tag: "account", Status: 200, Summary: "The asker's picture",
	}, httpd.SignedIn, profile+"/avatar", map[string]*huma.Response{"200": {Description: "The picture", Content: picture}}, a.avatar)
	stream[setAvatarInput, struct{}](a, route{
		Method: "PUT", Path: profile + "/avatar", ID: "set-avatar", Tag: "account", Status: 204, MaxBody: account.MaxAvatar,
		Summary: "Give the asker another picture",
		Description: "A PNG or JPEG of at most 512 pixels a side and 1 MiB. It is drawn anew: nothing else that is in the file is kept, nor how it was turned. " +
			"Needs the consent to profile_details, which is asked for before the body is read.",
	}, httpd.SignedIn, profile+"/avatar", nil, a.setAvatar)
	register(a, route{
		Method: "DELETE", Path: profile + "/avatar", ID: "delete-avatar", Tag: "account", Summary: "Delete the asker's picture",
	}, httpd.SignedIn, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return nil, a.accounts.DeleteAvatar(ctx, principal(ctx))
	})
	a.registerLogs()
	register(a, route{
		Method: "PUT", Path: "/v1/devices/{id}/about", ID: "describe-device", Tag: "account",
		Summary: "Keep what a device says about itself", Description: "Needs the consent to device_info. It takes the place of what it said before.",
	}, httpd.SignedIn, func(ctx context.Context, in *describeInput) (*struct{}, error) {
		if err := a.ownDevice(ctx, in.ID.ID); err != nil {
			return nil, err
		}
		g, err := a.consent.Grant(ctx, principal(ctx).User, 0, consent.DeviceInfo)
		if err != nil {
			return nil, err
		}
		return nil, a.accounts.DescribeDevice(ctx, principal(ctx), g, in.ID.ID, in.Body.about())
	})
	register(a, route{
		Method: "DELETE", Path: "/v1/devices/{id}/about", ID: "forget-device", Tag: "account",
		Summary: "Delete what a device said about itself", Description: "The device stays.",
	}, httpd.SignedIn, func(ctx context.Context, in *OneDevice) (*struct{}, error) {
		return nil, a.accounts.ForgetDevice(ctx, principal(ctx), in.ID.ID)
	})
}

// registerLogs adds the security log and the log of use.
func (a *API) registerLogs() {
	const signIns, usage = "/v1/me/sign-ins", "/v1/me/usage"
	register(a, route{
		Method: "GET", Path: signIns, ID: "list-sign-ins", Tag: "account",
		Summary:     "Where the asker signed in from, and where somebody tried to with their name, the newest first",
		Description: "The security log: kept for 30 days, without a consent, and for nothing else. Addresses are masked.",
	}, httpd.SignedIn, func(ctx context.Context, in *logInput) (*signInsAnswer, error) {
		list, err := a.accounts.SignIns(ctx, principal(ctx).User, int64(in.Before.ID), in.limit())
		return signInsPage(list, in.limit(), func(s account.SignIn) string { return s.Address.String() }), err
	})
	register(a, route{
		Method: "POST", Path: signIns + "/reveal", ID: "reveal-sign-ins", Tag: "account", Status: 200,
		Summary: "The same with whole addresses: the asker's explicit act, which is recorded",
	}, httpd.SignedIn, func(ctx context.Context, in *logInput) (*signInsAnswer, error) {
		list, w, err := a.accounts.RevealSignIns(ctx, principal(ctx), int64(in.Before.ID), in.limit())
		return signInsPage(list, in.limit(), func(s account.SignIn) string { return s.Address.Reveal(w) }), err
	})
	register(a, route{
		Method: "GET", Path: usage, ID: "list-usage", Tag: "account",
		Summary:     "Which pages of the box the asker opened, the newest first",
		Description: "The usage log: noted only under the consent to usage_logs, kept for 30 days, erased when that is withdrawn. Addresses are masked.",
	}, httpd.SignedIn, func(ctx context.Context, in *logInput) (*usesAnswer, error) {
		list, err := a.accounts.Uses(ctx, principal(ctx).User, int64(in.Before.ID), in.limit())
		return usesPage(list, in.limit(), func(u account.Use) string { return u.Address.String() }), err
	})
	register(a, route{
		Method: "POST", Path: usage + "/reveal", ID: "reveal-usage", Tag: "account", Status: 200,
		Summary: "The same with whole addresses: the asker's explicit act, which is recorded",
	}, httpd.SignedIn, func(ctx context.Context, in *logInput) (*usesAnswer, error) {
		list, w, err := a.accounts.RevealUses(ctx, principal(ctx), int64(in.Before.ID), in.limit())
		return usesPage(list, in.limit(), func(u account.Use) string { return u.Address.Reveal(w) }), err
	})
	register(a, route{
		Method: "POST", Path: usage, ID: "note-use", Tag: "account", Status: 204,
		Summary:     "Note that the asker opened a page",
		Description: "Needs the consent to usage_logs. The box adds the time, the browser, its language and the address.",
	}, httpd.SignedIn, func(ctx context.Context, in *noteUseInput) (*struct{}, error) {
		g, err := a.consent.Grant(ctx, principal(ctx).User, 0, consent.UsageLogs)
		if err != nil {
			return nil, err
		}
		return nil, a.accounts.NoteUse(ctx, g, in.Body.Page, in.Browser, in.Language, httpd.Remote(exchangeOf(ctx).r))
	})
	register(a, route{
		Method: "DELETE", Path: usage, ID: "delete-usage", Tag: "account", Summary: "Delete the asker's usage log",
	}, httpd.SignedIn, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return nil, a.accounts.DeleteUses(ctx, principal(ctx))
	})
}

// DetailPath is embedded by the input of operations on a detail.
type DetailPath struct {
	Detail account.Detail `path:"detail" enum:"email,phone,nickname,gender,city"`
}

type setDetailInput struct {
	DetailPath
	Body detailValue `nameHint:"DetailValue"`
}

type detailValue struct {
	Value string `json:"value" maxLength:"1024" doc:"gender is female, male or other"`
}

type setAvatarInput struct {
	RawBody []byte `contentType:"image/jpeg"`
}

// ProfileDetail is something that a person told about themselves.
type ProfileDetail struct {
	Detail  account.Detail `json:"detail" enum:"email,phone,nickname,gender,city"`
	Masked  *string        `json:"masked" doc:"null: no key opens it any more; tell it again"`
	Changed moment         `json:"changed"`
}

type profileAnswer struct {
	Body struct {
		Details []ProfileDetail `json:"details"`
		Avatar  bool            `json:"avatar" doc:"There is a picture: GET /v1/me/profile/avatar"`
		Allowed bool            `json:"allowed" doc:"The consent to profile_details is in force, so that details can be told"`
	} `nameHint:"Profile"`
}

func (a *API) profile(ctx context.Context, _ *struct{}) (*profileAnswer, error) {
	u := principal(ctx).User
	list, err := a.accounts.Profile(ctx, u)
	if err != nil {
		return nil, err
	}
	out := &profileAnswer{}
	out.Body.Details = []ProfileDetail{}
	for _, t := range list {
		d := ProfileDetail{Detail: t.Detail, Changed: moment(t.Changed)}
		if t.Value != nil {
			masked := t.Value.String()
			d.Masked = &masked
		}
		out.Body.Details = append(out.Body.Details, d)
	}
	if out.Body.Avatar, err = a.accounts.HasAvatar(ctx, u); err != nil {
		return nil, err
	}
	_, err = a.consent.Grant(ctx, u, 0, consent.ProfileDetails)
	out.Body.Allowed = err == nil
	if problem.KindOf(err) == problem.Internal {
		return nil, err
	}
	return out, nil
}

type revealInput struct {
	Body struct {
		Details []account.Detail `json:"details,omitempty" maxItems:"5" doc:"Left out: all"`
	} `nameHint:"RevealRequest"`
}

type revealAnswer struct {
	Body map[account.Detail]string
}

func (a *API) revealProfile(ctx context.Context, in *revealInput) (*revealAnswer, error) {
	shown, err := a.accounts.RevealProfile(ctx, principal(ctx), in.Body.Details...)
	return &revealAnswer{shown}, err
}

// setDetail asks for the consent before it reads what the person says.
func (a *API) setDetail(w http.ResponseWriter, r *http.Request) {
	err := func() error {
		p := principal(r.Context())
		g, err := a.consent.Grant(r.Context(), p.User, 0, consent.ProfileDetails)
		if err != nil {
			return err
		}
		var in detailValue
		if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
			return err
		}
		return a.accounts.SetDetail(r.Context(), p, g, account.Detail(r.PathValue("detail")), in.Value)
	}()
	done(w, r, err)
}

func (a *API) setAvatar(w http.ResponseWriter, r *http.Request) {
	err := func() error {
		p := principal(r.Context())
		g, err := a.consent.Grant(r.Context(), p.User, 0, consent.ProfileDetails)
		if err != nil {
			return err
		}
		return a.accounts.SetAvatar(r.Context(), p, g, r.Body)
	}()
	done(w, r, err)
}

// done answers with nothing, or with what went wrong.
func done(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) avatar(w http.ResponseWriter, r *http.Request) {
	picture, _, err := a.accounts.Avatar(r.Context(), principal(r.Context()).User)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/jpeg")
	h.Set("Content-Length", strconv.Itoa(len(picture)))
	h.Set("Content-Disposition", "inline")
	h.Set("Cache-Control", "no-store")
	w.Write(picture)
}

type logInput struct {
	Before idParam[ident.ItemID] `query:"before" doc:"Only what is older than the entry of that id"`
	Limit  int                   `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

func (in *logInput) limit() int { return max(1, in.Limit) }

// SignInEntry is a sign-in, or a wrong try.
type SignInEntry struct {
	ID      ident.ItemID    `json:"id"`
	Time    moment          `json:"time"`
	Outcome string          `json:"outcome" enum:"signed_in,refused,code_refused" doc:"code_refused: the password was right, the code was not"`
	Device  *ident.DeviceID `json:"device" doc:"null: of no device in particular"`
	Name    *string         `json:"name" doc:"Of the device, unless it was removed"`
	Address *string         `json:"address" doc:"null: not known"`
	Until   moment          `json:"until" doc:"When the entry is removed"`
}

type signInsAnswer struct {
	Body struct {
		SignIns []SignInEntry `json:"sign_ins"`
		Next    *ident.ItemID `json:"next" doc:"before of the next page; null: this is the last"`
	} `nameHint:"SignIns"`
}

func signInsPage(list []account.SignIn, limit int, address func(account.SignIn) string) *signInsAnswer {
	out := &signInsAnswer{}
	out.Body.SignIns = make([]SignInEntry, 0, len(list))
	for _, s := range list {
		out.Body.SignIns = append(out.Body.SignIns, SignInEntry{
			ID: ident.ItemID(s.ID), Time: moment(s.Time), Outcome: s.Outcome, Device: orNull(s.Device), Name: orNull(s.Name),
			Address: orNull(address(s)), Until: moment(s.Until),
		})
	}
	if len(list) == limit {
		out.Body.Next = orNull(ident.ItemID(list[limit-1].ID))
	}
	return out
}

// UseEntry is a page that somebody opened.
type UseEntry struct {
	ID       ident.ItemID `json:"id"`
	Time     moment       `json:"time"`
	Page     string       `json:"page"`
	Browser  string       `json:"browser"`
	Language string       `json:"language"`
	Address  *string      `json:"address" doc:"null: not known"`
	Until    moment       `json:"until" doc:"When the entry is removed"`
}

type usesAnswer struct {
	Body struct {
		Uses []UseEntry    `json:"uses"`
		Next *ident.ItemID `json:"next" doc:"before of the next page; null: this is the last"`
	} `nameHint:"Uses"`
}

func usesPage(list []account.Use, limit int, address func(account.Use) string) *usesAnswer {
	out := &usesAnswer{}
	out.Body.Uses = make([]UseEntry, 0, len(list))
	for _, u := range list {
		out.Body.Uses = append(out.Body.Uses, useEntry(u, address(u)))
	}
	if len(list) == limit {
		out.Body.Next = orNull(ident.ItemID(list[limit-1].ID))
	}
	return out
}

func useEntry(u account.Use, address string) UseEntry {
	return UseEntry{ID: ident.ItemID(u.ID), Time: moment(u.Time), Page: u.Page, Browser: u.Browser, Language: u.Language, Address: orNull(address), Until: moment(u.Until)}
}

type noteUseInput struct {
	Browser  string `header:"User-Agent"`
	Language string `header:"Accept-Language"`
	Body     struct {
		Page string `json:"page" minLength:"1" maxLength:"32" pattern:"^[a-z-]+$" example:"files"`
	} `nameHint:"UseNote"`
}

// DeviceAbout is what a device says about itself; what is left out is not known.
type DeviceAbout struct {
	Model  string `json:"model,omitempty" maxLength:"256" example:"Pixel 9"`
	System string `json:"system,omitempty" maxLength:"256" example:"Android 16"`
	App    string `json:"app,omitempty" maxLength:"256" example:"yunbox 1.2"`
}

func (d DeviceAbout) about() account.About { return account.About(d) }

type describeInput struct {
	OneDevice
	Body DeviceAbout
}

// describe keeps what a device says about itself where its person agreed to that, and
// drops it otherwise: a sign-in does not fail for it.
func (a *API) describe(ctx context.Context, p ident.Principal, d *deviceInfo) error {
	if d == nil || p.Device == 0 || d.DeviceAbout == (DeviceAbout{}) {
		return nil
	}
	g, err := a.consent.Grant(ctx, p.User, 0, consent.DeviceInfo)
	if problem.KindOf(err) == problem.ConsentRequired {
		return nil
	}
	if err == nil {
		err = a.accounts.DescribeDevice(ctx, p, g, p.Device, d.about())
	}
	return err
}

// LocalSignIn is a sign-in of anybody, as whoever maintains the box sees it.
type LocalSignIn struct {
	User *string `json:"user"` // null: of no name of this box
	SignInEntry
}

func (l *Local) signIns(w http.ResponseWriter, r *http.Request) error {
	limit := 50
	if n, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && n >= 1 && n <= 1000 {
		limit = n
	}
	list, err := l.api.accounts.AllSignIns(r.Context(), actor(), limit)
	if err != nil {
		return err
	}
	people, err := l.api.accounts.Users(r.Context())
	if err != nil {
		return err
	}
	names := map[ident.UserID]string{}
	for _, u := range people {
		names[u.ID] = u.Username
	}
	out := struct {
		SignIns []LocalSignIn `json:"sign_ins"`
	}{[]LocalSignIn{}}
	entries := signInsPage(list, limit+1, func(s account.SignIn) string { return s.Address.String() }).Body.SignIns
	for i, e := range entries {
		out.SignIns = append(out.SignIns, LocalSignIn{orNull(names[list[i].User]), e})
	}
	httpd.WriteJSON(w, http.StatusOK, out)
	return nil
}

// usage shows what somebody who agreed to it did on the page.
func (l *Local) usage(w http.ResponseWriter, r *http.Request) error {
	list, err := l.api.accounts.UsesOf(r.Context(), actor(), r.PathValue("name"), 200)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, usesPage(list, 201, func(u account.Use) string { return u.Address.String() }).Body)
	return nil
}

// findUser names who told an e-mail address or a telephone number.
func (l *Local) findUser(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Detail account.Detail `json:"detail"`
		Value  string         `json:"value"`
	}
	if err := httpd.ReadJSON(w, r, &in, maxJSON); err != nil {
		return err
	}
	names, err := l.api.accounts.WhoTold(r.Context(), actor(), in.Detail, in.Value)
	if err != nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, struct {
		Users []string `json:"users"`
	}{names})
	return nil
}

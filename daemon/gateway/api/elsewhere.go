package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/thirdparty"
)

// The two cookies of a sign-in elsewhere: what binds it to this browser, and what it
// came back with. Both end with it.
const (
	flowCookie   = "__Host-yunbox-flow"
	ticketCookie = "__Host-yunbox-elsewhere"
)

const maxAnswer = 64 << 10 // bytes of the form that a service sends a browser back with

func (a *API) registerElsewhere() {
	register(a, route{
		Method: "GET", Path: "/v1/sign-in", ID: "list-sign-in-services", Tag: "account",
		Summary: "Services elsewhere that people may sign in with", Description: "Those that whoever runs the box has set up; there are none of its own.",
	}, httpd.Public, func(context.Context, *struct{}) (*servicesAnswer, error) {
		out := &servicesAnswer{}
		out.Body.Services = []SignInService{}
		for _, s := range a.elsewhere.Services() {
			out.Body.Services = append(out.Body.Services, SignInService{ID: s.ID, Name: s.Name, Kind: string(s.Kind)})
		}
		return out, nil
	})
	register(a, route{
		Method: "POST", Path: "/v1/sign-in/{service}", ID: "begin-sign-in-elsewhere", Tag: "account",
		Summary: "Begin to sign in with an account elsewhere", Description: "For browsers: go to `url`. The service sends the browser back to the page, which then asks POST /v1/session/elsewhere.",
	}, httpd.Public, func(ctx context.Context, in *serviceInput) (*startedAnswer, error) {
		e := exchangeOf(ctx)
		return started(e.w)(a.elsewhere.BeginSignIn(ctx, in.Service, callback(e.r, in.Service), httpd.Remote(e.r)))
	})
	register(a, route{
		Method: "POST", Path: "/v1/session/elsewhere", ID: "sign-in-elsewhere", Tag: "account",
		Summary: "Sign in with what a service elsewhere has proved to this browser",
		Description: "Whoever connected that account is signed in; there is no new account. Where the person has a second factor, the answer is a problem of type " +
			"code-required, and the same can be asked again with `otp`, a few times. The session has not proved a password.",
	}, httpd.Public, a.signInElsewhere)
	register(a, route{
		Method: "GET", Path: "/v1/me/links", ID: "list-links", Tag: "account", Summary: "Accounts elsewhere that the asker connected",
	}, httpd.SignedIn, a.links)
	register(a, route{
		Method: "POST", Path: "/v1/me/links/{service}", ID: "begin-link", Tag: "account",
		Summary: "Begin to connect an account elsewhere", Description: "Needs the consent to `third_party_login`. For browsers: go to `url`. When the browser is back, the page asks POST /v1/me/links.",
	}, httpd.SignedIn, func(ctx context.Context, in *serviceInput) (*startedAnswer, error) {
		e := exchangeOf(ctx)
		return started(e.w)(a.elsewhere.BeginLink(ctx, principal(ctx), in.Service, callback(e.r, in.Service), httpd.Remote(e.r)))
	})
	register(a, route{
		Method: "POST", Path: "/v1/me/links", ID: "link", Tag: "account", Status: 201,
		Summary: "Connect what a service elsewhere has proved to this browser", Description: "By the session that began it, and while the consent holds.",
	}, httpd.SignedIn, a.link)
	register(a, route{
		Method: "DELETE", Path: "/v1/me/links/{id}", ID: "unlink", Tag: "account", Summary: "Cut the connection with an account elsewhere",
	}, httpd.SignedIn, func(ctx context.Context, in *linkInput) (*struct{}, error) {
		return nil, a.accounts.RemoveLink(ctx, principal(ctx), in.ID.ID)
	})
	back := map[string]*huma.Response{"303": {Description: "Back to the page"}}
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		id := map[string]string{http.MethodGet: "come-back", http.MethodPost: "come-back-by-form"}[m]
		stream[serviceInput, struct{}](a, route{
			Method: m, Path: "/v1/sign-in/{service}/callback", ID: id, Tag: "account", Status: 303,
			Summary: "Where a service elsewhere sends a browser back to",
		}, httpd.Public, "/v1/sign-in/{service}/callback", back, a.comeBack)
	}
	if a.elsewhere == nil { // only the document is wanted
		return
	}
	for _, s := range a.elsewhere.Services() {
		method := http.MethodGet
		if s.Kind == thirdparty.Apple {
			method = http.MethodPost
		}
		a.server.LetVisit(method, "/v1/sign-in/"+s.ID+"/callback")
	}
}

// SignInService is a service elsewhere.
type SignInService struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Kind string `json:"kind" enum:"oidc,apple,wechat"`
}

type servicesAnswer struct {
	Body struct {
		Services []SignInService `json:"services"`
	} `nameHint:"SignInServices"`
}

type serviceInput struct {
	Service string `path:"service" maxLength:"32"`
}

type startedAnswer struct {
	Body struct {
		URL string `json:"url" doc:"Where the browser goes, of another site"`
	} `nameHint:"SignInElsewhere"`
}

// callback is where a service sends the browser of r back to, by the name by which that
// knows the box.
func callback(r *http.Request, service string) string {
	return (&url.URL{Scheme: "https", Host: r.Host, Path: "/v1/sign-in/" + service + "/callback"}).String()
}

func started(w http.ResponseWriter) func(thirdparty.Started, error) (*startedAnswer, error) {
	return func(s thirdparty.Started, err error) (*startedAnswer, error) {
		if err != nil {
			return nil, err
		}
		c := &http.Cookie{Name: flowCookie, Value: s.Browser, Path: "/", MaxAge: int(s.Life / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		if s.CrossSite {
			c.SameSite = http.SameSiteNoneMode
		}
		http.SetCookie(w, c)
		out := &startedAnswer{}
		out.Body.URL = s.URL
		return out, nil
	}
}

func cookieOf(r *http.Request, name string) string {
	if list := r.CookiesNamed(name); len(list) == 1 && r.TLS != nil {
		return list[0].Value
	}
	return ""
}

func clearCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// comeBack takes a browser back from a service, and sends it on to the page, which
// asks for the outcome: the session's cookie does not come along on this way.
func (a *API) comeBack(w http.ResponseWriter, r *http.Request) {
	answer := r.URL.Query()
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxAnswer)
		if err := r.ParseForm(); err != nil {
			httpd.WriteProblem(w, r, &problem.Error{Kind: problem.Invalid, Op: "api.elsewhere", Title: "That is no answer of a service", Err: err, Hint: "Begin again."})
			return
		}
		answer = r.PostForm
	}
	w.Header().Set("Cache-Control", "no-store")
	ticket, linking, err := a.elsewhere.Finish(r.Context(), r.PathValue("service"), cookieOf(r, flowCookie), answer)
	to := "/#/elsewhere/sign-in"
	switch {
	case err != nil:
		to = "/#/elsewhere/over"
	case linking:
		to = "/#/elsewhere/link"
	}
	if err == nil {
		clearCookie(w, flowCookie)
		http.SetCookie(w, &http.Cookie{Name: ticketCookie, Value: ticket, Path: "/", MaxAge: 300, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

type signInElsewhereInput struct {
	Body struct {
		OTP    string      `json:"otp,omitempty" maxLength:"128" doc:"The code of the person's authenticator, or one of their recovery codes"`
		Device *deviceInfo `json:"device,omitempty"`
	} `nameHint:"SignInElsewhereRequest"`
}

func (a *API) signInElsewhere(ctx context.Context, in *signInElsewhereInput) (*sessionAnswer, error) {
	e := exchangeOf(ctx)
	s, err := a.elsewhere.SignIn(ctx, cookieOf(e.r, ticketCookie), in.Body.OTP, httpd.Remote(e.r), in.Body.Device.info())
	if problem.KindOf(err) != problem.CodeRequired {
		clearCookie(e.w, ticketCookie)
	}
	if err != nil {
		return nil, err
	}
	return begun(ctx, s), nil
}

// LinkInfo is an account elsewhere that somebody connected.
type LinkInfo struct {
	ID       string  `json:"id" pattern:"^[0-9a-hjkmnp-tv-z]{13}$"`
	Service  string  `json:"service"`
	Shown    *string `json:"shown" doc:"Nickname or e-mail address there; null: not known"`
	Created  moment  `json:"created"`
	LastUsed *moment `json:"last_used" nullable:"true" doc:"null: never"`
}

func linkInfo(l account.Link) LinkInfo {
	return LinkInfo{ID: l.ID.String(), Service: l.Service, Shown: orNull(l.Shown), Created: moment(l.Created), LastUsed: momentOrNull(l.LastUsed)}
}

type linksAnswer struct {
	Body struct {
		Links []LinkInfo `json:"links"`
	} `nameHint:"Links"`
}

func (a *API) links(ctx context.Context, _ *struct{}) (*linksAnswer, error) {
	list, err := a.accounts.Links(ctx, principal(ctx).User)
	out := &linksAnswer{}
	out.Body.Links = make([]LinkInfo, 0, len(list))
	for _, l := range list {
		out.Body.Links = append(out.Body.Links, linkInfo(l))
	}
	return out, err
}

type linkAnswer struct{ Body LinkInfo }

type linkInput struct {
	ID idParam[account.LinkID] `path:"id"`
}

func (a *API) link(ctx context.Context, _ *struct{}) (*linkAnswer, error) {
	e := exchangeOf(ctx)
	l, err := a.elsewhere.Link(ctx, principal(ctx), cookieOf(e.r, ticketCookie))
	clearCookie(e.w, ticketCookie)
	if err != nil {
		return nil, err
	}
	return &linkAnswer{linkInfo(l)}, nil
}

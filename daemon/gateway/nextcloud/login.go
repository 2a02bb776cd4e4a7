package nextcloud

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Login flow, version 2: the app asks for a login and opens the address that it gets
// in a browser. There, on the box's own page, the person signs in, names the device
// and consents to what it may back up. Meanwhile the app asks again and again, and
// gets an app token once that is done.
//
// Logins live in memory: they last twenty minutes, and an app begins anew.

const (
	// loginLife is how long a login may take.
	loginLife = 20 * time.Minute
	// maxLogins is how many may be under way at once.
	maxLogins = 256
	// maxClient is the most bytes of the name of an app that are shown.
	maxClient = 64
)

// A login is one that is under way.
type login struct {
	flow, poll string // the tokens of the page and of the app
	client     string // what the app calls itself
	from       string // its address
	ends       time.Time
	granted    *grantedLogin
}

type grantedLogin struct {
	by     ident.Principal
	device account.Device
}

// logins are those under way.
type logins struct {
	now func() time.Time

	mu   sync.Mutex
	list []*login // oldest first

	begun *account.Throttle // logins by source
	wrong *account.Throttle // tokens that are none, by source
}

func newLogins() *logins {
	return &logins{
		now: time.Now, begun: account.NewThrottle(6*time.Second, 20, 1024), wrong: account.NewThrottle(time.Second, 120, 1024),
	}
}

// find returns the login for which is says yes, and with take removes it.
func (l *logins) find(is func(*login) bool, take bool) *login {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	for i, x := range l.list {
		if !is(x) {
			continue
		}
		if take {
			l.list = append(l.list[:i:i], l.list[i+1:]...)
		}
		return x
	}
	return nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (l *logins) expire() {
	for len(l.list) > 0 && !l.now().Before(l.list[0].ends) {
		l.list = l.list[1:]
	}
}

func (l *logins) add(x *login) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	if len(l.list) >= maxLogins {
		return tooManyLogins(time.Minute)
	}
	x.ends = l.now().Add(loginLife)
	l.list = append(l.list, x)
	return nil
}

func tooManyLogins(wait time.Duration) error {
	return &problem.Error{
		Kind: problem.RateLimited, Op: "nextcloud.login", RetryAfter: wait,
		Detail: "Too many apps want to sign in right now.", Hint: "Wait a little, then try again in the app.",
	}
}

func noLogin() error {
	return &problem.Error{
		Kind: problem.NotFound, Op: "nextcloud.login", Title: "This sign-in is over",
		Detail: "It was completed, or took longer than 20 minutes.", Hint: "Begin again in the app.",
	}
}

func (h *Handler) registerLogin(server *httpd.Server) {
	server.Handle("POST /index.php/login/v2", http.HandlerFunc(h.beginLogin), httpd.Public)
	server.Handle("POST /index.php/login/v2/poll", http.HandlerFunc(h.pollLogin), httpd.Public)
	server.Handle("GET /index.php/login/v2/flow/{flow}", http.HandlerFunc(h.showLogin), httpd.SignedIn)
	server.Handle("POST /index.php/login/v2/flow/{flow}", http.HandlerFunc(h.grantLogin), httpd.SignedIn)
}

// origin is the address by which r came to the box; the hall has checked that it is
// one of the box's own.
func origin(r *http.Request) string {
	if r.TLS == nil {
		return "http://" + r.Host
	}
	return "https://" + r.Host
}

// clientName is what an app calls itself, as far as it can be shown.
func clientName(userAgent string) string {
	name := strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(userAgent, ""))
	if len(name) > maxClient {
		name = strings.ToValidUTF8(name[:maxClient], "") // half a character at the end
	}
	return strings.TrimSpace(name)
}

func (h *Handler) beginLogin(w http.ResponseWriter, r *http.Request) {
	if wait, ok := h.logins.begun.Take(h.logins.now(), httpd.Remote(r)); !ok {
		httpd.WriteProblem(w, r, tooManyLogins(wait))
		return
	}
	x := &login{flow: rand.Text(), poll: rand.Text() + rand.Text(), client: clientName(r.UserAgent()), from: httpd.Remote(r)}
	if err := h.logins.add(x); err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	type poll struct {
		Token    string `json:"token"`
		Endpoint string `json:"endpoint"`
	}
	// The token of the page stands behind the #, so no log and no proxy sees it.
	writeJSON(w, http.StatusOK, struct {
		Poll  poll   `json:"poll"`
		Login string `json:"login"`
	}{poll{x.poll, origin(r) + "/index.php/login/v2/poll"}, origin(r) + "/#/grant/" + x.flow})
}

// pollLogin gives the app its token, once.
func (h *Handler) pollLogin(w http.ResponseWriter, r *http.Request) {
	token := r.FormValue("token") // in the body, or in the query as the app for iOS does
	if h.logins.find(func(x *login) bool { return same(x.poll, token) }, false) == nil {
		if wait, ok := h.logins.wrong.Take(h.logins.now(), httpd.Remote(r)); !ok {
			httpd.WriteProblem(w, r, tooManyLogins(wait))
			return
		}
	}
	x := h.logins.find(func(x *login) bool { return same(x.poll, token) && x.granted != nil }, true)
	if x == nil {
		writeJSON(w, http.StatusNotFound, []string{})
		return
	}
	by := x.granted.by
	_, secret, err := h.Accounts.CreateToken(r.Context(), by, x.granted.device.Name, ident.ScopeFiles, x.granted.device.ID)
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Server      string `json:"server"`
		LoginName   string `json:"loginName"`
		AppPassword string `json:"appPassword"`
	}{origin(r), by.Name, secret})
}

// showLogin tells the page which app asks.
func (h *Handler) showLogin(w http.ResponseWriter, r *http.Request) {
	flow := r.PathValue("flow")
	x := h.logins.find(func(x *login) bool { return same(x.flow, flow) }, false)
	if x == nil {
		httpd.WriteProblem(w, r, noLogin())
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Client string `json:"client"`
		From   string `json:"from"`
	}{x.client, x.from})
}

// grantLogin lets the app in as the device that the person has named on the page.
// What it may back up was decided there for that device.
func (h *Handler) grantLogin(w http.ResponseWriter, r *http.Request) {
	if err := h.letIn(r); err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) letIn(r *http.Request) error {
	id, err := parseGrant(r.Body)
	if err != nil {
		return err
	}
	device, err := h.Accounts.Device(r.Context(), principal(r).User, id)
	if err != nil {
		return err
	}
	if !h.logins.grant(r.PathValue("flow"), &grantedLogin{by: principal(r), device: device}) {
		return noLogin()
	}
	return nil
}

// parseGrant reads which device the page named.
func parseGrant(r io.Reader) (ident.DeviceID, error) {
	var in struct {
		Device ident.DeviceID `json:"device"`
	}
	body, err := io.ReadAll(io.LimitReader(r, 4<<10))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || in.Device <= 0 {
		return 0, &problem.Error{
			Kind: problem.Invalid, Op: "nextcloud.login", Title: "The device is not said", Err: err,
			Hint: `Send {"device": "…"} with the id of one of your devices.`,
		}
	}
	return in.Device, nil
}

// grant lets the app of a login in. The first who does decides.
func (l *logins) grant(flow string, g *grantedLogin) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	for _, x := range l.list {
		if same(x.flow, flow) && x.granted == nil {
			x.granted = g
			return true
		}
	}
	return false
}

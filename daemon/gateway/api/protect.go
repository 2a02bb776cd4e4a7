package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"rsc.io/qr"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

func (a *API) registerProtection() {
	const factor = "/v1/me/second-factor"
	register(a, route{
		Method: "POST", Path: "/v1/session/proof", ID: "prove-identity", Tag: "account",
		Summary:     "Prove again who holds this session, for acts that need it (x-step-up)",
		Description: "Holds for five minutes. Signing in is such a proof, too.",
	}, httpd.SignedIn, a.prove)
	register(a, route{
		Method: "GET", Path: "/v1/sessions", ID: "list-sessions", Tag: "account",
		Summary: "Where the asker is signed in, the most recently used first",
	}, httpd.SignedIn, a.sessions)
	register(a, route{
		Method: "DELETE", Path: "/v1/sessions/{id}", ID: "end-session", Tag: "account",
		Summary: "Sign out elsewhere",
	}, httpd.SignedIn, a.endSession)
	register(a, route{
		Method: "DELETE", Path: "/v1/sessions", ID: "end-other-sessions", Tag: "account", Status: 200,
		Summary: "Sign out everywhere else", Description: "App tokens stay.",
	}, httpd.SignedIn, a.endOtherSessions)
	register(a, route{
		Method: "GET", Path: factor, ID: "get-second-factor", Tag: "account",
		Summary: "Whether signing in takes a code, too",
	}, httpd.SignedIn, a.factor)
	register(a, route{
		Method: "POST", Path: factor, ID: "begin-second-factor", Tag: "account",
		Summary: "Make a secret for an authenticator app",
		Description: "TOTP (RFC 6238): SHA-1, six digits, 30 seconds. It counts for nothing until it is confirmed with a code, within 15 minutes. " +
			"One that is in use stays so until then.",
	}, httpd.SignedIn, a.beginFactor)
	register(a, route{
		Method: "PUT", Path: factor, ID: "confirm-second-factor", Tag: "account",
		Summary:     "Switch the second factor on with the first code",
		Description: "The recovery codes are shown this once. All other sessions end.",
	}, httpd.SignedIn, a.confirmFactor)
	register(a, route{
		Method: "DELETE", Path: factor, ID: "remove-second-factor", Tag: "account",
		Summary: "Switch the second factor off",
	}, httpd.SignedIn, a.removeFactor)
	register(a, route{
		Method: "POST", Path: factor + "/recovery-codes", ID: "renew-recovery-codes", Tag: "account", Status: 200,
		Summary: "Make new recovery codes", Description: "They are shown this once; earlier ones are void.",
	}, httpd.SignedIn, a.renewCodes)
	register(a, route{
		Method: "GET", Path: "/v1/me/notices", ID: "list-notices", Tag: "account",
		Summary:     "What happened on the asker's account and was not seen yet, the oldest first",
		Description: "For 90 days at most, the last 100.",
	}, httpd.SignedIn, a.notices)
	register(a, route{
		Method: "DELETE", Path: "/v1/me/notices", ID: "see-notices", Tag: "account",
		Summary: "Say that notices were seen",
	}, httpd.SignedIn, a.seeNotices)
	register(a, route{
		Method: "POST", Path: "/v1/passwords/strength", ID: "judge-password", Tag: "account",
		Summary:     "How well a password would withstand guessing",
		Description: "Nothing is kept, and nobody's password is compared with it.",
	}, httpd.Public, a.judgePassword)
}

type proveInput struct {
	Body struct {
		Password string `json:"password" maxLength:"4096"`
		OTP      string `json:"otp,omitempty" maxLength:"128" doc:"The code of the person's authenticator, or one of their recovery codes; needed if they have a second factor"`
	} `nameHint:"ProofRequest"`
}

type proveAnswer struct {
	Body struct {
		Until moment `json:"until" doc:"For how long it holds"`
	} `nameHint:"Proof"`
}

func (a *API) prove(ctx context.Context, in *proveInput) (*proveAnswer, error) {
	until, err := a.accounts.Prove(ctx, principal(ctx), in.Body.Password, in.Body.OTP, httpd.Remote(exchangeOf(ctx).r))
	out := &proveAnswer{}
	out.Body.Until = moment(until)
	return out, err
}

// SessionEntry is a place where somebody is signed in.
type SessionEntry struct {
	ID       string          `json:"id" pattern:"^[0-9a-hjkmnp-tv-z]{13}$"`
	Device   *ident.DeviceID `json:"device" doc:"null: of no device in particular"`
	Name     *string         `json:"name" doc:"Of the device"`
	Kind     *string         `json:"kind" doc:"Of the device: phone, tablet, computer, camera, browser, other"`
	Created  moment          `json:"created"`
	LastSeen moment          `json:"last_seen" doc:"To within an hour"`
	Current  bool            `json:"current" doc:"The one that asks"`
}

type sessionsAnswer struct {
	Body struct {
		Sessions []SessionEntry `json:"sessions"`
	} `nameHint:"Sessions"`
}

func (a *API) sessions(ctx context.Context, _ *struct{}) (*sessionsAnswer, error) {
	list, err := a.accounts.Sessions(ctx, principal(ctx))
	if err != nil {
		return nil, err
	}
	out := &sessionsAnswer{}
	out.Body.Sessions = make([]SessionEntry, 0, len(list))
	for _, s := range list {
		out.Body.Sessions = append(out.Body.Sessions, SessionEntry{
			ID: s.ID.String(), Device: orNull(s.Device), Name: orNull(s.Name), Kind: orNull(s.Kind),
			Created: moment(s.Created), LastSeen: moment(s.LastSeen), Current: s.Current,
		})
	}
	return out, nil
}

type sessionInput struct {
	ID idParam[account.SessionID] `path:"id"`
}

func (a *API) endSession(ctx context.Context, in *sessionInput) (*struct{}, error) {
	return nil, a.accounts.EndSession(ctx, principal(ctx), in.ID.ID)
}

type endedAnswer struct {
	Body struct {
		Ended int64 `json:"ended" minimum:"0" doc:"How many sessions that were"`
	} `nameHint:"EndedSessions"`
}

func (a *API) endOtherSessions(ctx context.Context, _ *struct{}) (*endedAnswer, error) {
	ended, err := a.accounts.EndOtherSessions(ctx, principal(ctx))
	out := &endedAnswer{}
	out.Body.Ended = ended
	return out, err
}

type factorAnswer struct {
	Body struct {
		On    bool    `json:"on"`
		Since *moment `json:"since" nullable:"true"`
		Codes int     `json:"recovery_codes" minimum:"0" doc:"How many are left"`
	} `nameHint:"SecondFactor"`
}

func (a *API) factor(ctx context.Context, _ *struct{}) (*factorAnswer, error) {
	f, err := a.accounts.Factor(ctx, principal(ctx).User)
	out := &factorAnswer{}
	out.Body.On, out.Body.Since, out.Body.Codes = f.On, momentOrNull(f.Since), f.Codes
	return out, err
}

type enrolmentAnswer struct {
	Body struct {
		Secret  string   `json:"secret" doc:"Base 32, to be typed into the app"`
		URI     string   `json:"uri" doc:"otpauth://totp/…: what the QR code says"`
		QR      []string `json:"qr" doc:"The QR code, a row of modules each: # is dark, . is light. Draw it on white with a margin of four modules"`
		Expires moment   `json:"expires" doc:"When it must have been confirmed"`
	} `nameHint:"Enrolment"`
}

func (a *API) beginFactor(ctx context.Context, _ *struct{}) (*enrolmentAnswer, error) {
	e, err := a.accounts.BeginFactor(ctx, principal(ctx))
	if err != nil {
		return nil, err
	}
	out := &enrolmentAnswer{}
	out.Body.Secret, out.Body.URI, out.Body.Expires = e.Secret, e.URI, moment(e.Expires)
	out.Body.QR, err = qrRows(e.URI)
	return out, err
}

// qrRows is text as a QR code, a character a module.
func qrRows(text string) ([]string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, err
	}
	rows := make([]string, code.Size)
	for y := range rows {
		var row strings.Builder
		for x := range code.Size {
			if code.Black(x, y) {
				row.WriteByte('#')
			} else {
				row.WriteByte('.')
			}
		}
		rows[y] = row.String()
	}
	return rows, nil
}

type confirmInput struct {
	Body struct {
		OTP string `json:"otp" maxLength:"128" doc:"What the new authenticator shows"`
	} `nameHint:"FirstCode"`
}

type codesAnswer struct {
	Body struct {
		Codes []string `json:"recovery_codes" doc:"Each signs in once in place of a code"`
	} `nameHint:"RecoveryCodes"`
}

func codesOf(codes []string, err error) (*codesAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &codesAnswer{}
	out.Body.Codes = codes
	return out, nil
}

func (a *API) confirmFactor(ctx context.Context, in *confirmInput) (*codesAnswer, error) {
	return codesOf(a.accounts.ConfirmFactor(ctx, principal(ctx), in.Body.OTP))
}

func (a *API) renewCodes(ctx context.Context, _ *struct{}) (*codesAnswer, error) {
	return codesOf(a.accounts.RenewRecoveryCodes(ctx, principal(ctx)))
}

func (a *API) removeFactor(ctx context.Context, _ *struct{}) (*struct{}, error) {
	return nil, a.accounts.RemoveFactor(ctx, principal(ctx))
}

// NoticeEntry is something that happened on somebody's account.
type NoticeEntry struct {
	ID     string          `json:"id" pattern:"^[0-9a-hjkmnp-tv-z]{13}$"`
	Time   moment          `json:"time"`
	Kind   string          `json:"kind" enum:"device,factor_on,factor_off,factor_reset,recovery_code,code_guessing,password,password_set,guardian_asked,guardian_new,guardian_ends,guardian_gone,ward_asks,ward_answer,ward_says_no,ward_erasure,ward_erased,of_age,ward_of_age,cancellation,removal,cancellation_no,handover,handover_yes,handover_no,handover_done,owner_offer,owner_no,owner_new,request,request_answer,incident,linked,unlinked"`
	Device *ident.DeviceID `json:"device" doc:"Where it happened; null: not known. It may be removed by now"`
	Name   *string         `json:"name" doc:"Of that device, as it was then; where it is about a guardian or a child, their user name"`
	Own    bool            `json:"own" doc:"It happened on the device that asks"`
}

func noticeEntry(n account.Notice, p ident.Principal) NoticeEntry {
	return NoticeEntry{ID: n.ID.String(), Time: moment(n.Time), Kind: n.Kind, Device: orNull(n.Device), Name: orNull(n.Name),
		Own: n.Device != 0 && n.Device == p.Device}
}

type noticesAnswer struct {
	Body struct {
		Notices []NoticeEntry `json:"notices"`
	} `nameHint:"Notices"`
}

func (a *API) notices(ctx context.Context, _ *struct{}) (*noticesAnswer, error) {
	p := principal(ctx)
	list, err := a.accounts.Notices(ctx, p.User, 0)
	if err != nil {
		return nil, err
	}
	out := &noticesAnswer{}
	out.Body.Notices = make([]NoticeEntry, 0, len(list))
	for _, n := range list {
		out.Body.Notices = append(out.Body.Notices, noticeEntry(n, p))
	}
	return out, nil
}

type seeNoticesInput struct {
	Through idParam[account.NoticeID] `query:"through" required:"true" doc:"The last one that was seen"`
}

func (a *API) seeNotices(ctx context.Context, in *seeNoticesInput) (*struct{}, error) {
	return nil, a.accounts.SeenNotices(ctx, principal(ctx).User, in.Through.ID)
}

type judgeInput struct {
	Body struct {
		Password string `json:"password" maxLength:"4096"`
		Username string `json:"username,omitempty" maxLength:"1024" doc:"Whose it would be: a password built of the name is weak"`
	} `nameHint:"PasswordToJudge"`
}

type judgeAnswer struct {
	Body struct {
		OK     bool    `json:"ok" doc:"The box would take it"`
		Score  int     `json:"score" minimum:"0" maximum:"4" doc:"Fewer than 10³, 10⁶, 10⁸, 10¹⁰ guesses, or more"`
		Reason *string `json:"reason" enum:"short,common,personal,pattern,repeat,date" doc:"What makes it weak"`
	} `nameHint:"PasswordStrength"`
}

func (a *API) judgePassword(ctx context.Context, in *judgeInput) (*judgeAnswer, error) {
	// It costs some milliseconds, and anybody may ask.
	if wait, ok := a.judged.Take(time.Now(), httpd.Remote(exchangeOf(ctx).r)); !ok {
		return nil, &problem.Error{Kind: problem.RateLimited, Op: "api.judge", RetryAfter: wait,
			Detail: "There were too many tries in a short time.", Hint: "Wait and try again. Trying from another device works at once."}
	}
	s := a.accounts.PasswordStrength(in.Body.Password, in.Body.Username)
	out := &judgeAnswer{}
	out.Body.OK, out.Body.Score, out.Body.Reason = s.OK(), s.Score, orNull(s.Reason)
	return out, nil
}

// lastNotice is the newest notice of a listener who may hear of them.
func (a *API) lastNotice(r *http.Request) (account.NoticeID, error) {
	list, err := a.accounts.Notices(r.Context(), principal(r.Context()).User, 0)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].ID, nil
}

// sendNotices tells a session what happened on its account after a notice, and
// returns the last one. A program with an app token for files hears nothing of it.
func (a *API) sendNotices(r *http.Request, s *eventStream, after account.NoticeID) (account.NoticeID, error) {
	p := principal(r.Context())
	if p.Scope != ident.ScopeFull {
		return after, nil
	}
	list, err := a.accounts.Notices(r.Context(), p.User, after)
	for _, n := range list {
		data, err := json.Marshal(noticeEntry(n, p))
		if err != nil {
			return after, err
		}
		s.printf("event: notice\ndata: %s\n\n", data)
		after = n.ID
	}
	return after, err
}

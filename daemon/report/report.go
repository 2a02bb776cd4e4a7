// Package report is what the box would tell its maker: whether there is a newer version
// (policy 1.1.5), and sums of how it is used (policy 1.2.3). Neither is sent by itself,
// and there is no address in the program: whoever runs the box sets one, consents, sees
// the very bytes that would leave, and sends those.
package report

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Options of New. All but Roots are needed.
type Options struct {
	DB      *db.DB
	Consent *consent.Ledger
	Outside *disclosure.Register
	Version string // of the software
	// Updates and Statistics are https addresses; "": there is none, and nothing is sent.
	Updates, Statistics string
	Roots               *x509.CertPool // further authorities to trust; nil: those of the system
	// People lists everybody on the box; Kept is how much one of them keeps.
	People func(context.Context) ([]ident.UserID, error)
	Kept   func(context.Context, ident.UserID) (files, bytes int64, err error)
}

// Room is safe for concurrent use.
type Room struct {
	opt    Options
	client *http.Client
}

// New makes the room. It asks nobody anything.
func New(opt Options) *Room {
	var hosts []string
	for _, at := range []string{opt.Updates, opt.Statistics} {
		if u, err := url.Parse(at); err == nil && at != "" {
			hosts = append(hosts, u.Hostname())
		}
	}
	return &Room{opt: opt, client: opt.Outside.Client(disclosure.ClientOptions{Hosts: hosts, Roots: opt.Roots})}
}

// Shown is what would be sent, and to whom.
type Shown struct {
	URL     string // "": there is no address, so that nothing is ever sent
	Payload string // the very bytes: JSON
}

// Update is the question for a newer version: the application number, the type of
// system and the version, and nothing else. The number is random, says nothing about the
// box, and is made when it is first shown.
func (r *Room) Update(ctx context.Context) (Shown, error) {
	number, err := r.number(ctx)
	if err != nil {
		return Shown{}, err
	}
	payload, err := json.Marshal(struct {
		Number  string `json:"application_number"`
		OS      string `json:"os_type"`
		Version string `json:"app_version"`
	}{number, runtime.GOOS, r.opt.Version})
	return Shown{r.opt.Updates, string(payload)}, err
}

const numberKey = "application_number"

func newNumber() string {
	b := make([]byte, 10)
	rand.Read(b)
	return base32.StdEncoding.EncodeToString(b)
}

func (r *Room) number(ctx context.Context) (number string, err error) {
	asks := func(tx *db.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT coalesce((SELECT value FROM box WHERE key = ?), '')`, numberKey).Scan(&number)
	}
	if err := r.opt.DB.Read(ctx, asks); err != nil || number != "" {
		return number, err
	}
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO box (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, numberKey, newNumber()); err != nil {
			return err
		}
		return asks(tx)
	})
	return number, err
}

// RenewNumber gives the box another application number, so that nobody can tell that it
// asked before.
func (r *Room) RenewNumber(ctx context.Context) error {
	return r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO box (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, numberKey, newNumber())
		return err
	})
}

// Answer is what the maker says.
type Answer struct {
	Latest string // version
	Newer  bool   // than this one
}

var version = regexp.MustCompile(`^\d{1,6}\.\d{1,6}\.\d{1,6}(-[0-9A-Za-z.-]{1,32})?$`)

// CheckForUpdate asks as p, who consented to it, with what p was shown.
func (r *Room) CheckForUpdate(ctx context.Context, p ident.Principal, payload string) (Answer, error) {
	now, err := r.Update(ctx)
	if err != nil {
		return Answer{}, err
	}
	body, err := r.send(ctx, p, now, payload, consent.UpdateCheck, disclosure.Entry{Kind: disclosure.UpdateCheck,
		Categories: []string{"application_number", "os_type", "app_version", "network_address"}, Why: "update_check"})
	if err != nil {
		return Answer{}, err
	}
	var said struct {
		Latest string `json:"latest"`
	}
	if json.Unmarshal(body, &said) != nil || !version.MatchString(said.Latest) {
		return Answer{}, badAnswer()
	}
	return Answer{said.Latest, newer(said.Latest, r.opt.Version)}, nil
}

// newer compares the three numbers of versions; of equal ones, one without a suffix is
// newer than one with (SemVer 2.0.0 §11).
func newer(a, b string) bool {
	x, xs, _ := strings.Cut(a, "-")
	y, ys, _ := strings.Cut(b, "-")
	m, n := strings.Split(x, "."), strings.Split(y, ".")
	for i := range min(len(m), len(n)) {
		p, _ := strconv.Atoi(m[i])
		q, _ := strconv.Atoi(n[i])
		if p != q {
			return p > q
		}
	}
	return xs == "" && ys != ""
}

// Counts are the sums of those people who consented to them, in steps of ten: nothing in
// them is the number of anybody's files, or tells one box from another.
type Counts struct {
	Version string `json:"app_version"`
	OS      string `json:"os_type"`
	Arch    string `json:"architecture"`
	People  string `json:"people"`
	Files   string `json:"files"`
	Bytes   string `json:"bytes"`
}

// step is the power of ten that n lies in: "0", "1-9", "10-99", …
func step(n int64) string {
	if n <= 0 {
		return "0"
	}
	low := int64(1)
	for n/10 >= low {
		low *= 10
	}
	if low > 1e17 {
		return "1e17-"
	}
	return fmt.Sprintf("%d-%d", low, low*10-1)
}

func (r *Room) consenting(ctx context.Context) (list []consent.Grant, err error) {
	people, err := r.opt.People(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range people {
		switch g, err := r.opt.Consent.Grant(ctx, u, 0, consent.Statistics); problem.KindOf(err) {
		case "":
			list = append(list, g)
		case problem.ConsentRequired:
		default:
			return nil, err
		}
	}
	return list, nil
}

// Sums are what would be sent as statistics. Who did not consent is not counted.
func (r *Room) Sums(ctx context.Context) (Shown, error) {
	grants, err := r.consenting(ctx)
	if err != nil {
		return Shown{}, err
	}
	var files, size int64
	for _, g := range grants {
		f, b, err := r.opt.Kept(ctx, g.User())
		if err != nil {
			return Shown{}, err
		}
		files, size = files+f, size+b
	}
	major, _, _ := strings.Cut(r.opt.Version, "-")
	payload, err := json.Marshal(Counts{Version: major, OS: runtime.GOOS, Arch: runtime.GOARCH, People: step(int64(len(grants))), Files: step(files), Bytes: step(size)})
	return Shown{r.opt.Statistics, string(payload)}, err
}

// SendSums sends statistics as p, who consented to them, as p was shown them. Everybody
// who is counted finds it in their register.
func (r *Room) SendSums(ctx context.Context, p ident.Principal, payload string) error {
	now, err := r.Sums(ctx)
	if err != nil {
		return err
	}
	_, err = r.send(ctx, p, now, payload, consent.Statistics, disclosure.Entry{Kind: disclosure.Statistics, Categories: []string{"sums", "network_address"}, Why: "statistics"})
	return err
}

// send posts what p was shown, if it is still what would be sent, and returns the answer.
func (r *Room) send(ctx context.Context, p ident.Principal, now Shown, payload string, purpose consent.Purpose, e disclosure.Entry) ([]byte, error) {
	g, err := r.opt.Consent.Grant(ctx, p.User, 0, purpose)
	if err != nil {
		return nil, err
	}
	if now.URL == "" {
		return nil, &problem.Error{Kind: problem.Unsupported, Op: "report", Title: "There is nobody to send that to",
			Detail: "No address is set, and the program has none of its own: nothing is sent.", Hint: "Whoever runs the box can set one under [maker]."}
	}
	if subtle.ConstantTimeCompare([]byte(payload), []byte(now.Payload)) != 1 {
		return nil, &problem.Error{Kind: problem.Conflict, Op: "report", Title: "That is not what would be sent now",
			Detail: "It has changed since you were shown it.", Hint: "Look at it again, then send it."}
	}
	grants := []consent.Grant{g}
	if purpose == consent.Statistics {
		if grants, err = r.consenting(ctx); err != nil {
			return nil, err
		}
	}
	at, err := url.Parse(now.URL)
	if err != nil {
		return nil, err
	}
	e.Basis, e.Actor = disclosure.ByConsent, p.User
	err = r.opt.DB.Write(ctx, func(tx *db.Tx) error {
		if err := g.Check(tx, purpose); err != nil {
			return err
		}
		for _, other := range grants {
			if other.User() != p.User {
				if err := other.Check(tx, purpose); err != nil {
					return err
				}
			}
			entry, err := other.Entry(tx)
			if err != nil {
				return err
			}
			own := e
			own.User, own.Recipient, own.Authority = other.User(), strings.ToLower(at.Hostname()), disclosure.ForConsent(purpose, entry)
			if other.User() == p.User {
				e.User, e.Authority = own.User, own.Authority
				continue // the client writes this one
			}
			if err := r.opt.Outside.Record(tx, own); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	live, release := g.Context(ctx)
	defer release()
	req, err := http.NewRequestWithContext(disclosure.With(live, e), http.MethodPost, now.URL, bytes.NewReader([]byte(payload)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "") // nothing else: also not which program asks
	resp, err := r.client.Do(req)
	if err != nil {
		if cause := context.Cause(live); problem.KindOf(cause) == problem.ConsentRequired {
			return nil, cause
		}
		return nil, &problem.Error{Kind: problem.Unavailable, Op: "report", Title: "The maker's server cannot be reached", Err: err, Hint: "Try again later."}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return nil, badAnswer()
	}
	return body, nil
}

func badAnswer() error {
	return &problem.Error{Kind: problem.Unavailable, Op: "report", Title: "The maker's server gave no answer that the box understands",
		Hint: "Try again later. Updates can always be put on the box by hand."}
}

package webdav

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/problem"
)

// conditions are a parsed If header (RFC 4918 §10.4). It holds if one of its lists
// does, and a list holds if each of its conditions does. Without lists it holds.
type conditions []list

type list struct {
	resource string // the URL that it speaks of; "": that of the request
	all      []condition
}

// A condition is either a state token or an entity tag.
type condition struct {
	not   bool
	token string
	etag  string // with its quotes
}

// maxConditions bounds the lists and conditions of one header.
const maxConditions = 256

func badIf(why string) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "webdav.if", Title: "The If header cannot be used", Detail: "It is refused because " + why + ".",
		Hint: "Send it as RFC 4918 §10.4 describes it, or leave it out.",
	}
}

// parseIf reads the value of an If header; "" is none.
func parseIf(s string) (conditions, error) {
	var found conditions
	resource, total := "", 0
	s = strings.TrimLeft(s, " \t")
	for s != "" {
		if s[0] == '<' {
			var ok bool
			if resource, s, ok = between(s, '<', '>'); !ok || resource == "" {
				return nil, badIf("a resource in it does not end")
			}
			if s == "" || s[0] != '(' {
				return nil, badIf("a resource in it has no conditions")
			}
		}
		if s[0] != '(' {
			return nil, badIf("a list in it does not begin with a bracket")
		}
		l := list{resource: resource}
		s = strings.TrimLeft(s[1:], " \t")
		for s != "" && s[0] != ')' {
			c, rest, err := parseCondition(s)
			if err != nil {
				return nil, err
			}
			l.all, s = append(l.all, c), rest
			total++
		}
		if s == "" {
			return nil, badIf("a list in it does not end")
		}
		if len(l.all) == 0 {
			return nil, badIf("a list in it is empty")
		}
		s = strings.TrimLeft(s[1:], " \t")
		if found = append(found, l); total > maxConditions {
			return nil, badIf("it has too many conditions")
		}
	}
	return found, nil
}

func parseCondition(s string) (c condition, rest string, err error) {
	if len(s) > 3 && strings.EqualFold(s[:3], "not") {
		c.not = true
		s = strings.TrimLeft(s[3:], " \t")
	}
	var ok bool
	switch {
	case s != "" && s[0] == '<':
		c.token, rest, ok = between(s, '<', '>')
		ok = ok && c.token != ""
	case s != "" && s[0] == '[':
		c.etag, rest, ok = between(s, '[', ']')
		opaque := strings.TrimPrefix(c.etag, "W/")
		ok = ok && len(opaque) >= 2 && opaque[0] == '"' && opaque[len(opaque)-1] == '"'
	}
	if !ok {
		return c, "", badIf("a condition in it is neither <token> nor [\"entity tag\"]")
	}
	return c, rest, nil
}

// between returns what s, which begins with open, has up to end, and what follows
// after spaces.
func between(s string, open, end byte) (inner, rest string, ok bool) {
	i := strings.IndexByte(s, end)
	if s[0] != open || i < 0 {
		return "", "", false
	}
	return s[1:i], strings.TrimLeft(s[i+1:], " \t"), true
}

// tokens are the lock tokens that the header submits: its client knows of them.
func (c conditions) tokens() (list []string) {
	for _, l := range c {
		for _, x := range l.all {
			if x.token != "" && !x.not && !slices.Contains(list, x.token) {
				list = append(list, x.token)
			}
		}
	}
	return list
}

// hasTag reports whether the header speaks of an entity tag.
func (c conditions) hasTag() bool {
	return slices.ContainsFunc(c, func(l list) bool {
		return slices.ContainsFunc(l.all, func(x condition) bool { return x.etag != "" })
	})
}

// A state is what conditions are held against.
type state struct {
	etag  string // "": there is nothing
	locks []lock // that hold it
}

func (s state) meets(c condition) bool {
	var is bool
	if c.token != "" {
		is = slices.ContainsFunc(s.locks, func(l lock) bool { return l.token == c.token })
	} else {
		is = s.etag != "" && s.etag == c.etag // weak tags never match: a hash is the same or another
	}
	return is != c.not
}

// holds fails with problem.PreconditionFailed unless the conditions of v hold: If,
// and If-Match and If-None-Match (RFC 9110 §13.1) against res, what v names.
func (h *Handler) holds(tx *db.Tx, v *visit, res resource) error {
	if match := v.values("If-Match"); match != "" && !tagged(match, res) {
		return preconditionFailed("What is there is not what was expected.", "Read it again, then decide.")
	}
	if match := v.values("If-None-Match"); match != "" && tagged(match, res) {
		return preconditionFailed("There is a file or folder of that name already.", "Take another name, or leave out If-None-Match.")
	}
	if len(v.cond) == 0 {
		return nil
	}
	states := map[string]state{}
	for _, l := range v.cond {
		s, err := h.stateOf(tx, v, res, l.resource, states)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(l.all, func(c condition) bool { return !s.meets(c) }) {
			return nil
		}
	}
	return preconditionFailed("None of the conditions of the If header holds: the file has changed, or its lock is gone.", "Read it again, then decide.")
}

// stateOf is the state of a resource that the If header names. One that is not
// among the person's files has none.
func (h *Handler) stateOf(tx *db.Tx, v *visit, own resource, named string, known map[string]state) (state, error) {
	if s, ok := known[named]; ok {
		return s, nil
	}
	res := own
	if named != "" {
		path, err := v.pathOn(named)
		if err != nil {
			known[named] = state{}
			return state{}, nil
		}
		if res, err = h.find(tx, v.who.User, path); err != nil {
			return state{}, err
		}
	}
	locks, err := locksOn(tx, v.who.User, res.path)
	s := state{etag: res.etag(), locks: locks}
	known[named] = s
	return s, err
}

// pathOn returns the path that a URL in a header of v names. A URL of another
// host or scheme is problem.Misdirected, one outside of the mount problem.Forbidden.
func (v *visit) pathOn(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" && !strings.HasPrefix(address, "/") {
		return "", &problem.Error{
			Kind: problem.Invalid, Op: "webdav.url", Title: "The address in a header cannot be read",
			Detail: "Destination and the resources of If take a whole URL, or a path that begins with a slash.",
			Hint:   "Percent-encode it as UTF-8.", Err: err,
		}
	}
	if u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" ||
		u.Host != "" && !strings.EqualFold(hostPort(u.Host, u.Scheme), hostPort(v.r.Host, v.scheme())) {
		return "", &problem.Error{
			Kind: problem.Misdirected, Op: "webdav.url", Title: "The destination is on another server",
			Detail: "The box moves and copies among your own files only.", Hint: "Download the file and upload it there.",
		}
	}
	if !strings.HasPrefix(u.EscapedPath()+"/", v.mount.Prefix) {
		return "", &problem.Error{
			Kind: problem.Forbidden, Op: "webdav.url", Title: "The destination is not among your files",
			Detail: "Your files are below " + v.mount.Prefix + " of this box.", Hint: "Choose a place there.",
		}
	}
	path, _, err := pathOf(u, v.mount.Prefix)
	return path, err
}

func (v *visit) scheme() string {
	if v.r.TLS == nil {
		return "http"
	}
	return "https"
}

// hostPort is host without the port that its scheme has anyway.
func hostPort(host, scheme string) string {
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// values joins the lines of a header that holds a list.
func (v *visit) values(name string) string { return strings.Join(v.r.Header.Values(name), ",") }

// tagged reports whether a list of entity tags is "*" and there is something, or
// holds the tag of res.
func tagged(tags string, res resource) bool {
	if res.kind == file {
		return content.HasTag(tags, res.item.Ref)
	}
	etag := res.etag()
	return etag != "" && slices.ContainsFunc(strings.Split(tags, ","), func(t string) bool {
		t = strings.Trim(t, " \t")
		return t == "*" || t == etag
	})
}

func preconditionFailed(detail, hint string) error {
	return &problem.Error{Kind: problem.PreconditionFailed, Op: "webdav.precondition", Detail: detail, Hint: hint}
}

// depth reads the Depth header, which must be one of those that may be; none
// means the first of them.
func depth(r *http.Request, may ...string) (string, error) {
	d := strings.ToLower(strings.TrimSpace(r.Header.Get("Depth")))
	if d == "" {
		return may[0], nil
	}
	if !slices.Contains(may, d) {
		return "", &problem.Error{
			Kind: problem.Invalid, Op: "webdav.depth", Title: "That depth makes no sense here",
			Detail: "This method knows as Depth: " + strings.Join(may, ", ") + ".", Hint: "Send one of them, or leave the header out.",
		}
	}
	return d, nil
}

package webdav

import (
	"bufio"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

const (
	// pageSize is how many entries of a folder are read and written at a time.
	pageSize = 100
	// maxAsked is how many properties may be asked for by name.
	maxAsked = 256
)

// A question is what a PROPFIND asks for (RFC 4918 §9.1).
type question struct {
	all   bool // everything but what must be asked for by name
	names bool // only which there are
	props []xml.Name
}

func parseQuestion(root *node) (q question, err error) {
	if root == nil {
		return question{all: true}, nil
	}
	if root.name != (xml.Name{Space: dav, Local: "propfind"}) {
		return q, badXML("it is no DAV:propfind")
	}
	props := root.child("prop")
	q.all, q.names = root.child("allprop") != nil, root.child("propname") != nil
	kinds := 0
	for _, is := range []bool{q.all, q.names, props != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return q, badXML("it asks for none, or for more than one, of DAV:allprop, DAV:propname and DAV:prop")
	}
	if more := root.child("include"); q.all && more != nil {
		props = more
	}
	if props != nil {
		for _, e := range props.elements() {
			if !slices.Contains(q.props, e.name) {
				q.props = append(q.props, e.name)
			}
		}
	}
	if len(q.props) > maxAsked {
		return q, badXML("it asks for too many properties")
	}
	return q, nil
}

// wants reports whether a live property is asked for by its name.
func (q question) wants(local string) bool {
	return slices.Contains(q.props, xml.Name{Space: dav, Local: local})
}

// propfind answers PROPFIND: of one resource, or of a folder and what is in it.
// The answer is written page by page, so its length costs no memory.
func (h *Handler) propfind(v *visit) error {
	body, err := readXML(v.r)
	if err != nil {
		return err
	}
	q, err := parseQuestion(body)
	if err != nil {
		return err
	}
	d, err := depth(v.r, "infinity", "0", "1")
	if err != nil {
		return err
	}
	var res resource
	var room *share
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) (err error) {
		if res, err = h.must(tx, v); err != nil {
			return err
		}
		if q.wants("quota-available-bytes") || q.wants("quota-used-bytes") {
			room, err = h.share(tx, v)
		}
		return err
	})
	if err != nil {
		return err
	}
	if d == "infinity" && res.kind == folder {
		return &failed{condition: "propfind-finite-depth", problem: &problem.Error{
			Kind: problem.Forbidden, Op: "webdav.propfind", Title: "All at once is not told",
			Detail: "A folder is listed together with what is directly in it, not with everything below.",
			Hint:   "Send Depth: 1, and ask for the folders in it one by one.",
		}}
	}
	out := &multistatus{w: bufio.NewWriterSize(v.w, 32<<10), question: q, room: room, visit: v}
	v.w.Header().Set("Content-Type", contentTypeXML)
	v.w.Header().Set("Cache-Control", "no-store")
	write := func(page []resource) error {
		entries, err := h.entries(v, page)
		if err != nil {
			return err
		}
		out.begin(v.w)
		for i := range entries {
			out.write(&entries[i])
		}
		return nil
	}
	if err := write([]resource{res}); err != nil {
		return err
	}
	query := catalog.Query{Folder: v.path, Limit: pageSize}
	for more := d == "1" && res.kind == folder; more && out.err == nil; {
		page, err := h.catalog.List(v.r.Context(), v.who.User, query)
		if err != nil {
			return err
		}
		list := make([]resource, 0, len(page.Folders)+len(page.Items))
		for _, f := range page.Folders {
			list = append(list, resource{path: f.Path, kind: folder, folder: f})
		}
		for _, i := range page.Items {
			list = append(list, resource{path: i.Path, kind: file, item: i})
		}
		if err := write(list); err != nil {
			return err
		}
		query.Cursor = page.Next
		more = page.Next != ""
	}
	out.end()
	return nil
}

// share is how much room the person has: of their share, or of the disk if that
// is less or there is no share.
func (h *Handler) share(tx *db.Tx, v *visit) (*share, error) {
	usage, err := h.catalog.UsageIn(tx, v.who.User)
	if err != nil {
		return nil, err
	}
	space, err := h.store.Space()
	if err != nil {
		return nil, err
	}
	s := &share{used: usage.Bytes, available: space.Free}
	if usage.Quota >= 0 {
		s.available = max(min(s.available, usage.Quota-usage.Bytes), 0)
	}
	return s, nil
}

// entries adds locks and dead properties to a page of resources.
func (h *Handler) entries(v *visit, page []resource) (list []entry, err error) {
	list = make([]entry, len(page))
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) error {
		dead, err := deadProperties(tx, page)
		if err != nil {
			return err
		}
		paths := chain(v.path)
		for _, r := range page {
			paths = append(paths, r.path)
		}
		locks, err := locksFrom(tx, v.who.User, paths)
		if err != nil {
			return err
		}
		for i, r := range page {
			list[i] = entry{resource: r, prefix: v.mount.Prefix, now: tx.Now}
			name, rest := spelling(r, dead[r.holder()])
			list[i].dead = rest
			switch {
			case r.path == v.path: // the client's own spelling, that it finds it again
				list[i].shown = v.sent
			case v.sent == "":
				list[i].shown = name
			default:
				list[i].shown = v.sent + "/" + name
			}
			if r.path == "" {
				list[i].name = v.who.Name
			}
			for _, l := range locks {
				if l.covers(r.path) {
					list[i].locks = append(list[i].locks, l)
				}
			}
		}
		return nil
	})
	return list, err
}

// A multistatus writes an answer about many resources (RFC 4918 §13).
type multistatus struct {
	w *bufio.Writer
	question
	room  *share
	visit *visit
	begun bool
	err   error // the client is gone
}

func (m *multistatus) begin(w http.ResponseWriter) {
	if m.begun {
		return
	}
	m.begun = true
	w.WriteHeader(http.StatusMultiStatus)
	m.text(xml.Header + `<d:multistatus xmlns:d="DAV:">`)
}

// text writes; the first error stays.
func (m *multistatus) text(parts ...string) {
	for _, p := range parts {
		if m.err == nil {
			_, m.err = m.w.WriteString(p)
		}
	}
}

// end writes the end. A client that is gone is told nothing.
func (m *multistatus) end() {
	m.text("</d:multistatus>\n")
	if m.err == nil {
		m.err = m.w.Flush()
	}
}

const (
	statusOK       = "HTTP/1.1 200 OK"
	statusNotFound = "HTTP/1.1 404 Not Found"
)

// write writes what is asked of e.
func (m *multistatus) write(e *entry) {
	e.share = m.room
	m.text("\n<d:response><d:href>", escaped(hrefOf(e.prefix, e.shown, e.kind == folder)), "</d:href>")
	var found, lacking strings.Builder
	if m.all || m.names {
		for _, name := range liveNames() {
			if value, ok := e.live(name); ok {
				found.WriteString(m.liveElement(name, value))
			}
		}
		for _, p := range e.dead {
			if m.names {
				found.WriteString(emptyElement(p.name))
			} else {
				found.WriteString(p.xml)
			}
		}
	}
	for _, name := range m.props {
		if m.all && slices.Contains(liveNames(), name.Local) && name.Space == dav {
			continue
		}
		if value, ok := m.asked(e, name); ok {
			found.WriteString(value)
		} else if !m.all {
			lacking.WriteString(emptyElement(name))
		}
	}
	if found.Len() > 0 || lacking.Len() == 0 {
		m.propstat(found.String(), statusOK)
	}
	if lacking.Len() > 0 {
		m.propstat(lacking.String(), statusNotFound)
	}
	m.text("</d:response>")
}

func (m *multistatus) liveElement(name, value string) string {
	if value == "" || m.names {
		return "<d:" + name + "/>"
	}
	return "<d:" + name + ">" + value + "</d:" + name + ">"
}

func (m *multistatus) propstat(props, status string) {
	m.text("<d:propstat><d:prop>", props, "</d:prop><d:status>", status, "</d:status></d:propstat>")
}

// asked is the element of a property that was asked for by its name.
func (m *multistatus) asked(e *entry, name xml.Name) (element string, ok bool) {
	if isLive(name) {
		value, ok := e.live(name.Local)
		if value == "" {
			return "<d:" + name.Local + "/>", ok
		}
		return "<d:" + name.Local + ">" + value + "</d:" + name.Local + ">", ok
	}
	if value, ok := m.visit.told(name, e.resource); ok {
		n := node{name: name, prefix: "x", inner: value}
		return n.String(), true
	}
	for _, p := range e.dead {
		if p.name == name {
			return p.xml, true
		}
	}
	if isMTime(name) && e.kind == file && !e.item.MTime.IsZero() {
		n := node{name: name, prefix: "t", content: []piece{{text: e.item.MTime.UTC().Format(http.TimeFormat)}}}
		return n.String(), true
	}
	return "", false
}

func emptyElement(name xml.Name) string {
	n := node{name: name}
	if name.Space != "" {
		n.prefix = "x"
	}
	return n.String()
}

package webdav

import (
	"bufio"
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// An instruction is a part of a PROPPATCH.
type instruction struct {
	prop   *node
	remove bool
}

// parseUpdate reads the instructions in their order (RFC 4918 §9.2).
func parseUpdate(root *node) (list []instruction, err error) {
	if root == nil || root.name != (xml.Name{Space: dav, Local: "propertyupdate"}) {
		return nil, badXML("it is no DAV:propertyupdate")
	}
	for _, e := range root.elements() {
		if e.name.Space != dav || e.name.Local != "set" && e.name.Local != "remove" {
			continue
		}
		prop := e.child("prop")
		if prop == nil {
			return nil, badXML("an instruction in it names no DAV:prop")
		}
		for _, p := range prop.elements() {
			list = append(list, instruction{p, e.name.Local == "remove"})
		}
	}
	if len(list) == 0 {
		return nil, badXML("it has no instructions")
	}
	return list, nil
}

// proppatch answers PROPPATCH: all of its instructions are followed, or none.
func (h *Handler) proppatch(v *visit) error {
	body, err := readXML(v.r)
	if err != nil {
		return err
	}
	list, err := parseUpdate(body)
	if err != nil {
		return err
	}
	var res resource
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) (err error) {
		res, err = h.must(tx, v)
		return err
	})
	if err != nil {
		return err
	}
	source := res.item.Source // what is kept about a file belongs to the purpose that it came for
	if res.kind == folder {
		meta, err := metaOf(v, v.path+"/")
		if err != nil {
			return err
		}
		source = meta.Source
	}
	grant, err := h.consent.GrantFor(v.r.Context(), v.who.User, v.who.Device, source)
	if err != nil {
		return err
	}
	failing := -1 // the instruction that cannot be followed
	var reason *problem.Error
	err = h.db.Write(v.r.Context(), func(tx *db.Tx) (err error) {
		failing, reason = -1, nil
		if res, err = h.must(tx, v); err != nil {
			return err
		}
		if err := h.holds(tx, v, res); err != nil {
			return err
		}
		if err := h.unlocked(tx, v, v.path, itself); err != nil {
			return err
		}
		if err := grant.Check(tx, grant.Purpose()); err != nil {
			return err
		}
		if res.kind == folder && res.folder.ID == 0 { // the root of somebody who keeps nothing
			if res.folder, err = h.catalog.MakeFolderIn(tx, v.who.User, v.path); err != nil {
				return err
			}
		}
		for i, in := range list {
			if err := h.follow(tx, v, res, in); err != nil {
				if errors.As(err, &reason) {
					failing = i
				}
				return err
			}
		}
		return nil
	})
	if err != nil && failing < 0 {
		return err
	}
	v.w.Header().Set("Content-Type", contentTypeXML)
	v.w.Header().Set("Cache-Control", "no-store")
	out := &multistatus{w: bufio.NewWriter(v.w), visit: v}
	out.begin(v.w)
	out.text("<d:response><d:href>", escaped(res.href(v.mount.Prefix)), "</d:href>")
	for i, in := range list {
		status := statusOK
		switch {
		case failing == i:
			status = "HTTP/1.1 " + statusLine(reason)
		case failing >= 0:
			status = "HTTP/1.1 424 Failed Dependency"
		}
		out.propstat(emptyElement(in.prop.name), status)
	}
	if reason != nil {
		if isProtected(err) {
			out.text("<d:error><d:cannot-modify-protected-property/></d:error>")
		}
		out.text("<d:responsedescription>", escaped(sentence(reason)), "</d:responsedescription>")
	}
	out.text("</d:response>")
	out.end()
	return nil
}

func statusLine(p *problem.Error) string {
	s := status(p)
	return strings.Join([]string{strconv.Itoa(s), http.StatusText(s)}, " ")
}

// follow does one instruction.
func (h *Handler) follow(tx *db.Tx, v *visit, res resource, in instruction) error {
	name := in.prop.name
	if isMTime(name) && res.kind == file && !in.remove {
		t, err := parseTime(strings.TrimSpace(in.prop.text()))
		if err != nil {
			return err
		}
		return h.catalog.SetMTimeIn(tx, v.who.User, res.item.ID, t)
	}
	_, told := v.told(name, res)
	if told || name.Space == spellingSpace || isLive(name) || isMTime(name) && name.Space == dav {
		return &failed{condition: protectedProperty, problem: &problem.Error{
			Kind: problem.Forbidden, Op: "webdav.proppatch", Title: "That property cannot be changed",
			Detail: "The box decides about " + name.Local + " itself.", Hint: "Leave it out.",
		}}
	}
	p := property{name: name}
	if !in.remove {
		p.xml = in.prop.standalone()
	}
	return setProperty(tx, v.who.User, res.holder(), p)
}

const protectedProperty = "cannot-modify-protected-property"

func isProtected(err error) bool {
	var f *failed
	return errors.As(err, &f) && f.condition == protectedProperty
}

// standalone is n as it is kept: with the language of where it stood (RFC 4918
// §4.3).
func (n *node) standalone() string {
	for _, a := range n.attrs {
		if a.name == (xml.Name{Space: xmlSpace, Local: "lang"}) {
			return n.String()
		}
	}
	if n.lang == "" {
		return n.String()
	}
	c := *n
	c.attrs = append([]attr{{xml.Name{Space: xmlSpace, Local: "lang"}, "xml", n.lang}}, n.attrs...)
	return c.String()
}

// parseTime reads a modification time in a property: as HTTP writes dates, or as
// ingest.ParseMTime reads them.
func parseTime(s string) (time.Time, error) {
	if t, err := http.ParseTime(s); err == nil {
		return ingest.ParseMTime(t.UTC().Format(time.RFC3339))
	}
	return ingest.ParseMTime(s)
}

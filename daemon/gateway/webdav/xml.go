package webdav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"yunbox.local/daemon/problem"
)

const (
	// maxXML is the most bytes of a request body that is XML: a PROPPATCH that fills
	// all of a resource's properties fits.
	maxXML = 128 << 10
	// The others bound what those bytes can make of memory: a namespace that is said
	// once may have to be written with each element of it.
	maxElements = 4096
	maxDepth    = 64
	maxAttrs    = 64
	maxSpace    = 512 // bytes of a namespace
	maxLocal    = 256 // bytes of a name or prefix
)

const dav = "DAV:"

// A node is an element of a document. Comments and processing instructions are
// not kept.
type node struct {
	name    xml.Name // its namespace and local name
	prefix  string   // as written
	attrs   []attr   // without declarations of namespaces
	lang    string   // xml:lang in scope
	content []piece
	inner   string // in the place of content: XML, written as it is
}

type attr struct {
	name   xml.Name
	prefix string
	value  string
}

// A piece is a text or, if that is not nil, an element.
type piece struct {
	text string
	node *node
}

// elements are the children of n that are elements.
func (n *node) elements() (list []*node) {
	for _, p := range n.content {
		if p.node != nil {
			list = append(list, p.node)
		}
	}
	return list
}

// child returns the first element of that name in the namespace DAV:, nil if there
// is none.
func (n *node) child(local string) *node {
	for _, e := range n.elements() {
		if e.name == (xml.Name{Space: dav, Local: local}) {
			return e
		}
	}
	return nil
}

// text is all text in n, without that of elements in it.
func (n *node) text() string {
	var b strings.Builder
	for _, p := range n.content {
		b.WriteString(p.text)
	}
	return b.String()
}

// readXML reads the body of r; nil: there is none.
func readXML(r *http.Request) (*node, error) {
	if r.ContentLength > maxXML {
		return nil, tooMuchXML()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxXML+1))
	if err != nil {
		var p *problem.Error
		if errors.As(err, &p) {
			return nil, err
		}
		return nil, &problem.Error{
			Kind: problem.Canceled, Op: "webdav.xml", Title: "The body broke off", Err: err,
			Detail: "The connection ended before the request did.", Hint: "Send it again.",
		}
	}
	if len(body) > maxXML {
		return nil, tooMuchXML()
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	root, err := parseXML(body)
	if err != nil {
		return nil, badXML(err.Error())
	}
	return root, nil
}

func tooMuchXML() error {
	return &problem.Error{
		Kind: problem.TooLarge, Op: "webdav.xml", Detail: "The XML of a request may have 128 KiB.",
		Hint: "Ask for less, or change fewer properties, at a time.",
	}
}

func badXML(why string) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "webdav.xml", Title: "The XML of the request cannot be used",
		Detail: "It is refused because " + why + ".", Hint: "Send the document that RFC 4918 describes for this method.",
	}
}

// parseXML reads a document with namespaces. Document type declarations, and with
// them entities of one's own, are refused: nothing that a document says can make
// it larger than it is.
func parseXML(doc []byte) (*node, error) {
	p := xmlParser{dec: xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(doc, []byte("\ufeff"))))}
	for {
		token, err := p.dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("it is not well-formed")
		}
		if err := p.take(token); err != nil {
			return nil, err
		}
	}
	if p.root == nil || len(p.open) > 0 {
		return nil, errors.New("it ends early")
	}
	return p.root, nil
}

type xmlParser struct {
	dec   *xml.Decoder
	root  *node
	open  []openNode
	count int
}

// An openNode is an element whose end has not come, with the namespaces that it
// declares.
type openNode struct {
	node   *node
	spaces []xml.Attr // Name.Local is the prefix
}

func (p *xmlParser) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return p.start(t)
	case xml.EndElement:
		if len(p.open) == 0 {
			return errors.New("an element ends that did not begin")
		}
		last := p.open[len(p.open)-1].node
		if t.Name.Space != last.prefix || t.Name.Local != last.name.Local {
			return errors.New("its elements do not nest")
		}
		p.open = p.open[:len(p.open)-1]
	case xml.CharData:
		if len(p.open) > 0 {
			n := p.open[len(p.open)-1].node
			n.content = append(n.content, piece{text: string(t)})
		} else if len(bytes.TrimSpace(t)) > 0 {
			return errors.New("it has text outside of its root")
		}
	case xml.Directive:
		return errors.New("it declares a document type")
	}
	return nil
}

func (p *xmlParser) start(t xml.StartElement) error {
	p.count++
	switch {
	case p.count > maxElements || len(p.open) >= maxDepth || len(t.Attr) > maxAttrs:
		return errors.New("it has too many elements or attributes")
	case len(p.open) == 0 && p.root != nil:
		return errors.New("it has more than one root")
	}
	n := &node{prefix: t.Name.Space}
	if len(p.open) > 0 {
		n.lang = p.open[len(p.open)-1].node.lang
	}
	p.open = append(p.open, openNode{node: n})
	top := &p.open[len(p.open)-1]
	for _, a := range t.Attr {
		if err := top.declare(a); err != nil {
			return err
		}
	}
	var err error
	if n.name, err = p.resolve(t.Name, true); err != nil {
		return err
	}
	for _, a := range t.Attr {
		if isDeclaration(a.Name) {
			continue
		}
		name, err := p.resolve(a.Name, false)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(n.attrs, func(b attr) bool { return b.name == name }) {
			return errors.New("an element has an attribute twice")
		}
		if a.Name.Space == "xml" && a.Name.Local == "lang" {
			n.lang = a.Value
		}
		n.attrs = append(n.attrs, attr{name, a.Name.Space, a.Value})
	}
	if p.root == nil {
		p.root = n
	}
	if len(p.open) > 1 {
		parent := p.open[len(p.open)-2].node
		parent.content = append(parent.content, piece{node: n})
	}
	return nil
}

func isDeclaration(n xml.Name) bool { return n.Space == "xmlns" || n.Space == "" && n.Local == "xmlns" }

// declare takes a declaration of a namespace. An empty one for a prefix is an
// error (Namespaces in XML 1.0 §5), and so is one for a prefix that is taken.
func (o *openNode) declare(a xml.Attr) error {
	switch {
	case !isDeclaration(a.Name):
		return nil
	case a.Name.Space == "" && len(a.Value) <= maxSpace:
		a.Name.Local = ""
	case a.Value == "":
		return errors.New("a prefix is declared without a namespace")
	case len(a.Value) > maxSpace || len(a.Name.Local) > maxLocal:
		return errors.New("a namespace is too long")
	case a.Name.Local == "xml" || a.Name.Local == "xmlns":
		return errors.New("a prefix is declared that is not free")
	}
	if slices.ContainsFunc(o.spaces, func(b xml.Attr) bool { return b.Name.Local == a.Name.Local }) {
		return errors.New("a prefix is declared twice")
	}
	o.spaces = append(o.spaces, xml.Attr{Name: xml.Name{Local: a.Name.Local}, Value: a.Value})
	return nil
}

const xmlSpace = "http://www.w3.org/XML/1998/namespace"

// resolve turns a prefix into its namespace. An attribute without a prefix has none.
func (p *xmlParser) resolve(n xml.Name, element bool) (xml.Name, error) {
	prefix := n.Space
	switch {
	case n.Local == "" || strings.Contains(n.Local, ":"):
		return n, errors.New("a name has a colon in the wrong place")
	case len(n.Local) > maxLocal:
		return n, errors.New("a name is too long")
	case prefix == "xml":
		return xml.Name{Space: xmlSpace, Local: n.Local}, nil
	case prefix == "" && !element:
		return n, nil
	}
	for _, o := range slices.Backward(p.open) {
		for _, d := range o.spaces {
			if d.Name.Local == prefix {
				return xml.Name{Space: d.Value, Local: n.Local}, nil
			}
		}
	}
	if prefix == "" {
		return n, nil
	}
	return n, errors.New("a prefix is used that is not declared")
}

// String writes n so that it means the same in any place of any document.
func (n *node) String() string {
	var b strings.Builder
	n.write(&b, nil)
	return b.String()
}

// bound is a prefix that is declared where something is written.
type bound struct{ prefix, space string }

func (n *node) write(b *strings.Builder, scope []bound) {
	name := n.name.Local
	if n.prefix != "" {
		name = n.prefix + ":" + name
	}
	b.WriteString("<" + name)
	scope = slices.Clip(scope) // what is added here is not for the siblings
	bind := func(prefix, space string) {
		for _, s := range slices.Backward(scope) {
			if s.prefix == prefix {
				if s.space == space {
					return
				}
				break
			}
		}
		scope = append(scope, bound{prefix, space})
		if prefix == "" {
			b.WriteString(` xmlns="` + escaped(space) + `"`)
		} else {
			b.WriteString(` xmlns:` + prefix + `="` + escaped(space) + `"`)
		}
	}
	if n.prefix != "xml" {
		bind(n.prefix, n.name.Space)
	}
	for _, a := range n.attrs {
		if a.prefix == "" {
			b.WriteString(" " + a.name.Local + `="` + escaped(a.value) + `"`)
			continue
		}
		if a.prefix != "xml" {
			bind(a.prefix, a.name.Space)
		}
		b.WriteString(" " + a.prefix + ":" + a.name.Local + `="` + escaped(a.value) + `"`)
	}
	if len(n.content) == 0 && n.inner == "" {
		b.WriteString("/>")
		return
	}
	b.WriteString(">" + n.inner)
	for _, p := range n.content {
		if p.node != nil {
			p.node.write(b, scope)
		} else {
			b.WriteString(escaped(p.text))
		}
	}
	b.WriteString("</" + name + ">")
}

// escaped is s as text or as the value of an attribute.
func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

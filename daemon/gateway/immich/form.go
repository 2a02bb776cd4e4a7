package immich

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"yunbox.local/daemon/problem"
)

// The bounds of a form: what a hostile one can cost is this much memory and no more.
const (
	maxParts = 64        // fields and files
	maxField = 8 << 10   // bytes of a field's value
	maxRest  = 128 << 10 // bytes of all that is not inside a file: headers, fields, boundaries
)

// A form reads a multipart/form-data body (RFC 7578) from its beginning to its
// end, part by part; a file is read as a stream while it comes. It is for one
// goroutine.
type form struct {
	body  *rationed
	parts *multipart.Reader
	n     int
}

// newForm reads r's body as it comes from body.
func newForm(r *http.Request, body io.Reader) (*form, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return nil, &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "immich.form", Title: "An upload is a form", Err: err,
			Hint: "Send multipart/form-data with the file as its part assetData.",
		}
	}
	boundary := params["boundary"]
	if boundary == "" || len(boundary) > 70 { // RFC 2046 §5.1.1
		return nil, badForm("Its boundary is missing, or has more than 70 characters.", nil)
	}
	f := &form{body: &rationed{r: body, left: maxRest, end: -1}}
	f.parts = multipart.NewReader(f.body, boundary)
	return f, nil
}

// A part is a field, whose value was read, or a file, which is read through it.
type part struct {
	io.Reader        // of a file
	name      string // of the field
	value     string // of a field that is no file
	file      bool
	filename  string // as it was sent
}

// next returns the next part; io.EOF after the last one, when the end of the form
// was seen. Of the file before it, what was not read is skipped.
func (f *form) next() (*part, error) {
	f.body.ration(true)
	raw, err := f.parts.NextRawPart()
	if err == io.EOF { // the end of the form, not of the body: see rationed
		// What may follow is nothing. Only when the body has ended did all of it come,
		// and is the connection free for the next request.
		if _, err := io.Copy(io.Discard, f.body); !errors.Is(err, errBodyEnded) {
			return nil, f.broken(err)
		}
		return nil, io.EOF
	}
	if err != nil {
		return nil, f.broken(err)
	}
	if f.n++; f.n > maxParts {
		return nil, tooMuch()
	}
	switch e := strings.ToLower(raw.Header.Get("Content-Transfer-Encoding")); e {
	case "", "binary", "8bit", "7bit":
	default: // RFC 7578 §4.7: deprecated, and nobody sends it
		return nil, badForm("A part is encoded, which forms are not any more.", nil)
	}
	kind, params, err := mime.ParseMediaType(raw.Header.Get("Content-Disposition"))
	if err != nil || kind != "form-data" || params["name"] == "" {
		return nil, badForm("A part does not say which field it is.", err)
	}
	p := &part{name: params["name"]}
	if p.filename, p.file = params["filename"]; p.file {
		f.body.ration(false)
		p.Reader = fileReader{f, raw}
		return p, nil
	}
	value, err := io.ReadAll(io.LimitReader(raw, maxField+1))
	if err != nil {
		return nil, f.broken(err)
	}
	if len(value) > maxField {
		return nil, tooMuch()
	}
	p.value = string(value)
	return p, nil
}

// fileReader hides that a multipart.Part can be closed: that reads on to its end.
type fileReader struct {
	form *form
	part *multipart.Part
}

// Read implements io.Reader.
func (r fileReader) Read(p []byte) (int, error) {
	n, err := r.part.Read(p)
	if err != nil && err != io.EOF {
		err = r.form.broken(err)
	}
	return n, err
}

// broken says why the form could not be read on: what ended the body, if there is
// something to say about it, else that it is none.
func (f *form) broken(err error) error {
	if f.body.err != nil {
		return f.body.err
	}
	if errors.Is(err, multipart.ErrMessageTooLarge) {
		return tooMuch()
	}
	return badForm("It ends early, or is not written as forms are.", err)
}

// bodyEnded reports whether all of the body was read. It is no use to watch over
// it any more then.
func (f *form) bodyEnded() bool { return f.body.end >= 0 }

func badForm(detail string, err error) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "immich.form", Title: "The form of the upload cannot be read", Detail: detail, Err: err,
		Hint: "Send the file again; if that fails too, another program is needed.",
	}
}

func tooMuch() error {
	return &problem.Error{
		Kind: problem.TooLarge, Op: "immich.form", Title: "The form has too many fields, or too long ones",
		Hint: "Send the file and what belongs to it only.",
	}
}

// rationed is a body of which only a limited part may lie outside of files. It
// remembers how reading broke off, which package multipart does not always tell.
//
// That package says io.EOF for the end of the form, and also for a body that ends
// inside of the header of a part. So that the two cannot be confused, a body ends
// here with errBodyEnded, after a line break which the last line may lack.
type rationed struct {
	r    io.Reader
	left int64
	on   bool
	err  error
	end  int // bytes of lineEnd that were given; -1: the body goes on
}

const lineEnd = "\r\n"

var errBodyEnded = errors.New("immich: the body has ended")

func (b *rationed) ration(on bool) { b.on = on }

// Read implements io.Reader.
func (b *rationed) Read(p []byte) (int, error) {
	if b.end >= 0 {
		n := copy(p, lineEnd[b.end:])
		if b.end += n; n == 0 {
			return 0, errBodyEnded
		}
		return n, nil
	}
	if b.on && b.left <= 0 {
		b.err = tooMuch()
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if b.on {
		b.left -= int64(n)
	}
	switch {
	case err == io.EOF:
		b.end, err = 0, nil
	case err != nil:
		b.err = err
	}
	return n, err
}

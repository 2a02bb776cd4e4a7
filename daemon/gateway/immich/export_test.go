package immich

import (
	"io"
	"net/http"
)

// The bounds of a form.
const (
	MaxParts = maxParts
	MaxField = maxField
	MaxRest  = maxRest
)

// ReadForm reads a whole form and tells of each part: its field, its value or the
// bytes of its file, and whether it is a file.
func ReadForm(contentType string, body io.Reader, tell func(name, value string, file bool)) error {
	r := &http.Request{Header: http.Header{"Content-Type": {contentType}}}
	f, err := newForm(r, body)
	if err != nil {
		return err
	}
	for {
		p, err := f.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		value := p.value
		if p.file {
			b, err := io.ReadAll(p)
			if err != nil {
				return err
			}
			value = string(b)
		}
		tell(p.name, value, p.file)
	}
}

package api

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/ident"
)

const schemaPrefix = "#/components/schemas/"

// moment is a point in time in JSON: RFC 3339, UTC, milliseconds.
type moment time.Time

// MarshalJSON implements json.Marshaler.
func (m moment) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(m).UTC().Format("2006-01-02T15:04:05.000Z"))
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, (*time.Time)(m)) }

// Schema implements huma.SchemaProvider.
func (moment) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

// momentOrNull is nil for the zero time.
func momentOrNull(t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	m := moment(t)
	return &m
}

// orNull is nil for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

const idPattern = "^[0-9a-hjkmnp-tv-z]{13}$"

// idParam is an identifier in a path or a query. Identifiers are integers in Go,
// and huma would read a bare one as a number.
type idParam[T ident.ID] struct{ ID T }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *idParam[T]) UnmarshalText(b []byte) (err error) {
	p.ID, err = ident.Parse[T](string(b))
	return err
}

// Schema implements huma.SchemaProvider.
func (idParam[T]) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: idPattern}
}

// nullable describes a property that holds an object of type T or null: huma
// itself can say that of scalars only.
func nullable[T any](r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		r.Schema(reflect.TypeFor[T](), true, ""),
		{Type: "null"},
	}}
}

// Problem is an error document (RFC 9457). Its extension members depend on the
// type: purpose, policy_revision and grant_url with consent-required, errors
// with invalid, and so on.
type Problem struct {
	_ struct{} `additionalProperties:"true"`

	Type   string       `json:"type" doc:"Stable name of the kind of problem" example:"urn:yunbox:problem:consent-required"`
	Title  string       `json:"title" doc:"Short text for people"`
	Status int          `json:"status" minimum:"400" maximum:"599"`
	Detail string       `json:"detail,omitempty" doc:"What happened in this case"`
	Hint   string       `json:"hint,omitempty" doc:"What to do next"`
	Errors []fieldError `json:"errors,omitempty" doc:"With type invalid: the fields that are not as expected"`
}

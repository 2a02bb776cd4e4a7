// Package rights knows what the box keeps about a person, whoever keeps it: each
// package that has data of people says so in a Holder, in words of people, and this
// one shows it in one view and hands it to an export (policy 6.1).
//
// It lies below the packages that keep something, so that they can describe it here
// without knowing each other. That every table with a person's id is described by
// exactly one of them is checked against the schema of a running box.
package rights

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Words are a text for people, in the languages of the box.
type Words struct {
	EN string `json:"en"`
	ZH string `json:"zh"`
}

// Holder is what one package says about the data of people that it keeps.
type Holder struct {
	Package    string // "account", as it is called in the layout
	Categories []Category
}

// Category is one kind of data of a person. All words are needed.
type Category struct {
	ID    string // lower-case letters; also the name of its file in an export
	Title Words
	What  Words // what it is and what for
	From  Words // who gave it
	Kept  Words // how long
	Fix   Words // how it is corrected, or why it is not
	// Purposes are the consents that it rests on; none: the box cannot do without it.
	Purposes []string
	Tables   []Table
	// Claims are tables without rows of their own to show: sums and indexes of the others.
	Claims []string
	// Files lists what lies outside of the database, a few records; nil: nothing does.
	Files func(context.Context, ident.UserID) ([]Record, error)
	// Listed means that an export has all of it in its list of files.
	Listed bool
	// Erase says how all of it is erased. It is needed.
	Erase Erase
	// Period is after how long records go by themselves; nil: not by their age.
	Period *Period
}

// Table is a table of which some rows are a person's.
type Table struct {
	Name string
	Kind string // what one row is: "device"
	// From and Where find the rows: "" is Name as t, and t.user = +?1, the person.
	From, Where string
	// Key are columns that order the rows of a person and tell them apart, by an index.
	Key []string
	// Columns are shown. Secrets and their hashes are not among them.
	Columns []Column
	// Sum is a query of ?1 for the number of rows and of bytes; "": it counts them.
	Sum string
	// Open makes of a record with sealed values what the person sees, masked unless ctx
	// IsWhole. It may not ask the database. nil: nothing is sealed.
	Open func(ctx context.Context, u ident.UserID, r *Record) error
}

type wholeKey struct{}

// Whole marks a reading for the person's own export, which has values as they are.
// Everywhere else those that have a mask are masked.
func Whole(ctx context.Context) context.Context { return context.WithValue(ctx, wholeKey{}, true) }

// IsWhole reports whether ctx comes from Whole.
func IsWhole(ctx context.Context) bool { return ctx.Value(wholeKey{}) != nil }

// Column is a value of a row.
type Column struct {
	Name string // in JSON
	expr string // SQL
	form form
}

type form uint8

const (
	plain form = iota
	moment
	number // an identifier
	hexed
	flag
	object // JSON
)

// Text is a column that is shown as it is.
func Text(name string) Column { return Column{name, "t." + name, plain} }

// Time is a column of Unix milliseconds.
func Time(name string) Column { return Column{name, "t." + name, moment} }

// ID is a column of an identifier, 0: none.
func ID(name string) Column { return Column{name, "t." + name, number} }

// Hash is a column of bytes, shown in hex.
func Hash(name string) Column { return Column{name, "t." + name, hexed} }

// Flag is a column of 0 and 1.
func Flag(name string) Column { return Column{name, "t." + name, flag} }

// JSON is a column of a JSON text, ” for none.
func JSON(name string) Column { return Column{name, "t." + name, object} }

// Of returns the column with its value from an SQL expression.
func (c Column) Of(expr string) Column {
	c.expr = expr
	return c
}

// Field is one value of a record.
type Field struct {
	Name  string
	Value any // string, int64, float64, bool, json.RawMessage or nil
}

// Record is one row, or one file, as a person sees it.
type Record struct {
	Kind   string
	Fields []Field
}

// MarshalJSON implements json.Marshaler: one object, the kind first, without what
// has no value.
func (r Record) MarshalJSON() ([]byte, error) {
	kind, err := json.Marshal(r.Kind)
	if err != nil {
		return nil, err
	}
	b := append([]byte(`{"kind":`), kind...)
	for _, f := range r.Fields {
		if f.Value == nil {
			continue
		}
		name, err := json.Marshal(f.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(append(b, ','), name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// Sum is how much there is.
type Sum struct {
	Records int64
	Bytes   int64 // of files; 0 where they are not what counts
}

// Register has all holders of a box. It is safe for concurrent use.
type Register struct {
	db      *db.DB
	holders []Holder
	pace    func(context.Context) error
}

// New returns the register of a box. Two categories of one name are a fault of the
// program: it panics.
func New(d *db.DB, holders ...Holder) *Register {
	r := &Register{db: d, holders: holders}
	seen := map[string]bool{}
	for _, c := range r.Categories() {
		if seen[c.ID] {
			panic("rights: two categories are called " + c.ID)
		}
		seen[c.ID] = true
	}
	return r
}

// Pace has fn called between two transactions that erase: it lets others go first, and
// an error of it breaks off what can be begun again.
func (r *Register) Pace(fn func(context.Context) error) { r.pace = fn }

func (r *Register) rest(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil || r.pace == nil {
		return err
	}
	return r.pace(ctx)
}

// Holders returns what every package said.
func (r *Register) Holders() []Holder { return slices.Clone(r.holders) }

// Categories returns all categories, in the order of the holders.
func (r *Register) Categories() (list []Category) {
	for _, h := range r.holders {
		list = append(list, h.Categories...)
	}
	return list
}

// Category returns the category of that name.
func (r *Register) Category(id string) (Category, error) {
	for _, c := range r.Categories() {
		if c.ID == id {
			return c, nil
		}
	}
	return Category{}, &problem.Error{
		Kind: problem.NotFound, Op: "rights.category", Title: "There is no such category",
		Hint: "GET /v1/me/data lists them.",
	}
}

// Read calls fn with one state of the database, as Sum and Page need it.
func (r *Register) Read(ctx context.Context, fn func(*db.Tx) error) error { return r.db.Read(ctx, fn) }

// Sum counts what is kept of u.
func (c *Category) Sum(ctx context.Context, tx *db.Tx, u ident.UserID) (s Sum, err error) {
	for i := range c.Tables {
		t := &c.Tables[i]
		query := t.Sum
		if query == "" {
			query = "SELECT count(*), 0 FROM " + t.from() + " WHERE " + t.where()
		}
		var n Sum
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(sum(n), 0), coalesce(sum(b), 0) FROM (SELECT NULL AS n, NULL AS b UNION ALL "+query+")", int64(u)).
			Scan(&n.Records, &n.Bytes); err != nil {
			return s, fmt.Errorf("rights: %s: %w", t.Name, err)
		}
		s.Records += n.Records
		s.Bytes += n.Bytes
	}
	if c.Files != nil {
		list, err := c.Files(ctx, u)
		if err != nil {
			return s, err
		}
		s.Records += int64(len(list))
		for _, r := range list {
			for _, f := range r.Fields {
				if n, ok := f.Value.(int64); ok && f.Name == "bytes" {
					s.Bytes += n
				}
			}
		}
	}
	return s, nil
}

// MaxPage is the most records of a page.
const MaxPage = 1000

// Page returns up to limit records of u (1 to MaxPage) after a cursor, "" for the
// first ones; next is "" after the last. Only an empty next says that it was the last.
func (c *Category) Page(ctx context.Context, tx *db.Tx, u ident.UserID, cursor string, limit int) (list []Record, next string, err error) {
	limit = min(max(limit, 1), MaxPage)
	at, err := c.parse(cursor)
	if err != nil {
		return nil, "", err
	}
	for ; at.Table < len(c.Tables); at = (place{Table: at.Table + 1}) {
		rows, last, err := c.Tables[at.Table].page(ctx, tx, u, at.Key, limit-len(list)+1)
		if err != nil {
			return nil, "", err
		}
		if room := limit - len(list); len(rows) > room {
			list = append(list, rows[:room]...)
			if room > 0 {
				at.Key = last[room-1]
			}
			return list, at.String(), nil
		}
		list = append(list, rows...)
	}
	if c.Files == nil {
		return list, "", nil
	}
	files, err := c.Files(ctx, u)
	return append(list, files...), "", err
}

// Each calls fn with each record of u, a page at a time.
func (c *Category) Each(ctx context.Context, tx *db.Tx, u ident.UserID, fn func(Record) error) error {
	for cursor := ""; ; {
		list, next, err := c.Page(ctx, tx, u, cursor, MaxPage)
		if err != nil {
			return err
		}
		for _, r := range list {
			if err := fn(r); err != nil {
				return err
			}
		}
		if next == "" {
			return ctx.Err()
		}
		cursor = next
	}
}

// place is where a page ended.
type place struct {
	Table int   `json:"t"`
	Key   []any `json:"k,omitempty"` // of the last row: int64, string or bytes
}

type bytesKey struct {
	Bytes []byte `json:"b"`
}

func (p place) String() string {
	key := make([]any, len(p.Key))
	for i, v := range p.Key {
		if b, ok := v.([]byte); ok {
			v = bytesKey{b}
		}
		key[i] = v
	}
	b, err := json.Marshal(place{p.Table, key})
	if err != nil {
		panic(err) // numbers, texts and bytes can always be encoded
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func (c *Category) parse(cursor string) (p place, err error) {
	if cursor == "" {
		return p, nil
	}
	bad := &problem.Error{
		Kind: problem.Invalid, Op: "rights.page", Title: "The cursor cannot be read",
		Hint: "Use next of the page before as it is, with the same category.",
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	var raw struct {
		Table int               `json:"t"`
		Key   []json.RawMessage `json:"k"`
	}
	if err != nil || json.Unmarshal(b, &raw) != nil || raw.Table < 0 || raw.Table > len(c.Tables) {
		return p, bad
	}
	p.Table = raw.Table
	if len(raw.Key) == 0 {
		return p, nil
	}
	if p.Table == len(c.Tables) || len(raw.Key) != len(c.Tables[p.Table].Key) {
		return p, bad
	}
	for _, k := range raw.Key {
		var n int64
		var s string
		var bin bytesKey
		switch {
		case json.Unmarshal(k, &n) == nil:
			p.Key = append(p.Key, n)
		case json.Unmarshal(k, &s) == nil:
			p.Key = append(p.Key, s)
		case json.Unmarshal(k, &bin) == nil && bin.Bytes != nil:
			p.Key = append(p.Key, bin.Bytes)
		default:
			return p, bad
		}
	}
	return p, nil
}

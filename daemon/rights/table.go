package rights

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
)

func (t *Table) from() string {
	if t.From != "" {
		return t.From
	}
	return t.Name + " AS t"
}

func (t *Table) where() string {
	if t.Where != "" {
		return t.Where
	}
	return "t.user = +?1"
}

// query is the one for a page, the first or a later one. Its parameters are the
// person, the limit, and the key where the page before ended.
//
// For a bare parameter beside ORDER BY the planner notes that another value might
// deserve another plan, and parses the statement anew each time: hence the plus.
func (t *Table) query(first bool) string {
	var b strings.Builder
	b.WriteString("SELECT ")
	for _, c := range t.Columns {
		b.WriteString(c.expr + ", ")
	}
	b.WriteString(strings.Join(t.Key, ", ") + " FROM " + t.from() + " WHERE " + t.where())
	if !first {
		marks := make([]string, len(t.Key))
		for i := range marks {
			marks[i] = fmt.Sprintf("?%d", i+3)
		}
		fmt.Fprintf(&b, " AND (%s) > (%s)", strings.Join(t.Key, ", "), strings.Join(marks, ", "))
	}
	b.WriteString(" ORDER BY " + strings.Join(t.Key, ", ") + " LIMIT +?2")
	return b.String()
}

// Queries returns the statements by which rows are found, for the test of query
// plans: the first page, a later one.
func (t *Table) Queries() []string { return []string{t.query(true), t.query(false)} }

// page returns the rows after a key (nil: the first ones), and their keys.
func (t *Table) page(ctx context.Context, tx *db.Tx, u ident.UserID, key []any, limit int) (list []Record, keys [][]any, err error) {
	args := append([]any{int64(u), limit}, key...)
	rows, err := tx.QueryContext(ctx, t.query(key == nil), args...)
	if err != nil {
		return nil, nil, fmt.Errorf("rights: %s: %w", t.Name, err)
	}
	defer rows.Close()
	values := make([]any, len(t.Columns)+len(t.Key))
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, nil, err
		}
		r := Record{Kind: t.Kind, Fields: make([]Field, len(t.Columns))}
		for i, c := range t.Columns {
			r.Fields[i] = Field{c.Name, c.form.value(values[i])}
		}
		if t.Open != nil {
			if err := t.Open(ctx, u, &r); err != nil {
				return nil, nil, fmt.Errorf("rights: %s: %w", t.Name, err)
			}
		}
		list = append(list, r)
		keys = append(keys, append([]any(nil), values[len(t.Columns):]...))
	}
	return list, keys, rows.Err()
}

// TimeFormat is how times are written: RFC 3339, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// value is what a person sees of a value of the database.
func (f form) value(v any) any {
	switch n := v.(type) {
	case int64:
		switch f {
		case moment:
			return time.UnixMilli(n).UTC().Format(TimeFormat)
		case number:
			if n == 0 {
				return nil
			}
			return ident.ItemID(n).String()
		case flag:
			return n != 0
		}
	case []byte:
		if f == hexed {
			return hex.EncodeToString(n)
		}
		v = string(n)
	}
	if s, ok := v.(string); ok && f == object {
		if s == "" || !json.Valid([]byte(s)) {
			return nil
		}
		return json.RawMessage(s)
	}
	return v
}

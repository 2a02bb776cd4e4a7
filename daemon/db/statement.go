package db

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
)

// The journal keeps the statements of each transaction, with their values. Run
// again on the state before it they give the state after it, because no statement
// may ask for anything but the database and its values: see classify.

// verb is what a statement does, as far as the journal is concerned.
type verb uint8

const (
	reads   verb = iota
	changes      // UPDATE, DELETE: how many rows it changed is known, none is no change
	inserts      // INSERT, REPLACE: the same, but none may still use up an id (AUTOINCREMENT)
	defines      // anything else that is not a read
)

var (
	firstWord = regexp.MustCompile(`^(?:\s|--[^\n]*\n)*([A-Za-z]+)`)
	writing   = regexp.MustCompile(`(?i)\b(?:INSERT|UPDATE|DELETE|REPLACE)\b`)
	// What answers differently when it is asked again.
	fickle = regexp.MustCompile(`(?i)\b(?:random|randomblob|last_insert_rowid|changes|total_changes|date|time|datetime|julianday|unixepoch|strftime|timediff)\s*\(|\bCURRENT_(?:TIME|DATE|TIMESTAMP)\b`)
)

// classify says what a statement does. It refuses a writing one that would do
// something else when it is run again, and several statements in one text, of
// which the first would stay done when the second fails.
func classify(query string) (verb, error) {
	m := firstWord.FindStringSubmatch(query)
	if m == nil {
		return reads, fmt.Errorf("db: %q is no statement", query)
	}
	v := defines
	switch strings.ToUpper(m[1]) {
	case "SELECT", "VALUES", "EXPLAIN", "PRAGMA":
		return reads, nil
	case "WITH":
		if !writing.MatchString(query) {
			return reads, nil
		}
		v = inserts
	case "INSERT", "REPLACE":
		v = inserts
	case "UPDATE", "DELETE":
		v = changes
	}
	if f := fickle.FindString(query); f != "" {
		return v, fmt.Errorf("db: a statement that uses %s cannot be repeated from the journal: pass the value", f)
	}
	if v != defines && strings.Contains(strings.TrimRight(query, "; \t\n"), ";") {
		return v, errors.New("db: one statement at a time can be written to the journal")
	}
	return v, nil
}

// maxKnown bounds what is remembered about statements. Their texts are constants
// of the program, but for a few lists of placeholders.
const maxKnown = 2000

type statements map[string]verb

func (s statements) classify(query string) (verb, error) {
	if v, ok := s[query]; ok {
		return v, nil
	}
	v, err := classify(query)
	if err == nil {
		if len(s) >= maxKnown {
			clear(s)
		}
		s[query] = v
	}
	return v, err
}

// ops are the writing statements of a transaction so far. Values are kept as the
// bytes that go into the journal: the caller may use a slice again.
type ops struct {
	known statements
	list  []op
	args  []byte
}

type op struct {
	query string
	rows  int64 // how many it changed; unknownRows
	end   int   // of its values in args
}

const unknownRows = -1

// reset makes room for the next transaction, but keeps no room of a giant one.
func (o *ops) reset() {
	o.list, o.args = o.list[:0], o.args[:0]
	if cap(o.args) > 1<<20 {
		o.list, o.args = nil, nil
	}
}

// cut undoes all but the first n.
func (o *ops) cut(n int) {
	o.list = o.list[:n]
	if n == 0 {
		o.args = o.args[:0]
	} else {
		o.args = o.args[:o.list[n-1].end]
	}
}

func (o *ops) add(query string, rows int64, args []any) error {
	begin := len(o.args)
	o.args = binary.AppendUvarint(o.args, uint64(len(args)))
	for _, a := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(a)
		if err == nil {
			o.args, err = appendValue(o.args, v)
		}
		if err != nil {
			o.args = o.args[:begin]
			return fmt.Errorf("db: journal: %w", err)
		}
	}
	o.list = append(o.list, op{query: query, rows: rows, end: len(o.args)})
	return nil
}

// Tags of values in the journal: docs/format.md.
const (
	tagNull = iota
	tagInteger
	tagReal
	tagText
	tagBlob
)

func appendValue(b []byte, v driver.Value) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, tagNull), nil
	case int64:
		return binary.AppendVarint(append(b, tagInteger), v), nil
	case bool:
		n := int64(0)
		if v {
			n = 1
		}
		return binary.AppendVarint(append(b, tagInteger), n), nil
	case float64:
		return binary.LittleEndian.AppendUint64(append(b, tagReal), math.Float64bits(v)), nil
	case string:
		return append(binary.AppendUvarint(append(b, tagText), uint64(len(v))), v...), nil
	case []byte:
		if v == nil {
			return append(b, tagNull), nil
		}
		return append(binary.AppendUvarint(append(b, tagBlob), uint64(len(v))), v...), nil
	}
	return nil, fmt.Errorf("a %T cannot be a value", v)
}

// A cursor reads what was appended; once something does not fit, bad is set and
// everything reads as nothing.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	n, size := binary.Uvarint(c.b)
	if size <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[size:]
	return n
}

func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) value() any {
	tag := c.bytes(1)
	if c.bad {
		return nil
	}
	switch tag[0] {
	case tagNull:
		return nil
	case tagInteger:
		n, size := binary.Varint(c.b)
		if size <= 0 {
			c.bad, c.b = true, nil
			return nil
		}
		c.b = c.b[size:]
		return n
	case tagReal:
		if b := c.bytes(8); !c.bad {
			return math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
		return nil
	case tagText:
		return string(c.bytes(c.uvarint()))
	case tagBlob:
		b := c.bytes(c.uvarint())
		if b == nil {
			b = []byte{}
		}
		return b
	}
	c.bad, c.b = true, nil
	return nil
}

// appendBody appends the body of a record with o's statements. known are those
// that the segment has named already; it gets those that are new.
func (o *ops) appendBody(b []byte, known map[string]uint64) []byte {
	begin := 0
	for _, op := range o.list {
		id, ok := known[op.query]
		if !ok {
			id = uint64(len(known))
			known[op.query] = id
		}
		b = binary.AppendUvarint(b, id)
		if !ok {
			b = append(binary.AppendUvarint(b, uint64(len(op.query))), op.query...)
		}
		b = binary.AppendUvarint(b, uint64(op.rows+1))
		b = append(b, o.args[begin:op.end]...)
		begin = op.end
	}
	return b
}

// change is a statement that was read from a record.
type change struct {
	query string
	rows  int64
	args  []any
}

var errBody = errors.New("db: a record of the journal makes no sense")

// parseBody calls each for the statements of a record's body. known are those
// that earlier records of the segment named. args are valid during the call.
func parseBody(body []byte, known *[]string, each func(change) error) error {
	c := cursor{b: body}
	var args []any
	for len(c.b) > 0 {
		id := c.uvarint()
		if id == uint64(len(*known)) && !c.bad {
			*known = append(*known, string(c.bytes(c.uvarint())))
		}
		if c.bad || id >= uint64(len(*known)) {
			return errBody
		}
		rows := int64(c.uvarint()) - 1
		n := c.uvarint()
		if n > uint64(len(c.b)) {
			return errBody
		}
		args = args[:0]
		for range n {
			args = append(args, c.value())
		}
		if c.bad {
			return errBody
		}
		if err := each(change{query: (*known)[id], rows: rows, args: args}); err != nil {
			return err
		}
	}
	return nil
}

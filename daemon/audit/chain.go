package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// A Chain is a table that is only ever appended to and whose rows are linked by
// hashes, so that whoever changes, removes, moves or inserts rows in the database
// file leaves a trace that Verify finds. It does not stop somebody who may write
// the file and recomputes every later hash; what does is a hash that has left the
// box, such as the one in each signed consent receipt.
//
// The table NAME has the columns seq (INTEGER PRIMARY KEY: 1, 2, 3 …), prev and
// hash (BLOB, 32 bytes) and the chain's own columns; the table NAME_head has one
// row with the seq and the hash of the last entry. Triggers in the schema refuse
// every change but the next append.
//
// The hash of an entry is SHA-256 over, in this order:
//
//	"yunbox chain 1" 0x00 NAME 0x00
//	prev: the hash of the entry before, 32 zero bytes before the first
//	seq: 8 bytes, big-endian
//	for each column that is not NULL, in the chain's order:
//	    its name: 4 bytes of length, big-endian, and the bytes
//	    'i' and 8 bytes of two's complement, big-endian, for an INTEGER
//	    't' or 'b', 4 bytes of length and the bytes, for TEXT (UTF-8) or BLOB
//
// A column that is added later must be nullable: where it is NULL the older
// hashes still hold.
//
// A Chain holds no state and is safe for concurrent use.
type Chain struct {
	name    string
	columns []string
	insert  string
	scan    string
	scanOne string
}

// NewChain describes the chain in table name, whose own columns are columns.
func NewChain(name string, columns ...string) *Chain {
	list := strings.Join(columns, ", ")
	return &Chain{
		name:    name,
		columns: columns,
		insert:  "INSERT INTO " + name + " (seq, prev, hash, " + list + ") VALUES (?, ?, ?" + strings.Repeat(", ?", len(columns)) + ")",
		scan:    "SELECT seq, prev, hash, " + list + " FROM " + name + " ORDER BY seq",
		scanOne: "SELECT seq, prev, hash, " + list + " FROM " + name + " WHERE seq = ?",
	}
}

// Hash is the hash of a chain's entry.
type Hash [sha256.Size]byte

// String returns the hash as 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Append adds an entry within tx and returns its number and hash. values belong
// to the chain's columns in order; each is an int64, a string, a []byte or nil.
func (c *Chain) Append(tx *db.Tx, values ...any) (seq int64, h Hash, err error) {
	if len(values) != len(c.columns) {
		return 0, Hash{}, fmt.Errorf("audit: %s has %d columns, not %d", c.name, len(c.columns), len(values))
	}
	head, err := c.head(context.Background(), tx)
	if err != nil {
		return 0, Hash{}, err
	}
	seq = head.seq + 1
	h, err = c.newHasher().sum(head.hash, seq, values)
	if err != nil {
		return 0, Hash{}, err
	}
	args := append([]any{seq, head.hash[:], h[:]}, values...)
	if _, err := tx.Exec(c.insert, args...); err != nil {
		return 0, Hash{}, fmt.Errorf("audit: append to %s: %w", c.name, err)
	}
	return seq, h, nil
}

type head struct {
	seq  int64
	hash Hash
}

func (c *Chain) head(ctx context.Context, tx *db.Tx) (head, error) {
	var h head
	var b []byte
	err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM "+c.name+"_head").Scan(&h.seq, &b)
	if errors.Is(err, sql.ErrNoRows) {
		return h, &problem.Error{
			Kind: problem.Damaged, Op: "audit", Title: "The box's record has lost its end",
			Detail: "Somebody or something outside of the box's software removed a row that is never removed.",
			Hint:   "Run `yunboxctl audit verify` on the box, and restore the newest copy from its backup folder.",
			Err:    fmt.Errorf("%s_head: %w", c.name, err),
		}
	}
	if err != nil {
		return h, fmt.Errorf("audit: head of %s: %w", c.name, err)
	}
	copy(h.hash[:], b)
	return h, nil
}

// A hasher computes the hashes of a chain's entries with one state and one
// buffer for all of them.
type hasher struct {
	prefix  []byte
	columns [][]byte // encoded names
	state   hash.Hash
	buf     []byte
}

func (c *Chain) newHasher() *hasher {
	h := &hasher{
		prefix: []byte("yunbox chain 1\x00" + c.name + "\x00"),
		state:  sha256.New(),
	}
	for _, name := range c.columns {
		h.columns = append(h.columns, appendBytes(nil, name))
	}
	return h
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

func (h *hasher) sum(prev Hash, seq int64, values []any) (Hash, error) {
	b := append(h.buf[:0], h.prefix...)
	b = append(b, prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	for i, v := range values {
		if v == nil {
			continue
		}
		b = append(b, h.columns[i]...)
		switch v := v.(type) {
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
		case string:
			b = appendBytes(append(b, 't'), v)
		case []byte:
			b = appendBytes(append(b, 'b'), v)
		default:
			return Hash{}, fmt.Errorf("audit: a %T cannot be an entry's value", v)
		}
	}
	h.buf = b
	h.state.Reset()
	h.state.Write(b)
	var out Hash
	h.state.Sum(out[:0])
	return out, nil
}

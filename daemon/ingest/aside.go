package ingest

import (
	"io"

	"yunbox.local/daemon/db"
)

// Received returns what has arrived of the upload, read back from the disk: for
// protocols in which a part may come before its turn, and is an upload of its own
// until then. It may be used until the Intake ends.
func (i *Intake) Received() (io.Reader, error) {
	r, err := i.up.Received()
	return r, i.in.explain(i.meta, err)
}

// Require has check asked in the transaction that gives the file its name, as
// Meta.Require does, for an upload that was resumed.
func (i *Intake) Require(check func(*db.Tx) error) { i.meta.Require = check }

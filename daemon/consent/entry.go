package consent

import (
	"fmt"

	"yunbox.local/daemon/db"
)

// Entry returns the number of the ledger's entry that the Grant rests on, for records
// that name it. Check it first: of a dead Grant it is the decision that ended it.
func (g Grant) Entry(tx *db.Tx) (int64, error) {
	if g.ledger == nil {
		return 0, fmt.Errorf("consent: entry: %w", errZeroGrant)
	}
	d, _, err := counting(tx, g.user, slot{g.purpose, g.device})
	return d.seq, err
}

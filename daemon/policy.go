package daemon

import (
	"context"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
)

// tellPolicy tells everybody if the box was started with another revision of the
// privacy policy than the one that they were told of.
func (b *Box) tellPolicy(ctx context.Context) error {
	all := b.consent.Policies()
	return b.accounts.TellPolicy(ctx, all[len(all)-1].Revision, all[0].Revision)
}

// noteRebuilt tells everybody that their records were rebuilt without asking them.
func (b *Box) noteRebuilt(tx *db.Tx) error {
	people, err := b.accounts.Everybody(tx)
	if err != nil {
		return err
	}
	for _, u := range people {
		if err := b.consent.Except(tx, consent.Exception{User: u, Act: consent.ActRecordsRebuilt, Via: "box"}); err != nil {
			return err
		}
	}
	return nil
}

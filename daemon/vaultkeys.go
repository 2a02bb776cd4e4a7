package daemon

import (
	"context"
	"errors"
	"net/http"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/vault"
	"yunbox.local/storage/vfs"
)

func (b *Box) openVault(ctx context.Context, keys vfs.FS) (err error) {
	b.vault, err = vault.Open(ctx, b.db, vault.Options{Keys: keys, Columns: account.Sealed(), Value: account.Indexed, Hashed: account.Hashed(), Log: b.log})
	return err
}

// rotation is a line of the answer of POST /local/vault/rotate.
type rotation struct {
	Event string `json:"event"` // progress, done
	vault.Progress
	Error string `json:"error,omitempty"` // why it ended early
}

// rotateKeys changes all keys that personal values are sealed with, and says how far it
// is. It goes on when who waits goes away.
func (b *Box) rotateKeys(w http.ResponseWriter, r *http.Request) error {
	ctx := context.WithoutCancel(r.Context())
	if err := b.db.Write(ctx, func(tx *db.Tx) error {
		return b.audit.Append(tx, audit.Event{Action: "keys.rotate", Via: "socket"})
	}); err != nil {
		return err
	}
	var emit func(any) error
	watched := true
	say := func(line rotation) {
		if emit == nil {
			emit = httpd.Lines(w)
		}
		watched = watched && emit(line) == nil
	}
	p, err := b.vault.Rotate(ctx, func(p vault.Progress) { say(rotation{Event: "progress", Progress: p}) })
	switch {
	case errors.Is(err, vault.ErrRotating):
		return &problem.Error{Kind: problem.Conflict, Op: "daemon.rotate", Title: "The keys are being changed already", Hint: "Wait until that has ended."}
	case err != nil && emit == nil:
		return err
	case err != nil:
		b.log.Error("the change of keys was cut off", "err", err)
		say(rotation{Event: "done", Progress: p, Error: problem.Sentence(err)})
	default:
		say(rotation{Event: "done", Progress: p})
	}
	return nil
}

package daemon

import (
	"errors"
	"fmt"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/reset"
	"yunbox.local/storage/vfs"
)

// ErrReset ends Run when the box is to be as it was when it was new: close the box and
// open it again, which does that. It is an ErrWritable, to whoever only does the latter.
var ErrReset = fmt.Errorf("the box is given back as it was made: %w", ErrWritable)

// askReset makes it certain that the box is reset, and ends Run.
func (b *Box) askReset(serial string) error {
	if err := b.refusing(); err != nil {
		return err
	}
	if err := reset.Ask(b.dir, serial); err != nil {
		return err
	}
	b.log.Warn("the box is reset: everything on it is erased")
	select {
	case b.again <- struct{}{}:
	default:
	}
	return nil
}

// finishReset does what askReset has made certain, before anything else in the state
// directory is looked at. A cut on the way leads here once more.
func (b *Box) finishReset(disk vfs.FS) error {
	serial, asked, err := reset.Asked(disk)
	if err != nil || !asked {
		return err
	}
	foreign, err := reset.Do(disk, b.conf.Volume != "", func() error { return b.newLabel(serial) })
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return &problem.Error{Kind: problem.Locked, Op: "daemon.open", Err: err,
			Title:  "Another yunboxd is using this state directory",
			Detail: b.conf.State,
			Hint:   "Stop it first, or give this one a state directory of its own with --state."}
	case err != nil:
		return err
	}
	b.log.Warn("the box was reset; it has a new key, and nothing of what it kept", "foreign", len(foreign))
	return nil
}

// newLabel keeps the serial number, which stands on the box, and nothing else.
func (b *Box) newLabel(serial string) error {
	if _, ok := ident.ParseSerial(serial); !ok {
		return nil // it was lost; the first start makes another one
	}
	if err := vfs.CreateDir(b.path("keys")); err != nil {
		return err
	}
	keys, err := vfs.OpenDir(b.path("keys"))
	if err != nil {
		return err
	}
	return errors.Join(account.NewLabel(keys, serial), keys.Close())
}

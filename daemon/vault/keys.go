package vault

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage/vfs"
)

// Every file of keys is there twice, the second with copySuffix: one mends the other.
const (
	boxName      = "vault.json"
	personPrefix = "person-"
	personSuffix = ".json"
	copySuffix   = ".copy"
)

// boxFile is keys/vault.json.
type boxFile struct {
	Version int `json:"version"`
	// Masters wrap the keys of people; the last one is in use, and another is there only
	// until Rotate has ended.
	Masters []master `json:"masters"`
	// Index is the key of fingerprints that is in use.
	Index []byte `json:"index"`
	// Tagged: fingerprints under Index begin with its id. It is so from the first rotation on;
	// an earlier version of the program finds by those of before.
	Tagged bool `json:"index_tagged,omitempty"`
	// Before are keys under which some may still be, the newest first: that of before a
	// rotation until it has ended, and see stillUsed.
	Before [][]byte `json:"index_before,omitempty"`
}

type master struct {
	ID  string `json:"id"`
	Key []byte `json:"key"`
}

func (f *boxFile) current() master { return f.Masters[len(f.Masters)-1] }

func (f *boxFile) master(id string) (master, bool) {
	for _, m := range f.Masters {
		if m.ID == id {
			return m, true
		}
	}
	return master{}, false
}

// personFile is keys/person-<id>.json.
type personFile struct {
	Version int `json:"version"`
	// Keys are the generations, the last one in use; one more at most is there for what
	// was sealed before the last rotation.
	Keys []wrapped `json:"keys"`
}

type wrapped struct {
	Generation uint32 `json:"generation"`
	Master     string `json:"master"`
	General    []byte `json:"general"`
	Sensitive  []byte `json:"sensitive"`
}

func nameOf(u ident.UserID) string {
	if u == 0 {
		return personPrefix + "box" + personSuffix
	}
	return personPrefix + u.String() + personSuffix
}

// personOf is the reverse of nameOf, also for the second file.
func personOf(name string) (ident.UserID, bool) {
	id, ok := strings.CutPrefix(strings.TrimSuffix(name, copySuffix), personPrefix)
	if !ok {
		return 0, false
	}
	if id, ok = strings.CutSuffix(id, personSuffix); !ok {
		return 0, false
	}
	if id == "box" {
		return 0, true
	}
	u, err := ident.Parse[ident.UserID](id)
	return u, err == nil
}

var errDamaged = errors.New("it is damaged")

func parseBox(data []byte) (f boxFile, err error) {
	if err := json.Unmarshal(data, &f); err != nil {
		return f, errDamaged
	}
	if f.Version > 1 {
		return f, errors.New("it is of a newer version of yunbox")
	}
	if f.Version != 1 || len(f.Masters) == 0 || len(f.Masters) > 16 || len(f.Index) != keySize || len(f.Before) > maxLinkKeys {
		return f, errDamaged
	}
	for _, m := range f.Masters {
		if m.ID == "" || len(m.Key) != keySize {
			return f, errDamaged
		}
	}
	for _, k := range f.Before {
		if len(k) != keySize {
			return f, errDamaged
		}
	}
	return f, nil
}

func parsePerson(data []byte) (f personFile, err error) {
	if err := json.Unmarshal(data, &f); err != nil {
		return f, errDamaged
	}
	if f.Version > 1 {
		return f, errors.New("it is of a newer version of yunbox")
	}
	if f.Version != 1 || len(f.Keys) == 0 || len(f.Keys) > 16 {
		return f, errDamaged
	}
	return f, nil
}

// readTwice reads the first sound one of a file and its copy, and mends the other. It
// is fs.ErrNotExist where neither is there, errDamaged where none is sound.
func readTwice[T any](v *Vault, name string, parse func([]byte) (T, error)) (T, error) {
	var good []byte
	var value, zero T
	var mend []string
	why := fs.ErrNotExist
	for _, n := range []string{name, name + copySuffix} {
		data, err := vfs.ReadFile(v.keys, n)
		var parsed T
		if err == nil {
			parsed, err = parse(data)
		}
		switch {
		case err == nil && (good == nil || bytes.Equal(data, good)):
			good, value = data, parsed
		case err == nil: // the first one is written first
			mend = append(mend, n)
		case errors.Is(err, fs.ErrNotExist):
			mend = append(mend, n)
		case errors.Is(err, errDamaged):
			v.log.Warn("a key file is damaged and is made anew from the other: look at the disk", "file", n)
			mend = append(mend, n)
			why = errDamaged
		default:
			return zero, fmt.Errorf("%s cannot be read: %w", n, err)
		}
	}
	if good == nil {
		return zero, fmt.Errorf("%s: %w", name, why)
	}
	for _, n := range mend {
		if err := vfs.WriteFile(v.keys, n, good, fileMode); err != nil {
			return zero, fmt.Errorf("%s cannot be written: %w", n, err)
		}
	}
	return value, nil
}

// fileMode lets the box's own user write, so that keys can be written over.
const fileMode = 0o600

func (v *Vault) writeTwice(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	for _, n := range []string{name, name + copySuffix} {
		if err := vfs.WriteFile(v.keys, n, data, fileMode); err != nil {
			return fmt.Errorf("%s cannot be written: %w", n, err)
		}
	}
	return nil
}

func newMaster() master { return master{ID: fmt.Sprintf("%x", random(8)), Key: random(keySize)} }

func (v *Vault) openBox() (err error) {
	v.box, err = readTwice(v, boxName, parseBox)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return err
	}
	if people, perr := v.people(); perr != nil {
		return perr
	} else if len(people) > 0 {
		// Nothing can be opened any more, and nothing is removed: the files may come back
		// from a second copy.
		v.log.Error("the master key of the vault is lost: what people told about themselves cannot be read; " +
			"take vault.json from the second copy's folder keys, or ask them to enter it again")
	}
	v.box = boxFile{Version: 1, Masters: []master{newMaster()}, Index: random(keySize)}
	return v.writeTwice(boxName, v.box)
}

// people lists who has a file of keys, the box itself among them.
func (v *Vault) people() (list []ident.UserID, err error) {
	entries, err := v.keys.ReadDir(".")
	if err != nil {
		return nil, err
	}
	seen := map[ident.UserID]bool{}
	for _, e := range entries {
		if u, ok := personOf(e.Name()); ok && !seen[u] {
			seen[u] = true
			list = append(list, u)
		}
	}
	return list, nil
}

// wrapper is what a master key wraps with.
func (m master) wrapper() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, m.Key, nil, "yunbox vault 1 wrap", keySize)
	if err != nil {
		return nil, err
	}
	return newAEAD(key)
}

func wrapFor(u ident.UserID, generation uint32, c Class) []byte {
	b := binary.BigEndian.AppendUint64([]byte("yunbox vault key 1\x00"), uint64(u))
	b = binary.BigEndian.AppendUint32(b, generation)
	return append(b, byte(c))
}

func (m master) wrap(u ident.UserID, generation uint32, general, sensitive []byte) (wrapped, error) {
	aead, err := m.wrapper()
	if err != nil {
		return wrapped{}, err
	}
	one := func(key []byte, c Class) []byte {
		nonce := random(nonceSize)
		return aead.Seal(nonce, nonce, key, wrapFor(u, generation, c))
	}
	return wrapped{Generation: generation, Master: m.ID, General: one(general, General), Sensitive: one(sensitive, Sensitive)}, nil
}

func (m master) unwrap(u ident.UserID, w wrapped) (general, sensitive []byte, err error) {
	aead, err := m.wrapper()
	if err != nil {
		return nil, nil, err
	}
	one := func(b []byte, c Class) ([]byte, error) {
		if len(b) != nonceSize+keySize+tagSize {
			return nil, errDamaged
		}
		return aead.Open(nil, b[:nonceSize], b[nonceSize:], wrapFor(u, w.Generation, c))
	}
	if general, err = one(w.General, General); err == nil {
		sensitive, err = one(w.Sensitive, Sensitive)
	}
	return general, sensitive, err
}

// ring returns the keys that u has; ErrLost: none.
func (v *Vault) ring(u ident.UserID) (*ring, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.load(u)
}

func (v *Vault) load(u ident.UserID) (*ring, error) {
	if v.gone[u] {
		return nil, ErrLost
	}
	if r := v.rings[u]; r != nil {
		return r, nil
	}
	f, err := readTwice(v, nameOf(u), parsePerson)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return nil, ErrLost
	}
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	r, err := v.open(u, f)
	if err != nil {
		return nil, err
	}
	return v.remember(u, r), nil
}

func (v *Vault) open(u ident.UserID, f personFile) (*ring, error) {
	r := &ring{aeads: map[uint32][2]cipher.AEAD{}}
	for _, w := range f.Keys {
		m, ok := v.box.master(w.Master)
		if !ok {
			continue
		}
		general, sensitive, err := m.unwrap(u, w)
		if err != nil {
			continue
		}
		var pair [2]cipher.AEAD
		for i, key := range [][]byte{general, sensitive} {
			if pair[i], err = newAEAD(key); err != nil {
				return nil, err
			}
		}
		r.aeads[w.Generation] = pair
	}
	if r.current = f.Keys[len(f.Keys)-1].Generation; len(r.aeads) == 0 || r.aeads[r.current] == [2]cipher.AEAD{} {
		return nil, ErrLost
	}
	return r, nil
}

func (v *Vault) remember(u ident.UserID, r *ring) *ring {
	if len(v.rings) >= maxRings {
		clear(v.rings)
	}
	v.rings[u] = r
	return r
}

// ringFor is ring, and makes the keys that are not there.
func (v *Vault) ringFor(u ident.UserID) (*ring, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone[u] {
		return nil, ErrGone
	}
	r, err := v.load(u)
	if !errors.Is(err, ErrLost) {
		return r, err
	}
	// What nothing opens here stays: a key of a second copy may.
	return v.renew(u, func(_ *boxFile, old []wrapped) []wrapped { return old[max(0, len(old)-1):] })
}

// renew gives u another generation of keys, after those that keep returns of the ones
// that are there.
func (v *Vault) renew(u ident.UserID, keep func(*boxFile, []wrapped) []wrapped) (*ring, error) {
	f, err := readTwice(v, nameOf(u), parsePerson)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return nil, fmt.Errorf("vault: %w", err)
	}
	next := uint32(1)
	for _, w := range f.Keys {
		next = max(next, w.Generation+1)
	}
	w, err := v.box.current().wrap(u, next, random(keySize), random(keySize))
	if err != nil {
		return nil, err
	}
	f = personFile{Version: 1, Keys: append(keep(&v.box, f.Keys), w)}
	if err := v.writeTwice(nameOf(u), f); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	r, err := v.open(u, f)
	if err != nil {
		return nil, err
	}
	return v.remember(u, r), nil
}

// Destroy destroys the keys of u, and what finds them by their values. It takes effect
// when tx is on stable storage, before the Write that it belongs to returns; where that
// is cut off, with the next start. What is sealed for u can be opened by nobody then,
// wherever a copy of it is. Nothing is sealed for them any more. It deletes no values.
func (v *Vault) Destroy(tx *db.Tx, u ident.UserID) error {
	if u == 0 {
		return errors.New("vault: the box's own keys are not destroyed")
	}
	if _, err := tx.Exec(`DELETE FROM vault_index WHERE user = ?`, int64(u)); err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO vault_gone (id, time) VALUES (?, ?) ON CONFLICT DO NOTHING`, int64(u), tx.Now.UnixMilli()); err != nil {
		return err
	}
	tx.AfterCommit(func() {
		if err := v.destroy(u); err != nil {
			v.log.Error("keys of somebody who left could not be removed; the next start tries again", "err", err)
		}
	})
	return nil
}

func (v *Vault) destroy(u ident.UserID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone[u] = true
	delete(v.rings, u)
	name := nameOf(u)
	var errs []error
	for _, n := range []string{name, name + copySuffix, name + ".new", name + copySuffix + ".new"} {
		if err := v.wipe(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, v.keys.SyncDir("."))...)
}

// wipe writes over a file before it removes it: a removed name alone leaves the bytes on
// the disk. File systems that never write in place (btrfs) and the insides of flash
// memory may keep them all the same.
func (v *Vault) wipe(name string) error {
	f, err := v.keys.OpenFile(name, vfs.ReadWrite, 0)
	if errors.Is(err, fs.ErrPermission) {
		// One that came back from a second copy can only be read.
		if f, err = v.keys.OpenFile(name, vfs.ReadOnly, 0); err == nil {
			if err = errors.Join(f.Chmod(fileMode), f.Close()); err == nil {
				f, err = v.keys.OpenFile(name, vfs.ReadWrite, 0)
			}
		}
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), v.keys.Remove(name))
}

// HasKeys reports whether any key of u is left.
func (v *Vault) HasKeys(u ident.UserID) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range []string{nameOf(u), nameOf(u) + copySuffix} {
		_, err := v.keys.Stat(n)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// finishDestroying removes keys that a cut left behind after Destroy.
func (v *Vault) finishDestroying(ctx context.Context) error {
	var gone []int64
	err := v.db.Read(ctx, func(tx *db.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id FROM vault_gone`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			gone = append(gone, id)
		}
		return rows.Err()
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	for _, id := range gone {
		if err := v.destroy(ident.UserID(id)); err != nil {
			return err
		}
	}
	// That they are gone is known by their files from now on.
	return v.db.Write(ctx, func(tx *db.Tx) error {
		for _, id := range gone {
			if _, err := tx.Exec(`DELETE FROM vault_gone WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
}

package duplicates

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strconv"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// Held says what this room keeps about people. It is all outside of the database.
func (r *Room) Held() rights.Holder {
	return rights.Holder{Package: "duplicates", Categories: []rights.Category{{
		ID: "duplicates", Title: rights.Words{EN: "Fingerprints for duplicates", ZH: "查重指纹"},
		What: rights.Words{EN: "Hashes and looks of files in folders that were searched for duplicates, and the plans that were made and can be undone.", ZH: "查重文件夹中各文件的哈希和图像指纹，以及可撤销的处理计划。"},
		From: rights.Words{EN: "From the box, when you or whoever runs it had a folder searched.", ZH: "由盒子在您或管理者查找重复文件时生成。"},
		Kept: rights.Words{EN: "Until you withdraw the consent. Plans that can be undone stay until then.", ZH: "直到您撤回同意；可撤销的计划保留至此。"},
		Fix:  rights.Words{EN: "They follow the files.", ZH: "随文件变化。"}, Purposes: []string{"file_dedup"},
		Files: r.heldOf, Erase: rights.Erase{Step: r.erase},
	}}}
}

// heldOf lists the notes about a person's files.
func (r *Room) heldOf(_ context.Context, u ident.UserID) ([]rights.Record, error) {
	d, err := r.dir(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	dir := strconv.FormatInt(int64(u), 10)
	entries, err := d.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var list []rights.Record
	for _, e := range entries {
		info, err := d.Stat(path.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // replaced meanwhile
		} else if err != nil {
			return nil, err
		}
		list = append(list, rights.Record{Kind: "notes", Fields: []rights.Field{
			{Name: "name", Value: e.Name()}, {Name: "bytes", Value: info.Size()}, {Name: "changed", Value: info.ModTime().UTC().Format(rights.TimeFormat)},
		}})
	}
	return list, nil
}

// erase removes all notes about a person's files, how to undo what was done included.
func (r *Room) erase(ctx context.Context, u ident.UserID, _ rights.Which, _ int) (int, error) {
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	d, err := r.dir(false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	dir := strconv.FormatInt(int64(u), 10)
	entries, err := d.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if err := d.Remove(path.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	if err := d.Remove(dir); err != nil {
		return 0, err
	}
	return len(entries), d.SyncDir(".")
}

package tree

import (
	"context"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// Held says what this package keeps about people.
func (t *Tree) Held() rights.Holder {
	return rights.Holder{Package: "tree", Categories: []rights.Category{{
		ID: "view", Title: rights.Words{EN: "Readable view", ZH: "可读视图"},
		What: rights.Words{EN: "Your files once more under tree/ on the disk, with their names and folders, so that they can be read without the box's software; and where each lies.",
			ZH: "您的文件以原有名称和文件夹另外呈现在磁盘的 tree/ 下，不依赖盒子的软件也能读取；以及每个文件的位置。"},
		From: rights.Words{EN: "From your files.", ZH: "来自您的文件。"},
		Kept: rights.Words{EN: "It follows your files: what you delete leaves it first.", ZH: "与您的文件一致：您删除的内容会先从这里移除。"},
		Fix:  rights.Words{EN: "It follows your files.", ZH: "随您的文件更改。"}, Purposes: []string{"storage"},
		Erase: rights.Erase{Step: t.leave, Last: rights.Words{EN: "It follows your files: erase those.", ZH: "它跟随您的文件：请删除文件。"}},
		Tables: []rights.Table{{
			Name: "tree_file", Kind: "shown_file", Key: []string{"t.path"},
			Columns: []rights.Column{rights.ID("item"), rights.Text("path"), rights.Hash("sha256").Of("t.ref"), rights.Time("mtime")},
		}},
		Claims: []string{"tree_user"},
	}}}
}

// leave removes the folder of somebody whom Options.People no longer names, its rows,
// and the names that the last batch gave. A box without a view has none.
func (t *Tree) leave(ctx context.Context, u ident.UserID, _ rights.Which, _ int) (int, error) {
	if t == nil {
		return 0, nil
	}
	if _, _, err := t.ready(ctx); err != nil {
		return 0, err
	}
	t.work.Lock()
	defer t.work.Unlock()
	if err := t.forget(ctx, `user = ?1`, int64(u)); err != nil {
		return 0, err
	}
	return 0, t.forgetBatch()
}

// forgetBatch removes the names of the last batch from the notes about it. t.work is held.
func (t *Tree) forgetBatch() error {
	if t.state.mark == "" {
		return nil
	}
	return writeIntent(t.opt.Disk, intent{Mark: t.state.mark, Batch: t.state.batch})
}

// Forget brings the lists of files up to date, those too that would wait for more changes,
// and removes the names of what was done last from the notes of the view: names of files that
// were erased may stand in both.
func (t *Tree) Forget(ctx context.Context) error {
	if _, _, err := t.ready(ctx); err != nil {
		return err
	}
	seqs, err := t.opt.Catalog.Seqs(ctx)
	if err != nil {
		return err
	}
	for u, seq := range seqs {
		if err := t.sumsNow(ctx, u, seq); err != nil {
			return err
		}
	}
	t.work.Lock()
	defer t.work.Unlock()
	return t.forgetBatch()
}

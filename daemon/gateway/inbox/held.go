package inbox

import (
	"context"
	"slices"
	"strconv"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

// Held says what this package keeps about people.
func (in *Inbox) Held() rights.Holder {
	return rights.Holder{Package: "gateway/inbox", Categories: []rights.Category{{
		ID: "inboxes", Title: rights.Words{EN: "Watched folders", ZH: "监视的文件夹"},
		What: rights.Words{EN: "Folders of the box's own computer that files are taken in from for you, and which of those were taken.", ZH: "盒子从本机哪些文件夹为您收取文件，以及已收取的文件。"},
		From: rights.Words{EN: "From whoever runs the box.", ZH: "由管理盒子的人设置。"},
		Kept: rights.Words{EN: "Until the folder is no longer watched; files that left it are forgotten after a month.", ZH: "直到不再监视；已离开文件夹的文件一个月后移除。"},
		Fix:  rights.Words{EN: "Ask whoever runs the box; without your consent nothing is taken in.", ZH: "请联系管理盒子的人；没有您的同意不会收取任何文件。"}, Purposes: []string{"storage", "album_backup", "wechat_backup", "qq_backup", "camera_transfer"},
		Erase: rights.Erase{Step: in.erase, Count: in.count},
		Tables: []rights.Table{
			{Name: "inbox", Kind: "watched_folder", Key: []string{"t.id"}, Columns: []rights.Column{
				rights.Text("path"), rights.Text("source"), rights.Text("originals"), rights.Text("target"), rights.Time("created")}},
			{Name: "inbox_taken", Kind: "taken_file", From: "inbox AS b CROSS JOIN inbox_taken AS t ON t.inbox = b.id", Where: "b.user = +?1", Key: []string{"b.id", "t.path"},
				Columns: []rights.Column{rights.Text("path"), rights.Text("size"), rights.Time("mtime").Of("t.mtime / 1000000"), rights.Hash("sha256").Of("t.ref"), rights.ID("item"), rights.Time("gone")}},
		},
	}}}
}

// watched returns the folders that are watched for u; with a purpose only those whose
// files all rest on it.
func (in *Inbox) watched(u ident.UserID, purpose string) (list []Config) {
	for _, f := range in.all() {
		if f.conf.User == u && (purpose == "" || slices.Contains(consent.SourcesOf(consent.Purpose(purpose)), f.conf.Source)) {
			list = append(list, f.conf)
		}
	}
	return list
}

// erase ends the watching of folders; what lies in them is not the box's.
func (in *Inbox) erase(ctx context.Context, u ident.UserID, w rights.Which, _ int) (int, error) {
	list := in.watched(u, w.Purpose)
	for _, c := range list {
		if _, err := in.Remove(ctx, strconv.FormatInt(c.ID, 10)); err != nil && problem.KindOf(err) != problem.NotFound {
			return 0, err
		}
	}
	return len(list), nil
}

func (in *Inbox) count(_ context.Context, _ *db.Tx, u ident.UserID, purpose string) (rights.Sum, error) {
	return rights.Sum{Records: int64(len(in.watched(u, purpose)))}, nil
}

package catalog

import "yunbox.local/daemon/rights"

const (
	sumFiles = `SELECT g.items, g.bytes
  - coalesce((SELECT sum(v.size) FROM version v WHERE v.user = +?1), 0)
  - coalesce((SELECT sum(i.size) FROM item i WHERE i.user = +?1 AND i.trashed IS NOT NULL), 0) FROM usage g WHERE g.user = +?1`
	sumVersions = `SELECT count(*), sum(v.size) FROM version v WHERE v.user = +?1`
	sumTrash    = `SELECT count(*), sum(i.size) FROM item i WHERE i.user = +?1 AND i.trashed IS NOT NULL`
)

// Held says what this package keeps about people. sources are those whose files rest
// on a purpose.
func (c *Catalog) Held(sources func(purpose string) []string) rights.Holder {
	e := eraser{c, sources}
	item := func(path rights.Column, more ...rights.Column) []rights.Column {
		return append([]rights.Column{
			rights.ID("id"), path, rights.Hash("sha256").Of("t.ref"), rights.Text("size"), rights.Time("mtime"), rights.Time("added"), rights.Text("source"),
			rights.Text("source_by"), rights.Time("taken"), rights.Flag("taken_local"), rights.Text("taken_from"), rights.ID("device"),
		}, more...)
	}
	yours := rights.Words{EN: "From your devices and apps, as you consented for each source.", ZH: "由您的设备和应用按您同意的来源上传。"}
	backups := []string{"storage", "album_backup", "wechat_backup", "qq_backup", "camera_transfer"}
	byBox := rights.Words{EN: "From the box.", ZH: "由盒子记录。"}
	return rights.Holder{Package: "catalog", Categories: []rights.Category{
		{
			ID: "files", Title: rights.Words{EN: "Files", ZH: "文件"}, Listed: true,
			What: rights.Words{EN: "Your photos, videos and files: name and folder, content, when they were made, where they come from and which device sent them.", ZH: "您的照片、视频和文件：名称与文件夹、内容、创建时间、来源和上传设备。"},
			From: yours, Kept: rights.Words{EN: "Until you delete them.", ZH: "直到您删除。"},
			Fix:      rights.Words{EN: "Name, folder and time: Correct, at the record. The content: send another under the name.", ZH: "名称、文件夹和时间：在记录处点“更正”；内容：以同名重新上传。"},
			Purposes: backups, Erase: rights.Erase{Step: e.files, Count: e.count(countLiveOf)},
			Tables: []rights.Table{{
				Name: "item", Kind: "file", From: "item AS t INDEXED BY item_source CROSS JOIN folder AS f ON f.id = t.folder",
				Where: "t.user = +?1 AND t.folder IS NOT NULL", Key: []string{"t.source", "t.id"}, Sum: sumFiles,
				Columns: item(rights.Text("path").Of("iif(f.path = '', t.name, f.path || '/' || t.name)")),
			}},
			Claims: []string{"usage"},
		},
		{
			ID: "folders", Title: rights.Words{EN: "Folders", ZH: "文件夹"}, Listed: true,
			What: rights.Words{EN: "The folders that your files lie in.", ZH: "您的文件所在的文件夹。"},
			From: yours, Kept: rights.Words{EN: "Until you delete them.", ZH: "直到您删除。"},
			Fix: rights.Words{EN: "Rename and move them in any app that opens the box as a drive.", ZH: "在任何把盒子当作网盘打开的应用中重命名或移动。"}, Purposes: backups,
			Erase: rights.Erase{Step: e.folders},
			Tables: []rights.Table{{
				Name: "folder", Kind: "folder", Where: "t.user = +?1 AND t.path > ''", Key: []string{"t.path"}, Columns: []rights.Column{rights.Text("path")},
			}},
		},
		{
			ID: "versions", Title: rights.Words{EN: "Older versions", ZH: "旧版本"},
			What: rights.Words{EN: "What a file held before another was stored under its name.", ZH: "同名文件被替换之前的内容。"},
			From: yours, Kept: rights.Words{EN: "Until you delete the file for good.", ZH: "直到您彻底删除该文件。"},
			Fix: rights.Words{EN: "They go with their file.", ZH: "随文件一同删除。"}, Purposes: backups,
			Erase: rights.Erase{Step: e.versions, Count: e.count(countVersionsOf)},
			Tables: []rights.Table{{
				Name: "version", Kind: "version", Key: []string{"t.item", "t.seq"}, Sum: sumVersions, Columns: []rights.Column{
					rights.ID("item"), rights.Text("seq"), rights.Hash("sha256").Of("t.ref"), rights.Text("size"), rights.Time("mtime"), rights.Time("added"),
					rights.Time("replaced"), rights.Text("source"), rights.Text("source_by"), rights.ID("device")},
			}},
		},
		{
			ID: "trash", Title: rights.Words{EN: "Trash", ZH: "回收站"},
			What: rights.Words{EN: "Files that you deleted and can have back.", ZH: "您删除后仍可恢复的文件。"},
			From: yours, Kept: rights.Words{EN: "Until you restore them or delete them for good.", ZH: "直到您恢复或彻底删除。"},
			Fix: rights.Words{EN: "Restore a file first.", ZH: "请先恢复文件。"}, Purposes: backups,
			Erase:  rights.Erase{Step: e.trashed, Count: e.count(countTrashedOf)},
			Period: &rights.Period{Table: "item", Column: "trashed", Min: 7, Max: 3650},
			Tables: []rights.Table{{
				Name: "item", Kind: "deleted_file", Where: "t.user = +?1 AND t.trashed IS NOT NULL", Key: []string{"t.trashed", "t.id"}, Sum: sumTrash,
				Columns: item(rights.Text("path").Of("iif(t.origin = '', t.name, t.origin || '/' || t.name)"), rights.Time("trashed")),
			}},
		},
		{
			ID: "deleted", Title: rights.Words{EN: "What you deleted", ZH: "已删除的内容"},
			What: rights.Words{EN: "Hashes of contents that you deleted for good, so that the next backup does not bring them back. They say nothing to anybody who does not have the file.", ZH: "您彻底删除的内容的哈希，使下次备份不会再带回它们；没有原文件的人无法从中得知任何内容。"},
			From: byBox, Kept: rights.Words{EN: "For as long as you choose under Account, a year unless you choose; a month later it is forgotten.", ZH: "时长由您在“账户”中选择，默认一年；再过一个月后清除。"},
			Fix: rights.Words{EN: "Have the file again, or choose another time under Account.", ZH: "可重新取回文件，或在“账户”中选择其他时长。"}, Purposes: backups,
			Erase: rights.Erase{Rows: true},
			Tables: []rights.Table{
				{Name: "tombstone", Kind: "deleted_content", Key: []string{"t.ref"}, Columns: []rights.Column{rights.Hash("sha256").Of("t.ref"), rights.Time("time")}},
				{Name: "tombstone_sha1", Kind: "deleted_content_sha1", Key: []string{"t.sha1", "t.ref"}, Columns: []rights.Column{rights.Hash("sha1"), rights.Hash("sha256").Of("t.ref")}},
			},
		},
		{
			ID: "offers", Title: rights.Words{EN: "History of devices", ZH: "设备上传记录"},
			What: rights.Words{EN: "What each device offered and what became of it, so that you see why a photo is here or is not.", ZH: "每台设备提交过什么、结果如何，让您知道照片为何在或不在这里。"},
			From: byBox, Kept: rights.Words{EN: "The newest of each device; older ones go by themselves.", ZH: "每台设备保留最新的记录，旧的自动移除。"},
			Fix: rights.Words{EN: "It says what happened.", ZH: "如实记录，不可更改。"}, Purposes: backups,
			Erase:  rights.Erase{Step: e.offers, Count: e.count(countOffersOf)},
			Period: &rights.Period{Table: "ledger", Column: "time", Min: 7, Max: 3650},
			Tables: []rights.Table{{
				Name: "ledger", Kind: "offer", Key: []string{"t.device", "t.n"}, Columns: []rights.Column{
					rights.ID("device"), rights.Text("n"), rights.Time("time"), rights.Text("path"), rights.Hash("sha256").Of("t.ref"), rights.Text("size"),
					rights.Text("outcome"), rights.Text("problem").Of("t.kind"), rights.Text("reason"), rights.ID("item")},
			}},
		},
		{
			ID: "changes", Title: rights.Words{EN: "Changes", ZH: "变更记录"},
			What: rights.Words{EN: "The number, time and kind of each change of your files, by which apps see what is new.", ZH: "您的文件每次变更的编号、时间和类型，供应用得知新内容。"},
			From: byBox, Kept: rights.Words{EN: "As long as the account.", ZH: "与账户同存。"},
			Fix:   rights.Words{EN: "It says what happened.", ZH: "如实记录，不可更改。"},
			Erase: rights.Erase{Step: e.changes, Last: rights.Words{EN: "Apps and the readable view find out by it what was deleted; it goes with the account.", ZH: "应用和可读视图靠它得知删除了什么；随账户一同删除。"}},
			Tables: []rights.Table{{
				Name: "change", Kind: "change", Key: []string{"t.seq"}, Columns: []rights.Column{rights.Text("seq"), rights.ID("item"), rights.Text("change").Of("t.kind"), rights.Time("time")},
			}},
		},
	}}
}

package nextcloud

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	mine := func(table string) string {
		return "nextcloud_folder AS f INDEXED BY nextcloud_folder_key CROSS JOIN " + table + " AS t ON t.upload = f.upload"
	}
	chunk := []rights.Column{rights.Text("number"), rights.Text("name"), rights.Text("size"), rights.Time("written")}
	key := []string{"f.name", "f.destination", "t.number"}
	return rights.Holder{Package: "gateway/nextcloud", Categories: []rights.Category{{
		ID: "chunks", Title: rights.Words{EN: "Uploads in parts", ZH: "分块上传"},
		What: rights.Words{EN: "Uploads of Nextcloud's apps that come in parts: where the file is to go and which parts are here.", ZH: "Nextcloud 应用的分块上传：文件去向和已到的分块。"},
		From: rights.Words{EN: "From the app.", ZH: "由应用提供。"},
		Kept: rights.Words{EN: "Until the upload ends, you withdraw its consent, or seven days pass without progress.", ZH: "直到上传结束、您撤回相应同意，或七天没有进展。"},
		Fix:  rights.Words{EN: "Cancel it in the app and send it again.", ZH: "在应用中取消后重新上传。"}, Purposes: []string{"storage", "album_backup"},
		Erase: rights.Erase{With: "uploads"},
		Tables: []rights.Table{
			{Name: "nextcloud_folder", Kind: "parts", Key: []string{"t.name", "t.destination"}, Columns: []rights.Column{rights.Text("name"), rights.Text("destination"), rights.Text("size").Of("t.bytes")}},
			{Name: "nextcloud_chunk", Kind: "part", From: mine("nextcloud_chunk"), Where: "f.user = +?1", Key: key, Columns: chunk},
			{Name: "nextcloud_early", Kind: "early_part", From: mine("nextcloud_early"), Where: "f.user = +?1", Key: key, Columns: chunk},
		},
	}}}
}

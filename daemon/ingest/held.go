package ingest

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	return rights.Holder{Package: "ingest", Categories: []rights.Category{{
		ID: "uploads", Title: rights.Words{EN: "Uploads on their way", ZH: "进行中的上传"},
		What: rights.Words{EN: "Uploads that can be resumed: where the file is to go and what its device said about it. Finished ones stay for a week, for a client whose answer was lost.", ZH: "可续传的上传：文件去向和设备提供的信息。完成后保留一周，以便未收到答复的客户端查询。"},
		From: rights.Words{EN: "From your devices.", ZH: "由您的设备提供。"},
		Kept: rights.Words{EN: "Seven days after the last progress.", ZH: "最后一次进展后七天。"},
		Fix:  rights.Words{EN: "Cancel it and send it again.", ZH: "取消后重新上传。"}, Purposes: []string{"storage", "album_backup", "wechat_backup", "qq_backup", "camera_transfer"},
		Tables: []rights.Table{{
			// There is no index by person: it would cost every upload. Rows live for a week.
			Name: "upload", Kind: "upload", Key: []string{"t.id"}, Columns: []rights.Column{
				rights.Text("path"), rights.Text("size"), rights.Time("mtime"), rights.Text("source"), rights.Text("source_by"), rights.ID("device"),
				rights.Time("created"), rights.Time("expires"), rights.ID("item"), rights.Hash("sha256").Of("t.ref"), rights.Text("outcome"), rights.JSON("extra")},
		}},
	}}}
}

package webdav

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	apps := rights.Words{EN: "From apps that open the box as a drive.", ZH: "由把盒子当作网盘打开的应用提供。"}
	return rights.Holder{Package: "gateway/webdav", Categories: []rights.Category{
		{
			ID: "properties", Title: rights.Words{EN: "Notes of apps", ZH: "应用的附注"},
			What: rights.Words{EN: "What apps noted about your files and folders, and the spelling of names as they were sent.", ZH: "应用为您的文件和文件夹记下的附注，以及名称上传时的写法。"},
			From: apps, Kept: rights.Words{EN: "As long as the file or folder.", ZH: "与文件或文件夹同存。"},
			Fix: rights.Words{EN: "In the app that made them.", ZH: "在写下它们的应用中修改。"}, Purposes: []string{"storage"},
			Erase: rights.Erase{Rows: true},
			Tables: []rights.Table{{
				Name: "dav_property", Kind: "property", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.ID("item"), rights.Text("folder"), rights.Text("space"), rights.Text("name"), rights.Text("xml")},
			}},
			Claims: []string{"dav_usage"},
		},
		{
			ID: "locks", Title: rights.Words{EN: "Locks", ZH: "锁定"},
			What: rights.Words{EN: "Files that an app locked while it edits them.", ZH: "应用编辑时锁定的文件。"},
			From: apps, Kept: rights.Words{EN: "Until the app ends the lock, or its time is over and you take another.", ZH: "直到应用解锁，或过期后再次锁定时移除。"},
			Fix: rights.Words{EN: "Close the file in the app.", ZH: "在应用中关闭文件。"}, Purposes: []string{"storage"},
			Erase: rights.Erase{Rows: true},
			Tables: []rights.Table{{
				Name: "dav_lock", Kind: "lock", Key: []string{"t.path", "t.token"}, Columns: []rights.Column{
					rights.Text("path"), rights.Flag("folder"), rights.Flag("infinite"), rights.Flag("shared"), rights.Text("owner"), rights.Time("expires")},
			}},
		},
	}}
}

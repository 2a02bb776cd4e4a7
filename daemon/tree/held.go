package tree

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	return rights.Holder{Package: "tree", Categories: []rights.Category{{
		ID: "view", Title: rights.Words{EN: "Readable view", ZH: "可读视图"},
		What: rights.Words{EN: "Your files once more under tree/ on the disk, with their names and folders, so that they can be read without the box's software; and where each lies.",
			ZH: "您的文件以原有名称和文件夹另外呈现在磁盘的 tree/ 下，不依赖盒子的软件也能读取；以及每个文件的位置。"},
		From: rights.Words{EN: "From your files.", ZH: "来自您的文件。"},
		Kept: rights.Words{EN: "It follows your files: what you delete leaves it first.", ZH: "与您的文件一致：您删除的内容会先从这里移除。"},
		Fix:  rights.Words{EN: "It follows your files.", ZH: "随您的文件更改。"}, Purposes: []string{"storage"},
		Tables: []rights.Table{{
			Name: "tree_file", Kind: "shown_file", Key: []string{"t.path"},
			Columns: []rights.Column{rights.ID("item"), rights.Text("path"), rights.Hash("sha256").Of("t.ref"), rights.Time("mtime")},
		}},
		Claims: []string{"tree_user"},
	}}}
}

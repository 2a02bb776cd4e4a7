package rights

// Place is where data of people lies, and what becomes of it there. The names are
// those of docs/format.md; a test compares them with what a box makes.
type Place struct {
	Name string // below the state directory, or a plain name for what lies outside of it
	// Outside means that it lies outside of the state directory.
	Outside bool
	What    Words // what is there of a person
	Ends    Words // when it goes
}

// Places returns every place, those without data of people included.
func Places() []Place {
	none := Words{"Nothing about people.", "没有个人数据。"}
	box := Words{"It belongs to the box.", "属于盒子本身。"}
	return []Place{
		{"VOLUME", false, none, box},
		{"LOCK", false, none, box},
		{"RECORDS", false, none, box},
		{"blobs", false,
			Words{"The contents of files, one file each, named by their hash. A content that several people keep is there once.", "文件内容，每份内容一个文件，以哈希命名；多人共有的同一内容只存一份。"},
			Words{"Removed by the next sweep, within the hour, after the last person who kept it deleted it for good.", "最后一个保存它的人彻底删除后，一小时内由清理程序移除。"}},
		{"staging", false,
			Words{"Uploads on their way.", "正在上传的数据。"},
			Words{"When the upload ends, when its consent is withdrawn, or after seven days without progress.", "上传结束后移除；撤回相应同意或七天没有进展也会移除。"}},
		{"intent", false,
			Words{"Small contents of the last seconds, until they are in blobs/.", "最近几秒收到的小文件内容，写入 blobs/ 前的暂存。"},
			Words{"Written over with zeros before a content is removed from blobs/.", "内容从 blobs/ 移除之前先被清零。"}},
		{"box.db", false,
			Words{"All records: everything that the categories of this view list.", "全部记录：即本页各类别所列的一切。"},
			Words{"With each record; see the categories.", "随每条记录删除，见各类别。"}},
		{"journal", false,
			Words{"Copies of box.db and the changes since, so that the records come back when the disk damages them.", "box.db 的副本与其后的更改，供记录损坏时恢复。"},
			Words{"Two copies are kept; an older one goes when a new one is made, at the latest after some weeks of use, and at once when you erase something.", "保留两份副本；生成新副本时移除更旧的一份；您删除数据时立即更新。"}},
		{"rebuild", false,
			Words{"A box.db while it is being made anew.", "正在重建的 box.db。"},
			Words{"When the rebuild ends.", "重建结束后移除。"}},
		{"damaged", false,
			Words{"Damaged records that a rebuild replaced.", "被重建替换下来的损坏记录。"},
			Words{"Whoever maintains the box removes it by hand.", "由维护盒子的人手动移除。"}},
		{"backup", false,
			Words{"A copy of box.db from before an update that changed its form.", "某次更新改变 box.db 结构之前留下的副本。"},
			Words{"Whoever maintains the box removes it by hand; it goes as well when an account is erased.", "由维护盒子的人手动移除；删除账户时也会一并移除。"}},
		{"tree", false,
			Words{"Everybody's files under their own names, a folder for each person.", "每个人的文件，以原有名称呈现，每人一个文件夹。"},
			Words{"A second or so after the trash or a deletion, and always before the content is removed from blobs/.", "放入回收站或删除后一秒左右移除，且总在 blobs/ 中的内容移除之前。"}},
		{"keys", false,
			Words{"Keys of the box, and those that your details are encrypted with. No password of a person.", "盒子的密钥，以及加密您个人资料的密钥；不含任何人的密码。"},
			Words{"Those of the box belong to it. Yours are destroyed with the account.", "盒子的密钥属于盒子；您的密钥随账户注销而销毁。"}},
		{"dedup", false,
			Words{"Fingerprints of files in folders that were looked through for duplicates, and the plans made of them.", "查找重复文件时留下的文件指纹与处理计划。"},
			Words{"When the consent to finding duplicates is withdrawn; plans that can be undone stay until then.", "撤回“查找重复文件”的同意时移除；在此之前保留可撤销的计划。"}},
		{"exports", false,
			Words{"The list of the files of an export that was asked for, not the files themselves.", "所请求的导出的文件清单，不含文件本身。"},
			Words{"After seven days, or when it is removed or another one is made.", "七天后移除；手动移除或生成新的导出时也会移除。"}},
		{"update", false, none, box},
		{"RESET", false, none, box},
		{"run", false, none, box},
		{"RESTORING", false, none, box},
		{"RESTORED", false, none, box},
		{"second copy", true,
			Words{"All of the box, encrypted, on another disk, if whoever runs the box made one.", "整个盒子的加密副本，位于另一块磁盘（如果管理者设置了）。"},
			Words{"A deletion reaches it with the second run after it: two states are kept.", "删除后再运行两次，副本中也随之删除（始终保留两个状态）。"}},
		{"watched folders", true,
			Words{"Folders of the box's own computer that it takes your files in from, if whoever runs the box added one for you.", "管理者为您设置的、盒子从本机收取文件的文件夹。"},
			Words{"The originals stay there, or lie in .yunbox-trash for as long as whoever runs the box leaves them.", "原文件留在原处，或放在 .yunbox-trash 中，由管理者处理。"}},
		{"log", true,
			Words{"No names, file names or addresses of people. Hashes of damaged contents.", "不含人名、文件名或个人地址；只有损坏内容的哈希。"},
			Words{"As long as the computer keeps its log.", "与本机日志的保留时间相同。"}},
	}
}

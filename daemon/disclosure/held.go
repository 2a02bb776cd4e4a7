package disclosure

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	columns := []rights.Column{
		rights.Text("seq"), rights.Time("time"), rights.Flag("everyone"), rights.Text("event").Of("t.kind"), rights.Text("recipient"), rights.Text("categories"),
		rights.Text("why"), rights.Text("basis"), rights.Text("authority"), rights.ID("actor"), rights.Text("object"), rights.Hash("hash"),
	}
	return rights.Holder{Package: "disclosure", Categories: []rights.Category{{
		ID: "disclosures", Title: rights.Words{EN: "What left the box", ZH: "流出记录"},
		What: rights.Words{EN: "Each time data of yours left the box: to whom, which kinds, why, and on whose authority. Second copies are about everybody.",
			ZH: "您的数据每次离开盒子的记录：给了谁、哪些种类、为何、依据谁的授权。第二副本涉及所有人。"},
		From:  rights.Words{EN: "From the box, before it happens.", ZH: "由盒子在发生之前记录。"},
		Kept:  rights.Words{EN: "As long as the box: each entry proves the ones before it. It has identifiers, no names.", ZH: "与盒子同存：每条记录证明前一条；只含编号，不含姓名。"},
		Fix:   rights.Words{EN: "Not at all: a record that can be changed proves nothing.", ZH: "不可更改：可更改的记录不能证明任何事。"},
		Erase: rights.Erase{Stays: rights.Words{EN: "Each entry proves the one before. It holds numbers and no names; nothing says whose they were once the account is gone.", ZH: "每条记录证明前一条。其中只有编号，没有姓名；账户删除后无从得知属于何人。"}},
		Tables: []rights.Table{
			{Name: "disclosure", Kind: "disclosure", Key: []string{"t.seq"}, Columns: columns},
			{Name: "disclosure", Kind: "disclosure_of_all", Where: "t.everyone = 1 AND t.time >= ifnull((SELECT created FROM user WHERE id = ?1), 9223372036854775807)", Key: []string{"t.seq"}, Columns: columns},
		},
	}}}
}

package audit

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	columns := []rights.Column{
		rights.Text("seq"), rights.Time("time"), rights.ID("actor"), rights.Text("action"), rights.ID("subject"), rights.Text("object"),
		rights.ID("device"), rights.Text("via"), rights.JSON("detail"), rights.Hash("hash"),
	}
	return rights.Holder{Package: "audit", Categories: []rights.Category{{
		ID: "record", Title: rights.Words{EN: "Record of acts", ZH: "操作记录"},
		What: rights.Words{EN: "Who did what on the box and when, where it was you or concerned you: sign-ins, wrong tries, devices, consents, administration. It protects you: nobody can change it unnoticed.",
			ZH: "谁在何时对盒子做了什么（由您所为或与您有关）：登录、错误尝试、设备、同意与管理操作。它保护您：任何人都无法暗中改动。"},
		From:  rights.Words{EN: "From the box, with each act.", ZH: "由盒子随每次操作记录。"},
		Kept:  rights.Words{EN: "As long as the box: each entry proves the ones before it. It has identifiers, no names.", ZH: "与盒子同存：每条记录证明前一条；只含编号，不含姓名。"},
		Fix:   rights.Words{EN: "Not at all: a record that can be changed proves nothing.", ZH: "不可更改：可更改的记录不能证明任何事。"},
		Erase: rights.Erase{Stays: rights.Words{EN: "Each entry proves the one before. It holds numbers and no names; nothing says whose they were once the account is gone.", ZH: "每条记录证明前一条。其中只有编号，没有姓名；账户删除后无从得知属于何人。"}},
		Tables: []rights.Table{
			{Name: "audit", Kind: "act", Where: "t.actor = +?1", Key: []string{"t.seq"}, Columns: columns},
			{Name: "audit", Kind: "act_of_others", Where: "t.subject = +?1 AND +t.actor <> +?1", Key: []string{"t.seq"}, Columns: columns},
		},
	}}}
}

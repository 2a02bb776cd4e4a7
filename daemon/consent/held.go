package consent

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	return rights.Holder{Package: "consent", Categories: []rights.Category{{
		ID: "consents", Title: rights.Words{EN: "Consents and receipts", ZH: "同意与凭证"},
		What:  rights.Words{EN: "Each decision that you made about a purpose, and the receipt that the box signed for it.", ZH: "您对每项用途作出的每次决定，以及盒子为之签名的凭证。"},
		From:  rights.Words{EN: "From you.", ZH: "由您作出。"},
		Kept:  rights.Words{EN: "As long as the box: it proves what was allowed when.", ZH: "与盒子同存：用以证明何时允许了什么。"},
		Fix:   rights.Words{EN: "By another decision, under Consents. What was decided stays on record.", ZH: "在“同意”页作出新的决定；已作的决定仍留有记录。"},
		Erase: rights.Erase{Stays: rights.Words{EN: "Decisions prove what was allowed when, and each proves the one before. They hold numbers and no names; nothing says whose they were once the account is gone.", ZH: "这些决定证明何时允许了什么，且每条证明前一条。其中只有编号，没有姓名；账户删除后无从得知属于何人。"}},
		Tables: []rights.Table{
			{Name: "consent_ledger", Kind: "decision", Key: []string{"t.purpose", "t.device", "t.seq"}, Columns: []rights.Column{
				rights.Text("seq"), rights.Time("time"), rights.Text("purpose"), rights.Text("purpose_version"), rights.ID("device"), rights.Flag("granted"),
				rights.Text("policy_revision"), rights.ID("actor"), rights.Text("how"), rights.Hash("hash")}},
			{Name: "consent_receipt", Kind: "receipt", From: "consent_ledger AS l CROSS JOIN consent_receipt AS t ON t.seq = l.seq", Where: "l.user = +?1",
				Key: []string{"l.purpose", "l.device", "l.seq"}, Columns: []rights.Column{rights.Text("seq"), rights.Text("jws")}},
		},
	}, {
		ID: "exceptions", Title: rights.Words{EN: "Used without asking you", ZH: "未经询问的使用"},
		What:  rights.Words{EN: "Each time that your data was used without your consent, by whom, and the clause of the policy that allows it.", ZH: "您的数据每次未经同意而被使用的记录：由谁使用，以及隐私政策中允许这样做的条款。"},
		From:  rights.Words{EN: "From the box, when it happens.", ZH: "由盒子在事情发生时记录。"},
		Kept:  rights.Words{EN: "As long as the account.", ZH: "与账户同存。"},
		Fix:   rights.Words{EN: "It says what happened.", ZH: "如实记录，不可更改。"},
		Erase: rights.Erase{Rows: true, Last: rights.Words{EN: "It tells you what was done with your data; it goes with the account.", ZH: "它告诉您数据被如何使用；随账户一同删除。"}},
		Tables: []rights.Table{{Name: "exception", Kind: "exception", Key: []string{"t.id"}, Columns: []rights.Column{
			rights.Time("time"), rights.Time("last"), rights.Text("times"), rights.Text("act"), rights.Text("clause"), rights.ID("actor"), rights.Text("via")}}},
	}}}
}

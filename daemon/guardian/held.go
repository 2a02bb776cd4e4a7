package guardian

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	byBox := rights.Words{EN: "From the box, when it happens.", ZH: "由盒子在事情发生时记录。"}
	fact := rights.Words{EN: "It says what happened.", ZH: "如实记录，不可更改。"}
	return rights.Holder{Package: "guardian", Categories: []rights.Category{
		{
			ID: "guardianship", Title: rights.Words{EN: "Guardian and child", ZH: "监护人与儿童"},
			What: rights.Words{EN: "If you are under 14: the month in which you turn 14 (nothing else of your birth), and who stands for you. If you are a guardian: for whom.",
				ZH: "如果您未满 14 周岁：您年满 14 周岁的月份（不记录其他出生信息）和您的监护人；如果您是监护人：您监护的儿童。"},
			From:  rights.Words{EN: "From whoever added the child's account, and from guardians when they accept.", ZH: "由添加儿童账户的人提供，监护人接受时记录。"},
			Kept:  rights.Words{EN: "Until the guardian steps down, or the child has turned 14 and agrees to the policy itself.", ZH: "直到监护人卸任，或儿童年满 14 周岁并自己同意政策。"},
			Erase: rights.Erase{Rows: true, Last: rights.Words{EN: "It says who decides for a child; it goes when the guardian steps down, or with the account.", ZH: "它说明由谁替儿童作决定；监护人卸任或账户注销时删除。"}},
			Fix:   rights.Words{EN: "A guardian: on the page Guardian. The month: whoever manages the box adds the account anew.", ZH: "监护人：在“监护”页更改；月份：由管理者重新添加账户。"},
			Tables: []rights.Table{
				{Name: "ward", Kind: "child", Key: []string{"t.user"}, Columns: []rights.Column{rights.Text("of_age"), rights.Time("alone"), rights.Time("grown")}},
				{Name: "guardian", Kind: "guardian", Where: "t.child = +?1", Key: []string{"t.guardian"}, Columns: []rights.Column{
					rights.ID("child"), rights.ID("guardian"), rights.Time("asked"), rights.Time("since")}},
				{Name: "guardian", Kind: "ward", Where: "t.guardian = +?1", Key: []string{"t.child"}, Columns: []rights.Column{
					rights.ID("child"), rights.ID("guardian"), rights.Time("asked"), rights.Time("since")}},
			},
		},
		{
			ID: "childrequests", Title: rights.Words{EN: "Requests to a guardian", ZH: "向监护人的请求"},
			What: rights.Words{EN: "What a child asked its guardian to agree to, and the answer.", ZH: "儿童请求监护人同意的内容及答复。"},
			From: rights.Words{EN: "From the child and the guardian.", ZH: "由儿童和监护人提供。"},
			Kept: rights.Words{EN: "The last 20 that were answered, and for as long as the child has a guardian.", ZH: "保留最近 20 条已答复的请求，且仅在儿童有监护人期间。"}, Fix: fact,
			Erase: rights.Erase{Rows: true, Last: rights.Words{EN: "It goes with the account of the child, or of whoever answered.", ZH: "随儿童或答复者的账户一同删除。"}},
			Tables: []rights.Table{
				{Name: "ward_request", Kind: "asked", Where: "t.child = +?1", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.Text("id"), rights.ID("child"), rights.Text("purpose"), rights.Time("asked"), rights.Text("answer"), rights.Time("answered"), rights.ID("actor")}},
				{Name: "ward_request", Kind: "answered", Where: "t.actor = +?1", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.Text("id"), rights.ID("child"), rights.Text("purpose"), rights.Text("answer"), rights.Time("answered")}},
			},
		},
		{
			ID: "childdeletions", Title: rights.Words{EN: "Deletions for want of consent", ZH: "因未获同意而删除"},
			What: rights.Words{EN: "What is to be deleted of a child because a consent ended, and when; and the signed receipts of what was.", ZH: "因同意终止而将删除的儿童数据及日期，以及已删除数据的签名凭证。"},
			From: byBox, Kept: rights.Words{EN: "What is to be deleted: until it is. Receipts: as long as the account.", ZH: "待删除的记录：直到删除；凭证：与账户同存。"}, Fix: fact,
			Erase: rights.Erase{Rows: true, Last: rights.Words{EN: "It orders a deletion, or proves one; it goes with the account.", ZH: "它安排或证明一次删除；随账户一同删除。"}},
			Tables: []rights.Table{
				{Name: "ward_erasure", Kind: "to_be_deleted", Where: "t.child = +?1", Key: []string{"t.purpose"}, Columns: []rights.Column{
					rights.ID("child"), rights.Text("purpose"), rights.ID("actor"), rights.Time("decided"), rights.Time("due"), rights.ID("asked_by"),
					rights.Time("begun"), rights.Text("files"), rights.Text("bytes")}},
				{Name: "ward_deletion", Kind: "deleted", Where: "t.child = +?1", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.Text("id"), rights.ID("child"), rights.Time("time"), rights.Text("jws")}},
			},
		},
	}}
}

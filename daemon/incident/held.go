package incident

import "yunbox.local/daemon/rights"

// Held says what this package keeps about people.
func Held() rights.Holder {
	text := []rights.Column{rights.Time("happened").Of("i.happened"), rights.Text("contact").Of("i.contact"), rights.JSON("text").Of("i.text")}
	return rights.Holder{Package: "incident", Categories: []rights.Category{{
		ID: "incidents", Title: rights.Words{EN: "Notices of incidents", ZH: "事件通知"},
		What: rights.Words{EN: "What you were told about incidents with personal data, how, and whether you have read it. Of who runs the box also what they wrote.",
			ZH: "就个人数据事件向您发出的通知、通知方式以及您是否已读；管理者还包括其所写的通知。"},
		From:  rights.Words{EN: "From whoever runs the box.", ZH: "由管理者提供。"},
		Kept:  rights.Words{EN: "As long as the account: it proves that you were told.", ZH: "与账户同存：用以证明已通知您。"},
		Fix:   rights.Words{EN: "It says what you were told; another notice corrects it.", ZH: "如实记录所作的通知；更正须另行通知。"},
		Erase: rights.Erase{Stays: rights.Words{EN: "That you were told goes with the account. The notice itself stays for the others; it has the number of whoever wrote it, and no name.", ZH: "“已通知您”的记录随账户删除；通知本身为其他人保留，其中只有撰写者的编号，没有姓名。"}},
		Tables: []rights.Table{
			{Name: "incident_person", Kind: "incident_notice", From: "incident_person AS t CROSS JOIN incident AS i ON i.id = t.incident", Key: []string{"t.incident"},
				Columns: append([]rights.Column{rights.ID("id").Of("t.incident"), rights.Time("seen"), rights.Text("mail"), rights.Text("tries"), rights.Time("due"), rights.Time("mailed")}, text...)},
			{Name: "incident", Kind: "incident", Where: "t.actor = +?1", Key: []string{"t.id"}, Columns: []rights.Column{
				rights.ID("id"), rights.ID("actor"), rights.Time("created"), rights.Time("changed"), rights.Time("happened"), rights.Text("contact"), rights.JSON("text"),
				rights.JSON("scope"), rights.Time("sent"), rights.Time("publish_due"), rights.Time("published"), rights.Time("ended")}},
		},
	}}}
}

package account

import (
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// Held says what this package keeps about people.
func (a *Accounts) Held() rights.Holder {
	// Whoever comes with what was deleted is a stranger from the commit on.
	signOut := func(tx *db.Tx, u ident.UserID) error {
		a.forget(tx, func(p ident.Principal) bool { return p.User == u })
		return nil
	}
	untilAccount := rights.Words{EN: "As long as the account.", ZH: "与账户同存。"}
	return rights.Holder{Package: "account", Categories: append([]rights.Category{
		{
			ID: "account", Title: rights.Words{EN: "Account", ZH: "账户"},
			What: rights.Words{EN: "Your name on the box, your role and your share of the disk; while the owner offers the box to somebody, that they do. Your password is kept as a hash that nobody can turn back; it is shown nowhere.",
				ZH: "您在盒子上的名字、角色和存储份额；主人正在转让盒子时，包括该转让。密码只保存不可还原的哈希，任何地方都不会显示。"},
			From: rights.Words{EN: "From you, or from whoever added you.", ZH: "由您或添加您的人提供。"}, Kept: untilAccount,
			Fix:   rights.Words{EN: "The name: Correct, at the record. The password: Account. Role and share: whoever manages the box.", ZH: "名字：在记录处点“更正”；密码：在“账户”中修改；角色和份额：由管理者修改。"},
			Erase: rights.Erase{Rows: true, After: signOut, Last: rights.Words{EN: "It is your account: cancel it to have it erased.", ZH: "这就是您的账户：如需删除请注销账户。"}},
			Tables: []rights.Table{
				{Name: "user", Kind: "account", Where: "t.id = +?1", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.ID("id"), rights.Text("username").Of("t.shown"), rights.Text("sign_in_name").Of("t.username"), rights.Text("role"),
					rights.Text("quota_bytes"), rights.Time("disabled"), rights.Time("created"), rights.Text("decline_deleted_days").Of("t.decline_days")}},
				{Name: "ownership_offer", Kind: "offer_of_the_box", Where: "t.user = +?1", Key: []string{"t.user"}, Columns: []rights.Column{
					rights.ID("from").Of("t.user"), rights.ID("to").Of("t.person"), rights.Time("asked"), rights.Time("due")}},
				{Name: "ownership_offer", Kind: "offer_of_the_box", Where: "t.person = +?1", Key: []string{"t.user"}, Columns: []rights.Column{
					rights.ID("from").Of("t.user"), rights.ID("to").Of("t.person"), rights.Time("asked"), rights.Time("due")}},
			},
		},
		{
			ID: "devices", Title: rights.Words{EN: "Devices", ZH: "设备"},
			What:  rights.Words{EN: "Phones, computers and cameras that send for you, by the name you gave them.", ZH: "为您上传的手机、电脑和相机，以您起的名字标识。"},
			From:  rights.Words{EN: "From your devices when they sign in.", ZH: "由设备在登录时提供。"},
			Kept:  rights.Words{EN: "Until you remove the device.", ZH: "直到您移除该设备。"},
			Fix:   rights.Words{EN: "The name: Correct, at the record, or Account → Devices.", ZH: "名称：在记录处点“更正”，或在“账户 → 设备”中修改。"},
			Erase: rights.Erase{Rows: true, After: signOut},
			Tables: []rights.Table{{
				Name: "device", Kind: "device", Key: []string{"t.id"},
				Columns: []rights.Column{rights.ID("id"), rights.Text("name"), rights.Text("type").Of("t.kind"), rights.Time("created"), rights.Time("last_seen")},
			}},
		},
		{
			ID: "sessions", Title: rights.Words{EN: "Sign-ins", ZH: "登录会话"},
			What:  rights.Words{EN: "Where you are signed in now: the time and, if it was said, the device. No address of the network.", ZH: "当前的登录：时间和（如已告知）设备，不含网络地址。"},
			From:  rights.Words{EN: "From the box, when you sign in.", ZH: "由盒子在您登录时记录。"},
			Kept:  rights.Words{EN: "Until you sign out, 30 days without use, or 180 days.", ZH: "直到退出登录；30 天未使用或满 180 天时移除。"},
			Fix:   rights.Words{EN: "They say what happened; signing out ends them.", ZH: "如实记录，不可更改；退出登录即结束。"},
			Erase: rights.Erase{Rows: true, After: signOut},
			Tables: []rights.Table{{
				Name: "session", Kind: "session", Key: []string{"t.last_seen", "t.id"},
				Columns: []rights.Column{rights.ID("device"), rights.Time("created"), rights.Time("last_seen"), rights.Time("expires")},
			}},
		},
		{
			ID: "tokens", Title: rights.Words{EN: "App passwords", ZH: "应用密码"},
			What:  rights.Words{EN: "Passwords of apps and cameras: their names and when they were used. The passwords themselves are kept as hashes only.", ZH: "应用和相机的密码：名称与使用时间；密码本身只保存哈希。"},
			From:  rights.Words{EN: "From you, when you made them.", ZH: "由您在创建时提供。"},
			Kept:  rights.Words{EN: "Until you revoke them or remove their device.", ZH: "直到您撤销它们或移除其设备。"},
			Fix:   rights.Words{EN: "The name: Correct, at the record. To revoke one: Account.", ZH: "名称：在记录处点“更正”；撤销：在“账户”中操作。"},
			Erase: rights.Erase{Rows: true, After: signOut},
			Tables: []rights.Table{
				{Name: "token", Kind: "app_password", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.ID("id"), rights.Text("name"), rights.Text("scope"), rights.ID("device"), rights.Time("created"), rights.Time("last_used")}},
				{Name: "camera_password", Kind: "camera_password", Key: []string{"t.id"}, Columns: []rights.Column{
					rights.ID("id"), rights.Text("name"), rights.ID("device"), rights.Time("created"), rights.Time("last_used")}},
			},
		},
		{
			ID: "second_factor", Title: rights.Words{EN: "Second factor", ZH: "两步验证"},
			What: rights.Words{EN: "That you sign in with a code as well, since when, and how many recovery codes are left. The secret of your app is kept encrypted, and codes as hashes; they are shown nowhere.",
				ZH: "您是否启用了验证码登录、何时启用，以及剩余多少恢复码。验证器密钥加密保存，恢复码只保存哈希，任何地方都不会显示。"},
			From:  rights.Words{EN: "From you, when you set it up.", ZH: "由您在设置时提供。"},
			Kept:  rights.Words{EN: "Until you switch it off. A recovery code until it is used.", ZH: "直到您关闭；恢复码使用后即删除。"},
			Fix:   rights.Words{EN: "Account → Protect your account.", ZH: "在“账户 → 保护您的账户”中修改。"},
			Erase: rights.Erase{Rows: true, After: func(tx *db.Tx, u ident.UserID) error { return a.notify(tx, u, NoticeFactorOff, 0) }},
			Tables: []rights.Table{
				{Name: "totp", Kind: "authenticator", Key: []string{"t.user"}, Columns: []rights.Column{rights.Time("since").Of("nullif(t.since, 0)"), rights.Time("begun").Of("nullif(t.begun, 0)")}},
				{Name: "recovery_code", Kind: "recovery_code", Key: []string{"t.hash"}},
			},
		},
		{
			ID: "links", Title: rights.Words{EN: "Accounts elsewhere", ZH: "第三方账号"},
			What: rights.Words{EN: "Accounts of other services that you connected to sign in with: which service, and your nickname or e-mail address there. Your id there is kept as a keyed hash only, the name encrypted; see Account.",
				ZH: "您绑定用于登录的第三方账号：哪个服务，以及您在那里的昵称或邮箱。账号标识只保存带密钥的哈希，名称加密保存；见“账户”。"},
			From: rights.Words{EN: "From the service, when you connected it.", ZH: "由该服务在您绑定时提供。"},
			Kept: rights.Words{EN: "Until you cut the connection or withdraw the consent.", ZH: "直到您解除绑定或撤回同意。"},
			Fix:  rights.Words{EN: "Cut the connection and connect again, under Account.", ZH: "在“账户”中解除后重新绑定。"}, Purposes: []string{"third_party_login"},
			Tables: []rights.Table{{
				Name: "link", Kind: "link", Key: []string{"t.service"},
				Columns: []rights.Column{rights.ID("id"), rights.Text("service"), rights.Time("created"), rights.Time("last_used")},
			}},
		},
		{
			ID: "notices", Title: rights.Words{EN: "News about your account", ZH: "账户动态"},
			What:  rights.Words{EN: "What you should know of: that somebody signed in on a new device, that your password or second factor changed.", ZH: "您应当知道的事：新设备登录、密码或两步验证的更改。"},
			From:  rights.Words{EN: "From the box, when it happens.", ZH: "由盒子在事情发生时记录。"},
			Kept:  rights.Words{EN: "Until you have seen it, 90 days at most.", ZH: "直到您看过为止，最长 90 天。"},
			Fix:   rights.Words{EN: "It says what happened.", ZH: "如实记录，不可更改。"},
			Erase: rights.Erase{Rows: true}, Period: &rights.Period{Table: "notice", Column: "time", Days: 90, Min: 7, Max: 90},
			Tables: []rights.Table{{
				Name: "notice", Kind: "notice", Key: []string{"t.id"},
				Columns: []rights.Column{rights.Time("time"), rights.Text("news").Of("t.kind"), rights.ID("device"), rights.Text("name")},
			}},
		},
	}, a.heldSealed()...)}
}

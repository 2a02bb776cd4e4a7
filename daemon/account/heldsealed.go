package account

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
	"yunbox.local/daemon/vault"
)

// heldSealed describes what lies in the vault.
func (a *Accounts) heldSealed() []rights.Category {
	profile := []rights.Column{rights.Text("detail").Of("t.field"), rights.Text("value").Of("t.sealed"), rights.Time("changed")}
	month := rights.Words{EN: "30 days.", ZH: "30 天。"}
	return []rights.Category{
		{
			ID: "profile", Title: rights.Words{EN: "More about you", ZH: "个人资料"},
			What: rights.Words{EN: "What you chose to tell: e-mail address, phone number, nickname, gender, city, a picture. It is kept encrypted under keys of your own, and shown masked until you ask for it.",
				ZH: "您自愿填写的邮箱、手机号、昵称、性别、城市和头像；用您专属的密钥加密保存，在您要求之前均以遮盖形式显示。"},
			From:     rights.Words{EN: "From you.", ZH: "由您提供。"},
			Kept:     rights.Words{EN: "Until you delete it, field by field, or withdraw the consent.", ZH: "直到您逐项删除或撤回同意。"},
			Fix:      rights.Words{EN: "More about you, on the page.", ZH: "在网页的“个人资料”中修改。"},
			Purposes: []string{"profile_details"},
			Erase:    rights.Erase{Rows: true, After: a.forgetIndexes},
			Tables: []rights.Table{
				{Name: "profile", Kind: "detail", Key: []string{"t.field"}, Columns: profile, Open: a.openProfileRecord},
				{Name: "profile_sensitive", Kind: "detail", Key: []string{"t.field"}, Columns: profile, Open: a.openProfileRecord},
			},
		},
		{
			ID: "device_details", Title: rights.Words{EN: "What your devices are", ZH: "设备信息"},
			What: rights.Words{EN: "What your devices say about themselves: model, system and app; only if you agreed to it, and kept encrypted.", ZH: "设备自报的型号、系统和应用；仅在您同意后记录，加密保存。"},
			From: rights.Words{EN: "From your devices.", ZH: "由您的设备提供。"},
			Kept: rights.Words{EN: "Until you remove the device or withdraw the consent.", ZH: "直到您移除该设备或撤回同意。"},
			Fix:  rights.Words{EN: "The device says it anew when it signs in.", ZH: "设备登录时会重新提供。"}, Purposes: []string{"device_info"}, Erase: rights.Erase{Rows: true},
			Tables: []rights.Table{{
				Name: "device_about", Kind: "device_details", Key: []string{"t.device"}, Open: a.openAboutRecord,
				Columns: []rights.Column{rights.ID("device"), rights.Text("details").Of("t.sealed"), rights.Time("changed")},
			}},
		},
		{
			ID: "sign_ins", Title: rights.Words{EN: "Security log", ZH: "安全日志"},
			What: rights.Words{EN: "From which address of the network you signed in, and from where somebody tried to with your name: so that you can tell whether somebody attacks your account. The address is kept encrypted.",
				ZH: "您从哪个网络地址登录，以及有人以您的名字尝试登录的地址，供您判断账户是否遭到攻击；地址加密保存。"},
			From: rights.Words{EN: "From the box, at each sign-in.", ZH: "由盒子在每次登录时记录。"}, Kept: month,
			Fix:   rights.Words{EN: "It says what happened.", ZH: "如实记录，不可更改。"},
			Erase: rights.Erase{Rows: true, Last: rights.Words{EN: "It shows whether somebody attacks your account, and goes by itself after 30 days.", ZH: "它显示账户是否遭到攻击，30 天后自动移除。"}},
			Tables: []rights.Table{{
				Name: "sign_in", Kind: "sign_in", From: "sign_in AS t CROSS JOIN audit AS l ON l.seq = t.entry", Key: []string{"t.id"}, Open: a.openSignInRecord,
				Columns: []rights.Column{rights.Time("time").Of("l.time"), rights.Text("outcome").Of("l.action"), rights.ID("device").Of("l.device"),
					rights.Text("address").Of("t.sealed"), rights.Time("until").Of("t.ends"), rights.Text("id"), rights.Text("why").Of("l.detail"), rights.Flag("own")},
			}},
		},
		{
			ID: "usage", Title: rights.Words{EN: "Usage log", ZH: "使用记录"},
			What: rights.Words{EN: "Which pages of the box you opened and when, with your browser, its language and your address of the network; only if you agreed to it, and kept encrypted.",
				ZH: "您打开过的网页与时间，以及浏览器、语言和网络地址；仅在您同意后记录，加密保存。"},
			From: rights.Words{EN: "From your browser.", ZH: "由您的浏览器提供。"},
			Kept: rights.Words{EN: "30 days, or until you delete it or withdraw the consent.", ZH: "30 天，或直到您删除或撤回同意。"},
			Fix:  rights.Words{EN: "It says what happened. You can delete it.", ZH: "如实记录；可以删除。"}, Purposes: []string{"usage_logs"},
			Erase: rights.Erase{Rows: true},
			Tables: []rights.Table{{
				Name: "usage_log", Kind: "use", Key: []string{"t.id"}, Open: a.openUseRecord,
				Columns: []rights.Column{rights.Time("time"), rights.Text("details").Of("t.sealed"), rights.Time("until").Of("t.ends"), rights.Text("id")},
			}},
		},
	}
}

// text is a field of a record as it was read.
func text(r *rights.Record, name string) string {
	for _, f := range r.Fields {
		if f.Name == name {
			s, _ := f.Value.(string)
			return s
		}
	}
	return ""
}

// put gives a field another value; nil takes it away.
func put(r *rights.Record, name string, value any) {
	for i := range r.Fields {
		if r.Fields[i].Name == name {
			r.Fields[i].Value = value
			return
		}
	}
	r.Fields = append(r.Fields, rights.Field{Name: name, Value: value})
}

const unreadableText = "(no key opens it any more)"

func (a *Accounts) openProfileRecord(ctx context.Context, u ident.UserID, r *rights.Record) error {
	d := Detail(text(r, "detail"))
	value, err := a.vault.Open(u, d.column(), string(d), []byte(text(r, "value")))
	switch {
	case unreadable(err):
		put(r, "value", unreadableText)
	case err != nil:
		return err
	case d == avatar && rights.IsWhole(ctx):
		put(r, "value", "data:image/jpeg;base64,"+base64.StdEncoding.EncodeToString(value))
	case d == avatar:
		put(r, "value", nil)
		put(r, "bytes", int64(len(value)))
	case rights.IsWhole(ctx):
		put(r, "value", string(value))
	default:
		put(r, "value", d.masked(string(value)).String())
	}
	return nil
}

func (a *Accounts) openAboutRecord(_ context.Context, u ident.UserID, r *rights.Record) error {
	id, err := ident.Parse[ident.DeviceID](text(r, "device"))
	if err != nil {
		return err
	}
	plain, err := a.vault.Open(u, aboutColumn(), rowOf(id), []byte(text(r, "details")))
	put(r, "details", nil)
	var about About
	if err == nil {
		err = json.Unmarshal(plain, &about)
	}
	if unreadable(err) {
		put(r, "model", unreadableText)
		return nil
	}
	for name, v := range map[string]string{"model": about.Model, "system": about.System, "app": about.App} {
		if v != "" {
			put(r, name, v)
		}
	}
	return err
}

// address is how a record shows one.
func address(ctx context.Context, plain string) any {
	switch {
	case plain == "":
		return nil
	case rights.IsWhole(ctx):
		return plain
	}
	return vault.NewAddress(plain).String()
}

func (a *Accounts) openSignInRecord(ctx context.Context, u ident.UserID, r *rights.Record) error {
	put(r, "outcome", outcomeOf(text(r, "outcome"), text(r, "why")))
	put(r, "why", nil)
	id, own := number(r, "id"), false
	for _, f := range r.Fields {
		if f.Name == "own" {
			own, _ = f.Value.(bool)
		}
	}
	put(r, "id", nil)
	put(r, "own", nil)
	sealed := text(r, "address")
	if sealed == "" {
		return nil
	}
	if !own {
		u = 0
	}
	plain, err := a.vault.Open(u, signInColumn(), strconv.FormatInt(id, 10), []byte(sealed))
	if unreadable(err) {
		put(r, "address", unreadableText)
		return nil
	}
	put(r, "address", address(ctx, string(plain)))
	return err
}

func number(r *rights.Record, name string) int64 {
	for _, f := range r.Fields {
		if f.Name == name {
			n, _ := f.Value.(int64)
			return n
		}
	}
	return 0
}

func (a *Accounts) openUseRecord(ctx context.Context, u ident.UserID, r *rights.Record) error {
	use, err := a.openUse(u, number(r, "id"), []byte(text(r, "details")))
	put(r, "details", nil)
	put(r, "id", nil)
	if unreadable(err) {
		put(r, "page", unreadableText)
		return nil
	}
	put(r, "page", use.Page)
	for name, v := range map[string]string{"browser": use.Browser, "language": use.Language} {
		if v != "" {
			put(r, name, v)
		}
	}
	put(r, "address", address(ctx, use.Address))
	return err
}

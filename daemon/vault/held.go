package vault

import (
	"context"

	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// Held says what this package keeps about people.
func (v *Vault) Held() rights.Holder {
	return rights.Holder{Package: "vault", Categories: []rights.Category{{
		ID: "keys", Title: rights.Words{EN: "Keys of your own", ZH: "您的专属密钥"},
		What: rights.Words{EN: "Two keys that only your personal details are encrypted with, and fingerprints by which an e-mail address or phone number that somebody types is compared with yours. They are shown nowhere.",
			ZH: "只用于加密您个人资料的两把密钥，以及用来比对他人输入的邮箱或手机号是否属于您的指纹；任何地方都不会显示。"},
		From:   rights.Words{EN: "From the box, when you first tell it something about yourself, or sign in.", ZH: "由盒子在您首次填写资料或登录时生成。"},
		Kept:   rights.Words{EN: "As long as the account. They are destroyed with it, and what they encrypted can be read by nobody then, wherever a copy of it is.", ZH: "与账户同存；注销时销毁，此后任何副本中由其加密的内容都无法再读。"},
		Fix:    rights.Words{EN: "There is nothing to correct. Whoever runs the box can have them changed.", ZH: "无可更正之处；管理者可以更换密钥。"},
		Claims: []string{"vault_index"},
		Erase: rights.Erase{
			Step: func(context.Context, ident.UserID, rights.Which, int) (int, error) { return 0, nil }, // Destroy, after the account
			Last: rights.Words{EN: "Without them nothing that you told could be read. They are destroyed with the account.", ZH: "没有它们，您填写的内容将无法读取；随账户一同销毁。"},
		},
		Files: func(_ context.Context, u ident.UserID) ([]rights.Record, error) {
			if has, err := v.HasKeys(u); err != nil || !has {
				return nil, err
			}
			return []rights.Record{{Kind: "keys", Fields: []rights.Field{{Name: "name", Value: nameOf(u)}}}}, nil
		},
	}}}
}

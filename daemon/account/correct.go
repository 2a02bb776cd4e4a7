package account

import (
	"context"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// Rename gives the person of p another user name, which they sign in with from then on.
// Their sessions and app tokens go on; a program that says the name with its token must
// be told the new one. The name before is in no file any more when Options.Erased is done
// with it; so it is with every name that is corrected.
func (a *Accounts) Rename(ctx context.Context, p ident.Principal, name string) error {
	const op = "account.rename"
	if err := full(p, op); err != nil {
		return err
	}
	shown, folded, err := Username(name)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		var taken bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM user WHERE username = ? AND id <> ?)`, folded, int64(p.User)).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return &problem.Error{Kind: problem.Conflict, Op: op,
				Title: "That user name is taken", Detail: "Somebody on this box has that name already; capitals make no difference.",
				Hint: "Choose another name."}
		}
		res, err := tx.Exec(`UPDATE user SET username = ?, shown = ? WHERE id = ? AND shown <> ?`, folded, shown, int64(p.User), shown)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err // it is so already
		}
		if err := a.erased(tx, p.User, "account"); err != nil {
			return err
		}
		tx.AfterCommit(func() { a.cache.forget(func(q ident.Principal) bool { return q.User == p.User }) })
		return a.log.Append(tx, As(p, viaHTTP).event("user.rename", p.User))
	})
}

// RenameToken gives one of the person's app tokens another name. What a camera sends
// lies in a folder of that name from then on.
func (a *Accounts) RenameToken(ctx context.Context, p ident.Principal, id TokenID, name string) error {
	const op = "account.rename_token"
	if err := full(p, op); err != nil {
		return err
	}
	name, err := displayName(op, "app token", name)
	if err != nil {
		return err
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		found := false
		for _, table := range []string{"token", "camera_password"} {
			var before string
			err := tx.QueryRow(`SELECT name FROM `+table+` WHERE id = ? AND user = ?`, int64(id), int64(p.User)).Scan(&before)
			if isNoRows(err) {
				continue
			}
			if found = true; err != nil || before == name {
				return err
			}
			if _, err := tx.Exec(`UPDATE `+table+` SET name = ? WHERE id = ? AND user = ?`, name, int64(id), int64(p.User)); err != nil {
				return err
			}
		}
		if !found {
			return notFound(op, "app token")
		}
		if err := a.erased(tx, p.User, "tokens"); err != nil {
			return err
		}
		e := As(p, viaHTTP).event("token.rename", p.User)
		e.Object = id.String()
		return a.log.Append(tx, e)
	})
}

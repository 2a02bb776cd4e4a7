package api

import (
	"context"

	"yunbox.local/daemon/account"
	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
)

// registerCorrections adds what corrects a person's data where nothing else does.
func (a *API) registerCorrections() {
	register(a, route{
		Method: "PUT", Path: "/v1/me/username", ID: "rename-me", Tag: "rights",
		Summary:     "Correct the asker's user name",
		Description: "They sign in with it from then on. Sessions and app tokens go on; programs that say the name with their token must be told the new one.",
	}, httpd.SignedIn, func(ctx context.Context, in *renameMeInput) (*struct{}, error) {
		return nil, a.accounts.Rename(ctx, principal(ctx), in.Body.Username)
	})
	register(a, route{
		Method: "PATCH", Path: "/v1/tokens/{id}", ID: "rename-token", Tag: "account",
		Summary:     "Give an app token another name",
		Description: "What a camera sends with its password lies in a folder of that name from then on.",
	}, httpd.SignedIn, func(ctx context.Context, in *renameTokenInput) (*struct{}, error) {
		return nil, a.accounts.RenameToken(ctx, principal(ctx), in.ID.ID, in.Body.Name)
	})
	register(a, route{
		Method: "PATCH", Path: "/v1/items/{id}", ID: "change-item", Tag: "files",
		Summary:     "Correct a file's name, folder or time",
		Description: "A name that is taken is refused with 409: nothing is ever replaced by that.",
	}, httpd.Files, a.changeItem)
}

type renameMeInput struct {
	Body struct {
		Username string `json:"username" maxLength:"1024"`
	} `nameHint:"NewUsername"`
}

type renameTokenInput struct {
	ID   idParam[account.TokenID] `path:"id"`
	Body struct {
		Name string `json:"name" maxLength:"256"`
	} `nameHint:"TokenName"`
}

type changeItemInput struct {
	ID   idParam[ident.ItemID] `path:"id"`
	Body struct {
		Path  *string `json:"path,omitempty" maxLength:"8192" doc:"The whole path; folders are made as needed"`
		MTime *string `json:"mtime,omitempty" maxLength:"64" doc:"Modification time: RFC 3339 or Unix seconds, 1970 to 2106"`
	} `nameHint:"ItemChange"`
}

// changeItem changes all that is asked for, or nothing.
func (a *API) changeItem(ctx context.Context, in *changeItemInput) (out *itemAnswer, err error) {
	u, id := principal(ctx).User, in.ID.ID
	var to string
	if in.Body.Path != nil {
		if to, err = catalog.CleanPath(*in.Body.Path); err != nil {
			return nil, err
		}
	}
	err = a.db.Write(ctx, func(tx *db.Tx) error {
		if to != "" {
			if _, err := a.catalog.MoveIn(tx, u, id, to); err != nil {
				return err
			}
		}
		if in.Body.MTime == nil {
			return nil
		}
		at, err := ingest.ParseMTime(*in.Body.MTime)
		if err != nil {
			return err
		}
		return a.catalog.SetMTimeIn(tx, u, id, at)
	})
	if err != nil {
		return nil, err
	}
	return a.item(ctx, &itemInput{ID: in.ID})
}

package webdav

import (
	"context"
	"net/http"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// mkcol answers MKCOL (RFC 4918 §9.3). The name of a folder is the person's, too:
// it needs the consent that a file there would need.
func (h *Handler) mkcol(v *visit) error {
	if v.r.ContentLength != 0 {
		return &problem.Error{
			Kind: problem.UnsupportedMedia, Op: "webdav.mkcol", Title: "A folder is made without a body",
			Detail: "The box knows no kinds of folders that a body could ask for.", Hint: "Send MKCOL without one.",
		}
	}
	meta, err := metaOf(v, v.path+"/")
	if err != nil {
		return err
	}
	grant, err := h.consent.GrantFor(v.r.Context(), v.who.User, meta.Device, meta.Source)
	if err != nil {
		return err
	}
	err = h.db.Write(v.r.Context(), func(tx *db.Tx) error {
		res, err := h.find(tx, v.who.User, v.path)
		if err != nil {
			return err
		}
		if res.kind != missing {
			return notAllowed(v.w, "There is a file or folder of that name already.", "Choose another name.")
		}
		if err := h.around(tx, v.who.User, v.path); err != nil {
			return err
		}
		if err := h.holds(tx, v, res); err != nil {
			return err
		}
		if err := h.unlocked(tx, v, v.path, members); err != nil {
			return err
		}
		if err := grant.Check(tx, grant.Purpose()); err != nil {
			return err
		}
		made, err := h.catalog.MakeFolderIn(tx, v.who.User, v.path)
		if err != nil || v.sent == v.path {
			return err
		}
		return keepSpelling(tx, v.who.User, holder{folder: made.ID}, catalog.Base(v.path), v.sent)
	})
	if err != nil {
		return err
	}
	v.w.WriteHeader(http.StatusCreated)
	return nil
}

// delete answers DELETE (RFC 4918 §9.6): what is deleted lies in the trash.
func (h *Handler) delete(v *visit) error {
	if v.path == "" {
		return notTheRoot()
	}
	var res resource
	err := h.db.Write(v.r.Context(), func(tx *db.Tx) (err error) {
		if res, err = h.must(tx, v); err != nil {
			return err
		}
		if res.kind == folder {
			if _, err := depth(v.r, "infinity"); err != nil {
				return err
			}
		}
		if err := h.holds(tx, v, res); err != nil {
			return err
		}
		if err := h.unlocked(tx, v, v.path, itself|inside|members); err != nil {
			return err
		}
		if res.kind == folder {
			return nil // part by part, see below
		}
		if err := h.catalog.TrashIn(tx, v.who.User, res.item.ID); err != nil {
			return err
		}
		return dropLocksIn(tx, v.who.User, v.path)
	})
	if err == nil && res.kind == folder {
		err = h.deleteFolder(context.WithoutCancel(v.r.Context()), v.who.User, v.path)
	}
	if err != nil {
		return err
	}
	v.w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteFolder moves a folder to the trash and ends the locks in it.
func (h *Handler) deleteFolder(ctx context.Context, u ident.UserID, path string) error {
	if err := h.catalog.TrashFolder(ctx, u, path); err != nil {
		return err
	}
	return h.db.Write(ctx, func(tx *db.Tx) error { return dropLocksIn(tx, u, path) })
}

func notTheRoot() error {
	return &problem.Error{
		Kind: problem.Forbidden, Op: "webdav.root", Title: "That cannot be done with the whole of your files",
		Detail: "The address names the folder that holds them all.", Hint: "Name a file or folder in it.",
	}
}

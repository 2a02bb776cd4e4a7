package webdav

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/problem"
)

// copyAtOnce is how many entries one transaction of a copy makes, so that a large
// folder does not keep uploads waiting.
const copyAtOnce = 200

// A transfer is a COPY or MOVE.
type transfer struct {
	*visit
	to        string
	sent      string // to as its client wrote it
	move      bool
	deep      bool // with all that is in the folder
	overwrite bool
}

// transfer answers COPY and MOVE (RFC 4918 §9.8, §9.9). A copy shares its content
// with the original and costs no bytes; what is overwritten is kept, in the trash
// or as a version.
func (h *Handler) transfer(v *visit, move bool) error {
	t, err := newTransfer(v, move)
	if err != nil {
		return err
	}
	var from, to resource
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) (err error) {
		from, to, err = h.mayTransfer(tx, t, true)
		return err
	})
	if err != nil {
		return err
	}
	replaced := to.kind != missing
	ctx := context.WithoutCancel(v.r.Context()) // half of it helps nobody, also if the client is gone
	if from.kind == folder && !move && t.deep {
		if err := h.roomForCopy(ctx, t); err != nil {
			return err
		}
	}
	if to.kind == folder {
		if err := h.deleteFolder(ctx, v.who.User, t.to); err != nil {
			return err
		}
	}
	asBefore := to.kind != folder // else the conditions may have spoken of what is gone by now
	err = h.db.Write(ctx, func(tx *db.Tx) (err error) {
		if from, to, err = h.mayTransfer(tx, t, asBefore); err != nil {
			return err
		}
		replaced = replaced || to.kind != missing
		return h.begin(tx, t, from, to)
	})
	if err == nil && from.kind == folder && !move && t.deep {
		err = h.copyTree(ctx, t)
	}
	if err != nil {
		return err
	}
	if replaced {
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	v.w.Header().Set("Location", hrefOf(v.mount.Prefix, t.to, from.kind == folder))
	v.w.WriteHeader(http.StatusCreated)
	return nil
}

// newTransfer reads the headers, and refuses places that nothing can go to.
func newTransfer(v *visit, move bool) (*transfer, error) {
	t := &transfer{visit: v, move: move, overwrite: true}
	destination := v.r.Header.Get("Destination")
	if destination == "" {
		return nil, &problem.Error{
			Kind: problem.Invalid, Op: "webdav.transfer", Title: "The destination is missing", Hint: "Send it in the header Destination.",
		}
	}
	var err error
	if t.to, err = v.pathOn(destination); err != nil {
		return nil, err
	}
	if u, err := url.Parse(destination); err == nil {
		t.sent = sentPath(u, v.mount.Prefix)
	}
	switch o := strings.TrimSpace(v.r.Header.Get("Overwrite")); {
	case strings.EqualFold(o, "F"):
		t.overwrite = false
	case o != "" && !strings.EqualFold(o, "T"):
		return nil, &problem.Error{
			Kind: problem.Invalid, Op: "webdav.transfer", Title: "The Overwrite header is neither T nor F", Hint: "Send one of them.",
		}
	}
	may := []string{"infinity", "0"}
	if move {
		may = may[:1]
	}
	d, err := depth(v.r, may...)
	if err != nil {
		return nil, err
	}
	t.deep = d == "infinity"
	if v.path == "" && t.deep || t.to == "" {
		return nil, notTheRoot()
	}
	return t, nil
}

// mayTransfer decides all that can be decided from the records, the conditions of
// the request only on demand. It returns what is at both ends.
func (h *Handler) mayTransfer(tx *db.Tx, t *transfer, conditions bool) (from, to resource, err error) {
	u := t.who.User
	if from, err = h.must(tx, t.visit); err != nil {
		return from, to, err
	}
	if conditions {
		if err := h.holds(tx, t.visit, from); err != nil {
			return from, to, err
		}
	}
	if t.to == t.path || within(t.path, t.to) || from.kind == folder && t.deep && within(t.to, t.path) {
		return from, to, &problem.Error{
			Kind: problem.Forbidden, Op: "webdav.transfer", Title: "Nothing can be moved or copied there",
			Detail: "One of the two places is the other or lies in it.", Hint: "Choose another place.",
		}
	}
	if err := h.around(tx, u, t.to); err != nil {
		return from, to, err
	}
	if to, err = h.find(tx, u, t.to); err != nil {
		return from, to, err
	}
	if to.kind != missing && !t.overwrite {
		return from, to, preconditionFailed("There is a file or folder of that name already.", "Take another name, or send Overwrite: T.")
	}
	if t.move {
		if err := h.unlocked(tx, t.visit, t.path, itself|inside|members); err != nil {
			return from, to, err
		}
	}
	scope := itself | inside
	if to.kind == missing {
		scope |= members
	}
	return from, to, h.unlocked(tx, t.visit, t.to, scope)
}

// begin does all of a transfer except for what is in a copied folder.
func (h *Handler) begin(tx *db.Tx, t *transfer, from, to resource) error {
	u := t.who.User
	if to.kind == folder { // made anew since it was moved to the trash
		return &problem.Error{
			Kind: problem.Conflict, Op: "webdav.transfer", Title: "The destination changes while it is replaced",
			Detail: "Something else made a folder of that name just now.", Hint: "Try again.",
		}
	}
	if to.kind == file && (t.move || from.kind == folder) {
		if err := h.catalog.TrashIn(tx, u, to.item.ID); err != nil {
			return err
		}
	}
	switch {
	case t.move && from.kind == file:
		if _, err := h.catalog.MoveIn(tx, u, from.item.ID, t.to); err != nil {
			return err
		}
		if err := keepSpelling(tx, u, from.holder(), catalog.Base(t.to), t.sent); err != nil {
			return err
		}
		return dropLocksIn(tx, u, t.path)
	case t.move:
		if err := h.catalog.MoveFolderIn(tx, u, t.path, t.to); err != nil {
			return err
		}
		if err := keepSpelling(tx, u, from.holder(), catalog.Base(t.to), t.sent); err != nil {
			return err
		}
		return dropLocksIn(tx, u, t.path)
	case from.kind == file:
		return h.copyFile(tx, t, from.item, t.to, t.sent)
	}
	return h.copyFolder(tx, t, from.folder, t.to, t.sent)
}

// copyFile copies item. sent is how its name was written, "": as that of item.
func (h *Handler) copyFile(tx *db.Tx, t *transfer, item catalog.Item, to, sent string) error {
	added, err := h.catalog.CopyIn(tx, t.who.User, item.ID, to, t.who.Device)
	if err != nil {
		return err
	}
	err = copyProperties(tx, t.who.User, holder{item: item.ID}, holder{item: added.Item.ID})
	if err != nil || sent == "" {
		return err
	}
	return keepSpelling(tx, t.who.User, holder{item: added.Item.ID}, added.Item.Name, sent)
}

func (h *Handler) copyFolder(tx *db.Tx, t *transfer, f catalog.Folder, to, sent string) error {
	made, err := h.catalog.MakeFolderIn(tx, t.who.User, to)
	if err != nil {
		return err
	}
	err = copyProperties(tx, t.who.User, holder{folder: f.ID}, holder{folder: made.ID})
	if err != nil || sent == "" {
		return err
	}
	return keepSpelling(tx, t.who.User, holder{folder: made.ID}, catalog.Base(to), sent)
}

// roomForCopy refuses a copy that the person's share has no room for before it
// begins: half a copy helps nobody.
func (h *Handler) roomForCopy(ctx context.Context, t *transfer) error {
	_, bytes, err := h.catalog.TreeSize(ctx, t.who.User, t.path)
	if err != nil {
		return err
	}
	usage, err := h.catalog.Usage(ctx, t.who.User)
	if err != nil {
		return err
	}
	return usage.Room(bytes)
}

// copyTree copies what is in a folder, in parts: first the folders, then the files.
func (h *Handler) copyTree(ctx context.Context, t *transfer) error {
	there := func(path string) (string, error) { return catalog.CleanPath(t.to + path[len(t.path):]) }
	for after := ""; ; {
		folders, err := h.catalog.FoldersBelow(ctx, t.who.User, t.path, after, copyAtOnce)
		if err != nil {
			return err
		}
		if len(folders) == 0 {
			break
		}
		after = folders[len(folders)-1].Path
		err = h.db.Write(ctx, func(tx *db.Tx) error {
			for _, f := range folders {
				to, err := there(f.Path)
				if err == nil {
					err = h.copyFolder(tx, t, f, to, "")
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	q := catalog.Query{Folder: t.path, Recursive: true, Limit: copyAtOnce}
	for {
		page, err := h.catalog.List(ctx, t.who.User, q)
		if err != nil {
			return err
		}
		err = h.db.Write(ctx, func(tx *db.Tx) error {
			for _, item := range page.Items {
				to, err := there(item.Path)
				if err == nil {
					err = h.copyFile(tx, t, item, to, "")
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
}

package immich

import (
	"encoding/json"
	"net/http"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
)

// albumsFolder holds a folder for each album.
const albumsFolder = "Albums"

// slash stands for a slash in the name of an album, which cannot be one in the
// name of a folder. Programs that make an album of nested folders use slashes.
const slash = "／"

func albumPath(name string) (string, error) {
	p := albumsFolder + "/" + strings.ReplaceAll(name, "/", slash)
	if name == "" {
		p = "" // refused in words
	}
	return catalog.CleanPath(p)
}

func albumName(folder string) string { return strings.ReplaceAll(folder, slash, "/") }

// An album is a folder as the protocol describes it.
type album struct {
	ID          string  `json:"id"`
	Name        string  `json:"albumName"`
	Description string  `json:"description"`
	OwnerID     string  `json:"ownerId"`
	AssetCount  int64   `json:"assetCount"`
	CreatedAt   moment  `json:"createdAt"` // the box knows when a folder changed last, not when it was made
	UpdatedAt   moment  `json:"updatedAt"`
	Thumbnail   *string `json:"albumThumbnailAssetId"`
	Shared      bool    `json:"shared"`
	HasLink     bool    `json:"hasSharedLink"`
	IsActive    bool    `json:"isActivityEnabled"`
	AlbumUsers  []any   `json:"albumUsers"`
}

func (h *Handler) describeAlbums(v *visit, folders []catalog.Folder) ([]album, error) {
	counts, err := h.catalog.Counts(v.r.Context(), v.who.User, folders)
	if err != nil {
		return nil, err
	}
	list := make([]album, len(folders))
	for i, f := range folders {
		list[i] = album{
			ID: uuid(ofFolder, f.ID), Name: albumName(f.Name), OwnerID: uuid(ofUser, int64(v.who.User)), AssetCount: counts[i],
			CreatedAt: moment(f.Changed), UpdatedAt: moment(f.Changed), AlbumUsers: []any{},
		}
	}
	return list, nil
}

// albums lists the person's albums. None is shared.
func (h *Handler) albums(v *visit) error {
	query := v.r.URL.Query()
	if query.Get("assetId") != "" {
		return &problem.Error{
			Kind: problem.Unsupported, Op: "immich.albums", Title: "The box cannot list the albums of an asset",
			Hint: "Ask for all albums.",
		}
	}
	list := []album{}
	cursor := ""
	for shared := query.Get("shared") == "true" || query.Get("isShared") == "true"; !shared; {
		page, err := h.catalog.List(v.r.Context(), v.who.User, catalog.Query{Folder: albumsFolder, Limit: catalog.MaxLimit, Cursor: cursor})
		if problem.KindOf(err) == problem.NotFound && cursor == "" {
			break // no album was made yet
		}
		if err != nil {
			return err
		}
		some, err := h.describeAlbums(v, page.Folders)
		if err != nil {
			return err
		}
		list = append(list, some...)
		if cursor = page.Next; cursor == "" || len(page.Items) > 0 {
			break // folders come first
		}
	}
	return v.answer(http.StatusOK, list)
}

// findAlbum finds the album that the address names. One whose folder was moved out
// of Albums is none any more.
func (h *Handler) findAlbum(v *visit) (catalog.Folder, error) {
	id, ok := fromUUID(ofFolder, v.r.PathValue("id"))
	if !ok {
		return catalog.Folder{}, notFound("album")
	}
	f, err := h.catalog.FolderByID(v.r.Context(), v.who.User, id)
	if err == nil && f.Path != albumsFolder+"/"+f.Name {
		err = notFound("album")
	}
	return f, err
}

func (h *Handler) album(v *visit) error {
	f, err := h.findAlbum(v)
	if err != nil {
		return err
	}
	list, err := h.describeAlbums(v, []catalog.Folder{f})
	if err != nil {
		return err
	}
	if v.r.URL.Query().Get("withoutAssets") != "false" {
		return v.answer(http.StatusOK, list[0])
	}
	return h.albumWithAssets(v, f, list[0])
}

// albumWithAssets writes an album and all that is in it page by page, however much
// that is.
func (h *Handler) albumWithAssets(v *visit, f catalog.Folder, about album) error {
	head, err := json.Marshal(about)
	if err != nil {
		return err
	}
	more := append(head[:len(head)-1], `,"assets":[`...) // what comes before the next asset
	began := false
	for cursor := ""; ; {
		page, err := h.catalog.List(v.r.Context(), v.who.User, catalog.Query{Folder: f.Path, Limit: catalog.MaxLimit, Cursor: cursor})
		if err != nil {
			return err // if the answer has begun, it is cut off
		}
		assets, err := h.assets(v, page.Items)
		if err != nil {
			return err
		}
		for _, a := range assets {
			b, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if !began {
				v.w.Header().Set("Content-Type", "application/json")
				v.w.Header().Set("Cache-Control", "no-store")
			}
			if _, err := v.w.Write(append(more, b...)); err != nil {
				return nil // the client is gone
			}
			more, began = append(more[:0], ','), true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if !began {
		v.w.Header().Set("Content-Type", "application/json")
		v.w.Header().Set("Cache-Control", "no-store")
	} else {
		more = more[:0]
	}
	_, _ = v.w.Write(append(more, "]}\n"...)) // fails only if the client is gone
	return nil
}

// makeAlbum makes an album, or finds the one that has the name already: it is a
// folder, and two of them cannot have one name.
func (h *Handler) makeAlbum(v *visit) error {
	var in struct {
		Name   string   `json:"albumName"`
		Assets []string `json:"assetIds"`
	}
	if err := v.ask(&in); err != nil {
		return err
	}
	p, err := albumPath(in.Name)
	if err != nil {
		return err
	}
	if err := h.anyConsent(v); err != nil { // its name is the person's, too
		return err
	}
	f, err := h.catalog.MakeFolder(v.r.Context(), v.who.User, p)
	if err != nil {
		return err
	}
	if _, err := h.addAssets(v, f, in.Assets); err != nil {
		return err
	}
	if f, err = h.catalog.Folder(v.r.Context(), v.who.User, p); err != nil {
		return err
	}
	list, err := h.describeAlbums(v, []catalog.Folder{f})
	if err != nil {
		return err
	}
	list[0].Name = in.Name // programs look for the spelling that they sent
	return v.answer(http.StatusCreated, list[0])
}

// addToAlbum gives assets a further name in an album.
func (h *Handler) addToAlbum(v *visit) error {
	f, err := h.findAlbum(v)
	if err != nil {
		return err
	}
	var in struct {
		IDs []string `json:"ids"`
	}
	if err := v.ask(&in); err != nil {
		return err
	}
	results, err := h.addAssets(v, f, in.IDs)
	if err != nil {
		return err
	}
	return v.answer(http.StatusOK, results)
}

// added is what became of one asset.
type added struct {
	ID      string `json:"id"`
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"` // duplicate, not_found, unknown
}

// atOnce is how many names one transaction gives: others wait for it.
const atOnce = 100

func (h *Handler) addAssets(v *visit, f catalog.Folder, ids []string) ([]added, error) {
	results := make([]added, len(ids))
	for begin := 0; begin < len(ids); begin += atOnce {
		end := min(begin+atOnce, len(ids))
		err := h.db.Write(v.r.Context(), func(tx *db.Tx) error {
			for i := begin; i < end; i++ {
				results[i] = added{ID: ids[i]}
				err := tx.Savepoint(func() error { return h.addAsset(tx, v, f, &results[i]) })
				switch problem.KindOf(err) {
				case "":
				case problem.NotFound, problem.Conflict: // it is gone, or in the trash, by now
					results[i].Error = "not_found"
				default:
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err // what was added before stays; sending the ids again harms nothing
		}
	}
	return results, nil
}

func (h *Handler) addAsset(tx *db.Tx, v *visit, f catalog.Folder, r *added) error {
	id, ok := fromUUID(ofItem, r.ID)
	if !ok {
		return notFound("asset")
	}
	a, err := h.catalog.CopyIntoIn(tx, v.who.User, ident.ItemID(id), f.Path, v.who.Device)
	if err != nil {
		return err
	}
	r.Success = a.Outcome == catalog.Created
	if !r.Success {
		r.Error = "duplicate"
	}
	return nil
}

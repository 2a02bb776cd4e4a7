package immich

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// parseSum reads a SHA-1 as clients write it: 40 hex digits, or base64.
func parseSum(s string) (storage.SHA1, error) {
	if sum, err := storage.ParseSHA1(s); err == nil {
		return sum, nil
	}
	if b, err := base64.StdEncoding.Strict().DecodeString(s); err == nil && len(b) == len(storage.SHA1{}) {
		return storage.SHA1(b), nil
	}
	return storage.SHA1{}, &problem.Error{
		Kind: problem.Invalid, Op: "immich.checksum", Title: "The checksum is no SHA-1",
		Hint: "Send it as 40 hex digits or in base64.",
	}
}

// check says which of up to 5,000 files need not be sent, because the person has
// their contents, in the trash at least. A program may delete by that word what it
// was not to send, so it is never said of what is gone for good: that is refused
// when it comes. Other people's contents play no part.
func (h *Handler) check(v *visit) error {
	var in struct {
		Assets []struct {
			ID       string `json:"id"`
			Checksum string `json:"checksum"`
		} `json:"assets"`
	}
	if err := v.ask(&in); err != nil {
		return err
	}
	sums := make([]storage.SHA1, len(in.Assets))
	for i, a := range in.Assets {
		var err error
		if sums[i], err = parseSum(a.Checksum); err != nil {
			return err
		}
	}
	known, err := h.catalog.KnownSHA1(v.r.Context(), v.who.User, sums)
	if err != nil {
		return err
	}
	deleted, err := h.deleted(v, sums)
	if err != nil {
		return err
	}
	type result struct {
		ID        string `json:"id"`
		Action    string `json:"action"`
		Reason    string `json:"reason,omitempty"`
		AssetID   string `json:"assetId,omitempty"`
		IsTrashed bool   `json:"isTrashed"`
		Deleted   any    `json:"deleted,omitempty"` // when: the box's own
	}
	results := make([]result, len(known))
	for i, id := range known {
		results[i] = result{ID: in.Assets[i].ID, Action: "accept"}
		switch d := deleted[i]; {
		case id != 0:
			results[i] = result{ID: in.Assets[i].ID, Action: "reject", Reason: "duplicate", AssetID: uuid(ofItem, int64(id))}
		case d.Trashed:
			results[i] = result{ID: in.Assets[i].ID, Action: "reject", Reason: "deleted", IsTrashed: true, Deleted: moment(d.Time)}
		}
	}
	return v.answer(http.StatusOK, object{"results": results})
}

// deleted says which contents the person deleted, as ingest will hold against them.
func (h *Handler) deleted(v *visit, sums []storage.SHA1) (list []catalog.Deletion, err error) {
	err = h.db.Read(v.r.Context(), func(tx *db.Tx) error {
		list, err = h.catalog.DeletedSHA1In(tx, v.who.User, sums)
		return err
	})
	return list, err
}

// statistics counts the person's files. Those that are neither pictures nor films
// are in the total only.
func (h *Handler) statistics(v *visit) error {
	count := map[string]int64{}
	err := h.catalog.EachName(v.r.Context(), v.who.User, func(name string) { count[typeOf(name)]++ })
	if err != nil {
		return err
	}
	return v.answer(http.StatusOK, object{
		"images": count["IMAGE"], "videos": count["VIDEO"], "total": count["IMAGE"] + count["VIDEO"] + count["OTHER"],
	})
}

// An asset is an item as the protocol describes it.
type asset struct {
	ID               string  `json:"id"`
	OwnerID          string  `json:"ownerId"`
	DeviceAssetID    string  `json:"deviceAssetId"`
	DeviceID         string  `json:"deviceId"`
	Type             string  `json:"type"`
	OriginalPath     string  `json:"originalPath"`
	OriginalFileName string  `json:"originalFileName"`
	Checksum         string  `json:"checksum"` // SHA-1, base64
	FileCreatedAt    moment  `json:"fileCreatedAt"`
	FileModifiedAt   moment  `json:"fileModifiedAt"`
	LocalDateTime    moment  `json:"localDateTime"`
	CreatedAt        moment  `json:"createdAt"`
	UpdatedAt        moment  `json:"updatedAt"`
	Duration         *string `json:"duration"`
	Thumbhash        *string `json:"thumbhash"`
	LivePhotoVideoID *string `json:"livePhotoVideoId"`
	IsFavorite       bool    `json:"isFavorite"`
	IsArchived       bool    `json:"isArchived"`
	IsTrashed        bool    `json:"isTrashed"`
	IsOffline        bool    `json:"isOffline"`
	HasMetadata      bool    `json:"hasMetadata"`
	Visibility       string  `json:"visibility"`
	ExifInfo         exif    `json:"exifInfo"`
}

type exif struct {
	FileSizeInByte   int64  `json:"fileSizeInByte"`
	DateTimeOriginal moment `json:"dateTimeOriginal"`
	Description      string `json:"description"`
}

func assetOf(it catalog.Item, sum storage.SHA1) asset {
	modified := it.MTime
	if modified.IsZero() {
		modified = it.Added
	}
	taken := it.Taken.Time
	if taken.IsZero() {
		taken = modified
	}
	device := ""
	if it.Device != 0 {
		device = it.Device.String()
	}
	return asset{
		ID: uuid(ofItem, int64(it.ID)), OwnerID: uuid(ofUser, int64(it.User)), DeviceAssetID: it.ID.String(), DeviceID: device,
		Type: typeOf(it.Name), OriginalPath: it.Path, OriginalFileName: it.Name, Checksum: base64.StdEncoding.EncodeToString(sum[:]),
		FileCreatedAt: moment(taken), FileModifiedAt: moment(modified), LocalDateTime: moment(taken),
		CreatedAt: moment(it.Added), UpdatedAt: moment(it.Added), IsTrashed: !it.Trashed.IsZero(), Visibility: "timeline",
		ExifInfo: exif{FileSizeInByte: it.Size, DateTimeOriginal: moment(taken)},
	}
}

// assets describes items.
func (h *Handler) assets(v *visit, items []catalog.Item) ([]asset, error) {
	sums, err := h.catalog.SHA1s(v.r.Context(), items)
	if err != nil {
		return nil, err
	}
	list := make([]asset, len(items))
	for i, it := range items {
		list[i] = assetOf(it, sums[i])
	}
	return list, nil
}

// item finds the asset that the address names.
func (h *Handler) item(v *visit, id string) (catalog.Item, error) {
	n, ok := fromUUID(ofItem, id)
	if !ok {
		return catalog.Item{}, notFound("asset")
	}
	return h.catalog.Item(v.r.Context(), v.who.User, ident.ItemID(n))
}

// asset describes one asset. It also answers requests to change one: nothing of
// what they can change is kept, and the answer shows the asset as it is.
func (h *Handler) asset(v *visit) error {
	it, err := h.item(v, v.r.PathValue("id"))
	if err != nil {
		return err
	}
	if v.r.Method == http.MethodPut {
		var ignored map[string]json.RawMessage
		if err := v.ask(&ignored); err != nil {
			return err
		}
	}
	list, err := h.assets(v, []catalog.Item{it})
	if err != nil {
		return err
	}
	return v.answer(http.StatusOK, list[0])
}

// original gives the bytes of an asset out, so that whoever moves a library can
// check that it arrived.
func (h *Handler) original(v *visit) error {
	it, err := h.item(v, v.r.PathValue("id"))
	if err != nil {
		return err
	}
	h.files.Serve(v.w, v.r, it, endpoint(h.original).Refuse)
	return nil
}

// A question is the body of a search. What would narrow the answer in a way that
// the box cannot is refused, never left out.
type question struct {
	Page       json.Number `json:"page"`
	Size       int         `json:"size"`
	Order      string      `json:"order"`
	Visibility string      `json:"visibility"`
	Checksum   string      `json:"checksum"`
	Type       string      `json:"type"`
	IsFavorite bool        `json:"isFavorite"`
	IsArchived bool        `json:"isArchived"`
	IsOffline  bool        `json:"isOffline"`
	IsTrashed  bool        `json:"isTrashed"`
	IsMotion   bool        `json:"isMotion"`
	Rating     int         `json:"rating"`
	// Either asks for what lies in the trash.
	TrashedAfter  string `json:"trashedAfter"`
	TrashedBefore string `json:"trashedBefore"`
}

// nothing reports whether q asks for assets that the box has none of: no asset is a
// favourite, archived or rated here. What lies in the trash is never told: who hears
// of it would not send it again.
func (q question) nothing() bool {
	return q.Visibility != "" && q.Visibility != "timeline" || q.IsFavorite || q.IsArchived || q.IsOffline || q.IsTrashed || q.IsMotion ||
		q.Rating > 0 || q.TrashedAfter != "" || q.TrashedBefore != ""
}

// shaping are members of a search that narrow nothing here, or as question says.
var shaping = []string{
	"page", "size", "order", "visibility", "checksum", "type", "isFavorite", "isArchived", "isOffline", "isTrashed", "isMotion", "isVisible",
	"rating", "trashedAfter", "trashedBefore", "withExif", "withPeople", "withStacked", "withDeleted", "withArchived", "language",
}

func (h *Handler) question(v *visit) (q question, from ident.ItemID, err error) {
	var raw map[string]json.RawMessage
	if err := v.ask(&raw); err != nil {
		return q, 0, err
	}
	for name, value := range raw {
		empty := slices.Contains([]string{"null", "false", `""`, "[]", "0"}, string(value))
		if !empty && !slices.Contains(shaping, name) {
			return q, 0, unsearchable("It has a condition that the box does not know.")
		}
	}
	whole, err := json.Marshal(raw)
	if err != nil {
		return q, 0, err
	}
	if err := json.Unmarshal(whole, &q); err != nil {
		return q, 0, unsearchable("One of its conditions has another type than expected.")
	}
	if q.Order != "" && q.Order != "asc" && q.Order != "desc" {
		return q, 0, unsearchable("Its order is neither asc nor desc.")
	}
	if q.Page != "" && q.Page != "0" && q.Page != "1" {
		n, err := strconv.ParseInt(q.Page.String(), 10, 64)
		if err != nil || n < 1<<32 { // counted up: no item has such an identifier
			return q, 0, unsearchable("Its page is not one that the box named.")
		}
		from = ident.ItemID(n)
	}
	return q, from, nil
}

func unsearchable(detail string) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "immich.search", Title: "The box cannot search for that", Detail: detail,
		Hint: "Ask for all assets page by page, or by checksum.",
	}
}

// search lists the person's assets in the order in which they came. A page is not a
// number that one could count up but where the page before ended, which the answer
// names.
func (h *Handler) search(v *visit) error {
	q, from, err := h.question(v)
	if err != nil {
		return err
	}
	const defaultSize = 250
	if q.Size <= 0 {
		q.Size = defaultSize
	}
	q.Size = min(q.Size, catalog.MaxLimit)
	var items []catalog.Item
	var next any
	switch {
	case q.nothing():
	case q.Checksum != "":
		items, err = h.byChecksum(v, q.Checksum)
	default:
		items, err = h.catalog.ByID(v.r.Context(), v.who.User, from, q.Order != "asc", q.Size)
		if len(items) == q.Size {
			next = strconv.FormatInt(int64(items[len(items)-1].ID), 10)
		}
	}
	if err != nil {
		return err
	}
	if q.Type != "" {
		items = slices.DeleteFunc(items, func(it catalog.Item) bool { return typeOf(it.Name) != q.Type })
	}
	list, err := h.assets(v, items)
	if err != nil {
		return err
	}
	empty := []any{}
	return v.answer(http.StatusOK, object{
		"assets": object{"total": len(list), "count": len(list), "items": list, "facets": empty, "nextPage": next},
		"albums": object{"total": 0, "count": 0, "items": empty, "facets": empty},
	})
}

func (h *Handler) byChecksum(v *visit, checksum string) ([]catalog.Item, error) {
	sum, err := parseSum(checksum)
	if err != nil {
		return nil, err
	}
	it, found, err := h.known(v, sum)
	if err != nil || !found {
		return nil, err
	}
	return []catalog.Item{it}, nil
}

// known finds the person's own item with a content of that SHA-1.
func (h *Handler) known(v *visit, sum storage.SHA1) (it catalog.Item, found bool, err error) {
	ids, err := h.catalog.KnownSHA1(v.r.Context(), v.who.User, []storage.SHA1{sum})
	if err != nil || ids[0] == 0 {
		return it, false, err
	}
	it, err = h.catalog.Item(v.r.Context(), v.who.User, ids[0])
	if problem.KindOf(err) == problem.NotFound {
		return it, false, nil // purged just now
	}
	return it, err == nil && it.Trashed.IsZero(), err
}

// month is the folder of what was made at t.
func month(t time.Time) string { return "Photos/" + t.UTC().Format("2006/01") }

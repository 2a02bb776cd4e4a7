package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/storage"
)

func (a *API) registerItems() {
	register(a, route{
		Method: "POST", Path: "/v1/blobs/known", ID: "known-blobs", Tag: "files", MaxBody: 512 << 10,
		Summary:     "Which of these contents the asker has on the box already",
		Description: "Up to 5,000 hashes. `declined` are those that a backup need not offer, because it would be refused. The answer speaks of the asker's own verified files only and says nothing about anybody else's.",
	}, httpd.Files, a.known)
	a.registerWanted()
	register(a, route{
		Method: "GET", Path: "/v1/items", ID: "list-items", Tag: "files",
		Summary:     "The asker's files, a page at a time",
		Description: "`next` of one page is the `cursor` of the following one; only null says that it was the last.",
	}, httpd.Files, a.items)
	register(a, route{
		Method: "GET", Path: "/v1/items/{id}", ID: "get-item", Tag: "files",
		Summary: "One file of the asker",
	}, httpd.Files, a.item)
	register(a, route{
		Method: "GET", Path: "/v1/items/{id}/versions", ID: "list-versions", Tag: "files",
		Summary: "What a file held before, newest first",
	}, httpd.Files, a.versions)
	register(a, route{
		Method: "POST", Path: "/v1/items/{id}/restore", ID: "restore-item", Tag: "files",
		Summary: "Take a file out of the trash",
	}, httpd.Files, a.restore)
	register(a, route{
		Method: "DELETE", Path: "/v1/items/{id}", ID: "purge-item", Tag: "files",
		Summary:     "Delete a file for good",
		Description: "Only from the trash: a file that is not there is refused with 409.",
	}, httpd.Files, a.purge)
	register(a, route{
		Method: "GET", Path: "/v1/storage", ID: "get-storage", Tag: "files",
		Summary: "The disk, the asker's share and, for admins, the box as a whole",
	}, httpd.Files, a.storageUse)
}

type knownInput struct {
	Body struct {
		SHA256 []string `json:"sha256" maxItems:"5000" pattern:"^[0-9a-f]{64}$" patternDescription:"64 lower-case hex digits"`
	} `nameHint:"KnownQuestion"`
}

type knownAnswer struct {
	Body struct {
		Known    []storage.Ref `json:"known"`
		Declined []DeclinedRef `json:"declined"`
	} `nameHint:"KnownAnswer"`
}

// DeclinedRef is a content that a backup is refused.
type DeclinedRef struct {
	SHA256  storage.Ref `json:"sha256"`
	Reason  string      `json:"reason" enum:"deleted" doc:"deleted: the asker deleted it from the box. Sending it with again=true brings it back"`
	Deleted moment      `json:"deleted" doc:"When it went into the trash, or out of it for good"`
}

func (a *API) known(ctx context.Context, in *knownInput) (*knownAnswer, error) {
	refs := make([]storage.Ref, 0, len(in.Body.SHA256))
	for _, s := range in.Body.SHA256 {
		ref, err := storage.ParseRef(s)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	user := principal(ctx).User
	known, err := a.catalog.Known(ctx, user, refs)
	if err != nil {
		return nil, err
	}
	out := &knownAnswer{}
	deleted, err := a.catalog.Deleted(ctx, user, refs)
	if err != nil {
		return nil, err
	}
	out.Body.Declined = make([]DeclinedRef, 0, len(deleted))
	for _, d := range deleted {
		out.Body.Declined = append(out.Body.Declined, DeclinedRef{SHA256: d.Ref, Reason: "deleted", Deleted: moment(d.Time)})
	}
	out.Body.Known = append([]storage.Ref{}, known...)
	return out, nil
}

type itemsInput struct {
	Folder    string `query:"folder" maxLength:"2048" doc:"Path of a folder; left out: the root" example:"DCIM/Camera"`
	Recursive bool   `query:"recursive" doc:"Files in folders below, too"`
	Trash     bool   `query:"trash" doc:"What is in the trash instead"`
	Source    string `query:"source" maxLength:"64" doc:"Only files from this source"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
	Cursor    string `query:"cursor" maxLength:"4096"`
}

type itemsAnswer struct {
	Body struct {
		Folders []FolderEntry `json:"folders"`
		Items   []ItemEntry   `json:"items"`
		Next    *string       `json:"next" doc:"cursor of the next page; null: this is the last"`
	} `nameHint:"ItemPage"`
}

// FolderEntry is a folder in a listing.
type FolderEntry struct {
	Path string `json:"path"`
	Name string `json:"name"`
}

// ItemEntry is a file in a listing.
type ItemEntry struct {
	ID     ident.ItemID `json:"id"`
	Path   string       `json:"path"`
	Name   string       `json:"name"`
	SHA256 storage.Ref  `json:"sha256"`
	Size   int64        `json:"size" minimum:"0"`
	MTime  *moment      `json:"mtime" nullable:"true" doc:"Modification time as the device said; null: it said none"`
	Added  moment       `json:"added"`
	Source string       `json:"source"`
	// SourceBy says how far the source can be trusted.
	SourceBy   string          `json:"source_by" enum:"declared,folder,name,guess,none" doc:"How the source is known: declared by the client, or found by the folder or the file's name, or only likely; none: nothing speaks for anything"`
	Taken      *moment         `json:"taken" nullable:"true" doc:"When the picture was taken, as taken_from says; null: not known"`
	TakenLocal bool            `json:"taken_local" doc:"taken is a clock's time of an unknown zone, written as if it were UTC"`
	TakenFrom  *string         `json:"taken_from" doc:"name: the name of the file says when it was taken; null: nothing does"`
	Device     *ident.DeviceID `json:"device" doc:"null: not known"`
	Trashed    *moment         `json:"trashed" nullable:"true" doc:"null: not in the trash"`
}

func itemEntry(i catalog.Item) ItemEntry {
	return ItemEntry{
		ID: i.ID, Path: i.Path, Name: i.Name, SHA256: i.Ref, Size: i.Size, MTime: momentOrNull(i.MTime), Added: moment(i.Added),
		Source: i.Source, SourceBy: i.SourceBy, Taken: momentOrNull(i.Taken.Time), TakenLocal: i.Taken.Local, TakenFrom: orNull(i.Taken.From),
		Device: orNull(i.Device), Trashed: momentOrNull(i.Trashed),
	}
}

func (a *API) items(ctx context.Context, in *itemsInput) (*itemsAnswer, error) {
	page, err := a.catalog.List(ctx, principal(ctx).User, catalog.Query{
		Folder: in.Folder, Recursive: in.Recursive, Trash: in.Trash, Source: in.Source, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	out := &itemsAnswer{}
	out.Body.Folders = make([]FolderEntry, 0, len(page.Folders))
	for _, f := range page.Folders {
		out.Body.Folders = append(out.Body.Folders, FolderEntry{Path: f.Path, Name: f.Name})
	}
	out.Body.Items = make([]ItemEntry, 0, len(page.Items))
	for _, i := range page.Items {
		out.Body.Items = append(out.Body.Items, itemEntry(i))
	}
	out.Body.Next = orNull(page.Next)
	return out, nil
}

type itemInput struct {
	ID idParam[ident.ItemID] `path:"id"`
}

type itemAnswer struct {
	Body ItemEntry
}

func (a *API) item(ctx context.Context, in *itemInput) (*itemAnswer, error) {
	i, err := a.catalog.Item(ctx, principal(ctx).User, in.ID.ID)
	if err != nil {
		return nil, err
	}
	return &itemAnswer{Body: itemEntry(i)}, nil
}

type versionsAnswer struct {
	Body struct {
		Versions []VersionEntry `json:"versions"`
	} `nameHint:"Versions"`
}

// VersionEntry is a content that a file had before.
type VersionEntry struct {
	SHA256   storage.Ref `json:"sha256"`
	Size     int64       `json:"size" minimum:"0"`
	MTime    *moment     `json:"mtime" nullable:"true"`
	Added    moment      `json:"added"`
	Replaced moment      `json:"replaced"`
}

func (a *API) versions(ctx context.Context, in *itemInput) (*versionsAnswer, error) {
	list, err := a.catalog.Versions(ctx, principal(ctx).User, in.ID.ID)
	if err != nil {
		return nil, err
	}
	out := &versionsAnswer{}
	out.Body.Versions = make([]VersionEntry, 0, len(list))
	for _, v := range list {
		out.Body.Versions = append(out.Body.Versions, VersionEntry{SHA256: v.Ref, Size: v.Size, MTime: momentOrNull(v.MTime), Added: moment(v.Added), Replaced: moment(v.Replaced)})
	}
	return out, nil
}

func (a *API) restore(ctx context.Context, in *itemInput) (*itemAnswer, error) {
	i, err := a.catalog.Restore(ctx, principal(ctx).User, in.ID.ID)
	if err != nil {
		return nil, err
	}
	return &itemAnswer{Body: itemEntry(i)}, nil
}

func (a *API) purge(ctx context.Context, in *itemInput) (*struct{}, error) {
	return nil, a.catalog.Purge(ctx, principal(ctx).User, in.ID.ID)
}

type storageAnswer struct {
	Body StorageUse
}

// StorageUse says where the space went.
type StorageUse struct {
	Disk       DiskUse    `json:"disk"`
	Mine       MyUse      `json:"mine"`
	Box        *BoxUse    `json:"box" doc:"The box as a whole; null for everybody but admins"`
	Care       Care       `json:"care"`
	SecondCopy *CopyState `json:"second_copy" doc:"The best copy of the box on another disk; null: there is none"`
}

// TransformSchema implements huma.SchemaTransformer.
func (StorageUse) TransformSchema(r huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["box"] = nullable[BoxUse](r)
	s.Properties["second_copy"] = nullable[CopyState](r)
	return s
}

// DiskUse is the volume below the box.
type DiskUse struct {
	Total int64 `json:"total" minimum:"0"`
	Free  int64 `json:"free" minimum:"0"`
}

// MyUse is the share of one person.
type MyUse struct {
	Items         int64 `json:"items" minimum:"0"`
	Bytes         int64 `json:"bytes" minimum:"0" doc:"As if every file took its whole size"`
	DistinctBytes int64 `json:"distinct_bytes" minimum:"0" doc:"Each content once"`
	SavedBytes    int64 `json:"saved_bytes" minimum:"0" doc:"What keeping each content once saves"`
}

// BoxUse is the box as a whole.
type BoxUse struct {
	Items         int64 `json:"items" minimum:"0"`
	LogicalBytes  int64 `json:"logical_bytes" minimum:"0"`
	Blobs         int64 `json:"blobs" minimum:"0"`
	PhysicalBytes int64 `json:"physical_bytes" minimum:"0"`
	SavedBytes    int64 `json:"saved_bytes" minimum:"0"`
}

func (a *API) storageUse(ctx context.Context, _ *struct{}) (*storageAnswer, error) {
	p := principal(ctx)
	space, err := a.store.Space()
	if err != nil {
		return nil, err
	}
	usage, err := a.catalog.Usage(ctx, p.User)
	if err != nil {
		return nil, err
	}
	out := &storageAnswer{Body: StorageUse{
		Disk: DiskUse{Total: space.Total, Free: space.Free},
		Mine: MyUse{Items: usage.Items, Bytes: usage.Bytes, DistinctBytes: usage.Distinct, SavedBytes: usage.Bytes - usage.Distinct},
	}}
	if out.Body.Care, err = a.care(ctx, p.User); err != nil {
		return nil, err
	}
	if out.Body.SecondCopy, err = a.bestCopy(ctx); err != nil {
		return nil, err
	}
	if p.Admin() {
		t, err := a.catalog.Totals(ctx)
		if err != nil {
			return nil, err
		}
		out.Body.Box = &BoxUse{
			Items: t.Items, LogicalBytes: t.LogicalBytes, Blobs: t.Blobs, PhysicalBytes: t.PhysicalBytes,
			SavedBytes: max(0, t.LogicalBytes-t.PhysicalBytes),
		}
	}
	return out, nil
}

package api

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/export"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/rights"
)

func (a *API) registerRights() {
	register(a, route{
		Method: "GET", Path: "/v1/me/data", ID: "get-my-data", Tag: "rights",
		Summary:     "Everything that the box holds about the asker, by category",
		Description: "Also which purposes it rests on, where it comes from, how long it is kept, how it is corrected, and in which places it lies. It needs no consent and no accepted policy.",
	}, httpd.SignedIn, a.myData)
	register(a, route{
		Method: "GET", Path: "/v1/me/data/{category}", ID: "list-my-data", Tag: "rights",
		Summary:     "What the box holds about the asker in one category, a page at a time",
		Description: "Each record has `kind`, and members that differ by kind; times are RFC 3339, identifiers and hashes as elsewhere. Passwords, tokens and their hashes are not shown. Only a null `next` says that it was the last page.",
	}, httpd.SignedIn, a.myRecords)

	const exports = "/v1/me/exports"
	register(a, route{
		Method: "POST", Path: exports, ID: "begin-export", Tag: "rights", Status: 202,
		Summary: "Ask for everything that the box holds about the asker, as one archive",
		Description: "The list of what is in it is made first: ask for its state until that is `ready`. A person has one export at a time; a new one takes the place of the one before. " +
			"It can be fetched for seven days. It needs no consent and no accepted policy. What an archive is made of stands in docs/export.md.",
	}, httpd.SignedIn, a.beginExport)
	register(a, route{
		Method: "GET", Path: exports, ID: "list-exports", Tag: "rights", Summary: "The asker's exports: one at most",
	}, httpd.SignedIn, a.exportList)
	register(a, route{
		Method: "GET", Path: exports + "/{id}", ID: "get-export", Tag: "rights", Summary: "How far an export is",
	}, httpd.SignedIn, a.exportState)
	register(a, route{
		Method: "DELETE", Path: exports + "/{id}", ID: "remove-export", Tag: "rights", Summary: "Remove an export before its time",
	}, httpd.SignedIn, func(ctx context.Context, in *exportInput) (*struct{}, error) {
		return nil, a.exports.Remove(ctx, principal(ctx).User, in.ID)
	})
	archive := map[string]*huma.MediaType{"application/x-tar": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	const about = "A tar archive (POSIX pax). With ranges and one entity tag for as long as the export lasts: what was cut off goes on with `Range` and `If-Range`. " +
		"A file that was deleted meanwhile is a hole of the same length, and named in MISSING.jsonl at the end."
	stream[exportInput, readHeaders](a, route{
		Method: "GET", Path: exports + "/{id}/archive", ID: "get-archive", Tag: "rights", Status: 200,
		Summary: "Fetch the archive of an export", Description: about,
	}, httpd.SignedIn, exports+"/{id}/archive", map[string]*huma.Response{
		"200": {Description: "The archive", Content: archive},
		"206": {Description: "The range that was asked for", Content: archive},
		"304": {Description: "Not modified"},
	}, a.archive)
	huma.Register(a.paper, a.operation(route{
		Method: "HEAD", Path: exports + "/{id}/archive", ID: "head-archive", Tag: "rights", Status: 200,
		Summary: "Length and entity tag of the archive of an export", Description: about,
	}, httpd.SignedIn), func(context.Context, *exportInput) (*readHeaders, error) { return nil, nil })
}

// Category is one kind of data of the asker.
type Category struct {
	ID       string       `json:"id" example:"devices"`
	Title    rights.Words `json:"title"`
	What     rights.Words `json:"what" doc:"What it is and what for"`
	From     rights.Words `json:"source" doc:"Who gave it"`
	Kept     rights.Words `json:"retention" doc:"How long"`
	Fix      rights.Words `json:"correction" doc:"How it is corrected, or why it is not"`
	Purposes []string     `json:"purposes" doc:"The consents that it rests on; empty: the box cannot do without it"`
	Room     string       `json:"room" doc:"The part of the box that keeps it"`
	Records  int64        `json:"records" minimum:"0"`
	Bytes    int64        `json:"bytes" minimum:"0" doc:"Of files; 0 where they are not what counts"`
	// Erasable and what follows say how it goes.
	Erasable bool             `json:"erasable" doc:"It can be erased by itself"`
	Stays    *rights.Words    `json:"stays,omitempty" doc:"Why it cannot; left out: it can"`
	Period   *RetentionPeriod `json:"period,omitempty" doc:"After how long records go by themselves; left out: not by their age"`
}

// RetentionPeriod is after how long records of a category go by themselves.
type RetentionPeriod struct {
	Days  int     `json:"days" minimum:"0" doc:"0: never"`
	Min   int     `json:"min" doc:"That the owner may choose"`
	Max   int     `json:"max"`
	Never bool    `json:"never" doc:"The owner may choose 0"`
	Next  *moment `json:"next,omitempty" doc:"When the next record of the asker goes; left out: none does"`
}

// DataPlace is where data lie.
type DataPlace struct {
	Name    string       `json:"name" doc:"Below the box's state directory; or a plain name"`
	Outside bool         `json:"outside" doc:"It lies outside of the state directory"`
	What    rights.Words `json:"what"`
	Ends    rights.Words `json:"ends" doc:"When it goes from there"`
}

type myDataAnswer struct {
	Body struct {
		Categories []Category  `json:"categories"`
		Places     []DataPlace `json:"places"`
	} `nameHint:"MyData"`
}

func (a *API) myData(ctx context.Context, _ *struct{}) (*myDataAnswer, error) {
	out := &myDataAnswer{}
	u := principal(ctx).User
	days, err := a.rights().Periods(ctx)
	if err != nil {
		return nil, err
	}
	err = a.rights().Read(ctx, func(tx *db.Tx) error {
		out.Body.Categories = []Category{}
		for _, h := range a.rights().Holders() {
			for _, c := range h.Categories {
				s, err := c.Sum(ctx, tx, u)
				if err != nil {
					return err
				}
				period, err := periodOf(ctx, tx, &c, u, days[c.ID])
				if err != nil {
					return err
				}
				stays := c.Erase.Stays
				if stays == (rights.Words{}) {
					stays = c.Erase.Last
				}
				out.Body.Categories = append(out.Body.Categories, Category{
					Erasable: stays == (rights.Words{}), Stays: orNull(stays), Period: period,
					ID: c.ID, Title: c.Title, What: c.What, From: c.From, Kept: c.Kept, Fix: c.Fix, Purposes: append([]string{}, c.Purposes...),
					Room: h.Package, Records: s.Records, Bytes: s.Bytes,
				})
			}
		}
		return nil
	})
	for _, p := range rights.Places() {
		out.Body.Places = append(out.Body.Places, DataPlace(p))
	}
	return out, err
}

func periodOf(ctx context.Context, tx *db.Tx, c *rights.Category, u ident.UserID, days int) (*RetentionPeriod, error) {
	if c.Period == nil {
		return nil, nil
	}
	out := &RetentionPeriod{Days: days, Min: c.Period.Min, Max: c.Period.Max, Never: c.Period.Days == 0}
	next, err := c.Goes(ctx, tx, u, days)
	if !next.IsZero() {
		at := moment(next)
		out.Next = &at
	}
	return out, err
}

type myRecordsInput struct {
	Category string `path:"category" maxLength:"64" example:"devices"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
	Cursor   string `query:"cursor" maxLength:"8192"`
}

type myRecordsAnswer struct {
	Body struct {
		Records []DataRecord `json:"records"`
		Next    *string      `json:"next" doc:"cursor of the next page; null: this is the last"`
	} `nameHint:"MyRecords"`
}

// DataRecord is a record of any category.
type DataRecord rights.Record

// MarshalJSON implements json.Marshaler.
func (r DataRecord) MarshalJSON() ([]byte, error) { return rights.Record(r).MarshalJSON() }

// Schema implements huma.SchemaProvider.
func (DataRecord) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"kind"}, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{"kind": {Type: huma.TypeString, Description: "What the record is: device, session, file, …"}},
	}
}

var _ json.Marshaler = DataRecord{}

func (a *API) myRecords(ctx context.Context, in *myRecordsInput) (*myRecordsAnswer, error) {
	c, err := a.rights().Category(in.Category)
	if err != nil {
		return nil, err
	}
	out := &myRecordsAnswer{}
	err = a.rights().Read(ctx, func(tx *db.Tx) error {
		list, next, err := c.Page(ctx, tx, principal(ctx).User, in.Cursor, in.Limit)
		out.Body.Records = make([]DataRecord, 0, len(list))
		for _, r := range list {
			out.Body.Records = append(out.Body.Records, DataRecord(r))
		}
		out.Body.Next = orNull(next)
		return err
	})
	return out, err
}

// ExportState is how far an export is.
type ExportState struct {
	ID       string       `json:"id"`
	State    export.State `json:"state" enum:"preparing,ready,failed"`
	Versions bool         `json:"versions" doc:"With what files held before"`
	Trash    bool         `json:"trash" doc:"With what is in the trash"`
	Created  moment       `json:"created"`
	Expires  moment       `json:"expires" doc:"Until when it can be fetched"`
	Listed   int64        `json:"listed" minimum:"0" doc:"Folders and files on the list so far"`
	Bytes    int64        `json:"bytes" minimum:"0" doc:"Of the files, once it is ready"`
	Size     *int64       `json:"size" minimum:"0" doc:"Of the archive; null: not known yet"`
	Sent     int64        `json:"sent" minimum:"0" doc:"Up to which byte the archive was read since the box started"`
	Missing  int64        `json:"missing" minimum:"0" doc:"Files that were deleted or damaged before they were read"`
	FileName string       `json:"file_name" doc:"What the archive is called"`
	Failure  *string      `json:"failure" doc:"Why it could not be made; null: it could, or is still being made"`
}

func exportState(i export.Info) ExportState {
	s := ExportState{
		ID: i.ID, State: i.State, Versions: i.Choice.Versions, Trash: i.Choice.Trash, Created: moment(i.Created), Expires: moment(i.Expires), Listed: i.Listed,
		Bytes: i.Bytes, Sent: i.Sent, Missing: i.Missing, FileName: i.FileName,
	}
	if i.State == export.Ready {
		s.Size = &i.Size
	}
	if i.Failure != nil {
		s.Failure = &i.Failure.Title
	}
	return s
}

type beginExportInput struct {
	Body struct {
		Versions bool `json:"versions,omitempty" doc:"With what files held before"`
		Trash    bool `json:"trash,omitempty" doc:"With what is in the trash"`
	} `nameHint:"ExportRequest"`
}

type exportAnswer struct{ Body ExportState }

func (a *API) beginExport(ctx context.Context, in *beginExportInput) (*exportAnswer, error) {
	i, err := a.exports.Begin(ctx, principal(ctx), export.Choice{Versions: in.Body.Versions, Trash: in.Body.Trash})
	if err != nil {
		return nil, err
	}
	return &exportAnswer{exportState(i)}, nil
}

type exportsAnswer struct {
	Body struct {
		Exports []ExportState `json:"exports"`
	} `nameHint:"Exports"`
}

func (a *API) exportList(ctx context.Context, _ *struct{}) (*exportsAnswer, error) {
	list, err := a.exports.List(ctx, principal(ctx).User)
	out := &exportsAnswer{}
	out.Body.Exports = []ExportState{}
	for _, i := range list {
		out.Body.Exports = append(out.Body.Exports, exportState(i))
	}
	return out, err
}

type exportInput struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) exportState(ctx context.Context, in *exportInput) (*exportAnswer, error) {
	i, err := a.exports.Info(ctx, principal(ctx).User, in.ID)
	if err != nil {
		return nil, err
	}
	return &exportAnswer{exportState(i)}, nil
}

// archive sends an archive, or a part of it.
func (a *API) archive(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	tar, info, err := a.exports.Open(ctx, principal(ctx), r.PathValue("id"))
	if err != nil {
		httpd.WriteProblem(w, r, err)
		return
	}
	defer tar.Close()
	// What goes on somewhere is noted with what it goes on from.
	if r.Method == http.MethodGet {
		if err := a.exports.Fetched(ctx, principal(ctx), info.ID, r.Header.Get("Range") != ""); err != nil {
			httpd.WriteProblem(w, r, err)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": info.FileName}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-store")
	h.Set("ETag", strconv.Quote(info.ID))
	cut := &cutOff{tar: tar}
	content.Ranges(w, r, tar.Modified(), cut, httpd.WriteProblem)
	if cut.err != nil {
		if problem.KindOf(cut.err) == problem.Internal && ctx.Err() == nil {
			a.log.Error("an archive could not be read on", "err", cut.err)
		}
		panic(http.ErrAbortHandler) // the client must see that this was not all of it
	}
}

// cutOff notes that an archive could not be read to the end.
type cutOff struct {
	tar *export.Archive
	err error
}

func (c *cutOff) Seek(offset int64, whence int) (int64, error) { return c.tar.Seek(offset, whence) }

func (c *cutOff) Read(p []byte) (int, error) {
	n, err := c.tar.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

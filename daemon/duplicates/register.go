package duplicates

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// Register mounts the same operations for people themselves, for the folders that the
// box watches for them and, if they manage the box, for attached disks, and writes
// them down in doc.
func (r *Room) Register(server *httpd.Server, doc *huma.OpenAPI) {
	handle := func(method string, o operation, kind string, answer, body *huma.Schema, do func(w http.ResponseWriter, req *http.Request, who Asker) error) {
		path := "/v1/duplicates/" + o.name
		server.Handle(method+" "+path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			p, ok := httpd.PrincipalFrom(req.Context())
			if !ok {
				httpd.WriteProblem(w, req, &problem.Error{Kind: problem.Unauthenticated, Op: "duplicates"})
				return
			}
			if err := do(w, req, Asker{Person: p.User, Manages: p.Admin(), Via: "http"}); err != nil {
				httpd.WriteProblem(w, req, err)
			}
		}), httpd.SignedIn)
		op := &huma.Operation{
			Method: method, Path: path, OperationID: o.id, Tags: []string{"duplicates"}, Summary: o.summary, Description: o.description,
			Security:   []map[string][]string{{"session": {}}, {"bearer": {}}, {"basic": {}}},
			Extensions: map[string]any{"x-access": "signed-in"},
			Responses: map[string]*huma.Response{
				"200": {Description: "What was found, planned or done", Content: map[string]*huma.MediaType{kind: {Schema: answer}}},
				"default": {
					Description: "What went wrong and what to do about it (RFC 9457)",
					Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
				},
			},
		}
		if body != nil {
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: body}}}
		}
		doc.AddOperation(op)
	}
	verbs := r.verbs()
	events := &huma.Schema{Type: huma.TypeString, Description: "Events, one JSON value a line; the last one has `event` done"}
	for _, o := range []operation{
		{"scan", "scan-duplicates", "Look for equal files in one of the asker's watched folders",
			"Changes nothing. With `similar` pictures that look alike are suggested as well."},
		{"plan", "plan-duplicates", "Say what would become of equal files",
			"`action` is reflink (both use the same storage), hardlink or trash; `rule` oldest, newest or shortest."},
		{"apply", "apply-duplicates", "Carry out a plan, or go on where that was cut off",
			"Each file is compared again with the one that stays, right before it is folded."},
		{"undo", "undo-duplicates", "Take back what a plan did", "Needs no consent: it compares nothing."},
	} {
		handle(http.MethodPost, o, "application/x-ndjson", events, taskSchema(), func(w http.ResponseWriter, req *http.Request, who Asker) error {
			return r.serve(w, req, who, verbs[o.name])
		})
	}
	handle(http.MethodPost, operation{"plans", "list-duplicate-plans", "The plans of a folder, the newest last", "Needs no consent: it says what can be taken back."},
		"application/json", &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}, taskSchema(), r.servePlans)
	handle(http.MethodPost, operation{"picture", "show-duplicate-picture", "A picture in one of the asker's folders, to be looked at beside others",
		"JPEG and PNG of 32 MiB at most. `file` is its path below the folder, as in an event."}, "image/*",
		&huma.Schema{Type: huma.TypeString, Format: "binary"}, pictureSchema(), r.servePicture)
	handle(http.MethodGet, operation{"folders", "list-duplicate-folders", "The folders that the asker may have looked through",
		"Those that the box watches for them; for the owner and admins also disks that are attached to the box."},
		"application/json", foldersSchema(), nil, r.serveFolders)
	doc.Tags = append(doc.Tags, &huma.Tag{Name: "duplicates", Description: "Equal files in folders of the box's own computer. Needs the consent to `file_dedup`."})
}

// operation is one of the document.
type operation struct{ name, id, summary, description string }

func pictureSchema() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"path", "file"},
		Properties: map[string]*huma.Schema{
			"path": {Type: huma.TypeString, Description: "The folder"},
			"file": {Description: "The picture: a string, or an object with its base64 where it is not UTF-8"},
		},
	}
}

func foldersSchema() *huma.Schema {
	folder := &huma.Schema{Type: huma.TypeObject, Required: []string{"path", "kind"}, Properties: map[string]*huma.Schema{
		"path": {Type: huma.TypeString}, "kind": {Type: huma.TypeString, Enum: []any{"watched", "disk"}},
	}}
	return &huma.Schema{Type: huma.TypeObject, Required: []string{"folders"}, Properties: map[string]*huma.Schema{
		"folders": {Type: huma.TypeArray, Items: folder},
	}}
}

func taskSchema() *huma.Schema {
	text := func(doc string, enum ...any) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Description: doc, Enum: enum}
	}
	flag := func(doc string) *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean, Description: doc} }
	list := func(doc string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeArray, Description: doc, Items: &huma.Schema{Type: huma.TypeString}}
	}
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"path"},
		Properties: map[string]*huma.Schema{
			"path":   text("The folder on the box's computer: one that is watched for the asker, or one in it; for the owner and admins also an attached disk"),
			"plan":   text("apply, undo: the plan; left out: the newest of the folder"),
			"action": text("plan", "reflink", "hardlink", "trash"), "rule": text("plan: which file stays", "oldest", "newest", "shortest"),
			"prefer": list("plan: folders whose files rather stay, the first one first"), "stay": list("plan: files and folders that are never folded"),
			"any_time": flag("plan: hard links also of files whose times differ"), "other_mounts": flag("also other file systems that are mounted in the folder"),
			"all": flag("read every file, also those without an equal, to say whether the box has it"), "similar": flag("scan: suggest pictures that look alike"),
			"groups": flag("name the files"),
		},
	}
}

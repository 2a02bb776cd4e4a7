package duplicates

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
)

// Register mounts the same operations for people themselves, for the folders that the
// box watches for them, and writes them down in doc.
func (r *Room) Register(server *httpd.Server, doc *huma.OpenAPI) {
	verbs := r.verbs()
	for _, o := range []struct{ name, id, summary, description string }{
		{"scan", "scan-duplicates", "Look for equal files in one of the asker's watched folders",
			"Changes nothing. With `similar` pictures that look alike are suggested as well."},
		{"plan", "plan-duplicates", "Say what would become of equal files",
			"`action` is reflink (both use the same storage), hardlink or trash; `rule` oldest, newest or shortest."},
		{"apply", "apply-duplicates", "Carry out a plan, or go on where that was cut off",
			"Each file is compared again with the one that stays, right before it is folded."},
		{"undo", "undo-duplicates", "Take back what a plan did", "Needs no consent: it compares nothing."},
		{"plans", "list-duplicate-plans", "The plans of a folder, the newest last", ""},
	} {
		path := "/v1/duplicates/" + o.name
		server.Handle("POST "+path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			p, ok := httpd.PrincipalFrom(req.Context())
			if !ok {
				httpd.WriteProblem(w, req, &problem.Error{Kind: problem.Unauthenticated, Op: "duplicates"})
				return
			}
			who := Asker{Person: p.User, Via: "http"}
			err := error(nil)
			if v, ok := verbs[o.name]; ok {
				err = r.serve(w, req, who, v)
			} else {
				err = r.servePlans(w, req, who)
			}
			if err != nil {
				httpd.WriteProblem(w, req, err)
			}
		}), httpd.SignedIn)
		kind, answer := "application/x-ndjson", &huma.Schema{Type: huma.TypeString, Description: "Events, one JSON value a line; the last one has `event` done"}
		if o.name == "plans" {
			kind, answer = "application/json", &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
		}
		doc.AddOperation(&huma.Operation{
			Method: http.MethodPost, Path: path, OperationID: o.id, Tags: []string{"duplicates"}, Summary: o.summary, Description: o.description,
			Security:    []map[string][]string{{"session": {}}, {"bearer": {}}, {"basic": {}}},
			Extensions:  map[string]any{"x-access": "signed-in"},
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: taskSchema()}}},
			Responses: map[string]*huma.Response{
				"200": {Description: "What was found, planned or done", Content: map[string]*huma.MediaType{kind: {Schema: answer}}},
				"default": {
					Description: "What went wrong and what to do about it (RFC 9457)",
					Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
				},
			},
		})
	}
	doc.Tags = append(doc.Tags, &huma.Tag{Name: "duplicates", Description: "Equal files in folders of the box's own computer. Needs the consent to `file_dedup`."})
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
			"path":   text("The folder on the box's computer: one that is watched for the asker, or one in it"),
			"plan":   text("apply, undo: the plan; left out: the newest of the folder"),
			"action": text("plan", "reflink", "hardlink", "trash"), "rule": text("plan: which file stays", "oldest", "newest", "shortest"),
			"prefer": list("plan: folders whose files rather stay, the first one first"), "stay": list("plan: files and folders that are never folded"),
			"any_time": flag("plan: hard links also of files whose times differ"), "other_mounts": flag("also other file systems that are mounted in the folder"),
			"all": flag("read every file, also those without an equal, to say whether the box has it"), "similar": flag("scan: suggest pictures that look alike"),
			"groups": flag("name the files"),
		},
	}
}

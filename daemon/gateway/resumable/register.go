package resumable

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
)

// Register mounts the protocol below /v1/uploads and writes it down in doc, the
// OpenAPI document of the box. Both come from one table, so that no route lacks
// an access level or a description.
func (h *Handler) Register(server *httpd.Server, doc *huma.OpenAPI) {
	const one = basePath + "/{id}"
	for _, rt := range []struct {
		patterns []string
		access   httpd.Access
		handler  http.Handler
		op       huma.Operation
	}{
		// With a slash at the end, too: many clients are configured that way.
		{[]string{basePath, basePath + "/{$}", one}, httpd.Public, http.HandlerFunc(h.options), describeOptions()},
		{[]string{basePath, basePath + "/{$}"}, httpd.Files, h.serve(h.create), describeCreate()},
		{[]string{one}, httpd.Files, h.serve(h.head), describeHead()},
		{[]string{one}, httpd.Files, h.serve(h.patch), describePatch()},
		{[]string{one}, httpd.Files, h.serve(h.terminate), describeTerminate()},
		{[]string{one}, httpd.Files, h.serve(h.override), describeOverride()},
	} {
		for _, pattern := range rt.patterns {
			server.Handle(rt.op.Method+" "+pattern, rt.handler, rt.access)
		}
		rt.op.Tags = []string{"uploads"}
		rt.op.Security = []map[string][]string{{"session": {}}, {"bearer": {}}, {"basic": {}}}
		rt.op.Extensions = map[string]any{"x-access": "files"}
		if rt.access == httpd.Public {
			rt.op.Security = []map[string][]string{}
			rt.op.Extensions = map[string]any{"x-access": "public"}
		}
		rt.op.Responses["default"] = problemResponse()
		doc.AddOperation(&rt.op)
	}
	doc.Tags = append(doc.Tags, &huma.Tag{
		Name: "uploads", Description: "Resumable uploads: tus 1.0.0 with " + extensions + " (https://tus.io/protocols/resumable-upload)",
	})
}

func problemResponse() *huma.Response {
	return &huma.Response{
		Description: "What went wrong and what to do about it (RFC 9457)",
		Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
		},
	}
}

func describeOptions() huma.Operation {
	return huma.Operation{
		Method: http.MethodOptions, Path: basePath, OperationID: "describe-uploads",
		Summary: "What of tus the box speaks",
		Responses: map[string]*huma.Response{"204": {Description: "In the headers", Headers: headers(
			"Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm")}},
	}
}

func describeCreate() huma.Operation {
	return huma.Operation{
		Method: http.MethodPost, Path: basePath, OperationID: "create-upload",
		Summary: "Begin an upload, perhaps with its first bytes",
		Description: "Metadata keys: `path` or `filename`, `source`, `mtime` (RFC 3339 or Unix seconds), `device`, `sha256` (hex; verified). " +
			"Consent, quota and space are decided before the body. If the body is the whole file, the answer carries its receipt.",
		Parameters: append(tusHeader(),
			header("Upload-Length", "Bytes of the file; either this or Upload-Defer-Length"),
			header("Upload-Defer-Length", "1: a later PATCH says the length"),
			header("Upload-Metadata", "Pairs of a key and its value in base64"),
			header("Upload-Checksum", "Of this body: sha1 or sha256, a space, base64")),
		RequestBody: chunk(false),
		Responses: map[string]*huma.Response{"201": {Description: "Begun, or kept if all bytes came along", Headers: headers(
			"Location", "Upload-Offset", "Upload-Expires", "Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")}},
	}
}

func describeHead() huma.Operation {
	return huma.Operation{
		Method: http.MethodHead, Path: basePath + "/{id}", OperationID: "upload-offset",
		Summary:     "How far an upload got",
		Description: "Of a finished one also what became of it, for clients whose last answer was lost.",
		Parameters:  append(tusHeader(), uploadID()),
		Responses: map[string]*huma.Response{"200": {Description: "In the headers", Headers: headers(
			"Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Expires",
			"Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")}},
	}
}

func describePatch() huma.Operation {
	return huma.Operation{
		Method: http.MethodPatch, Path: basePath + "/{id}", OperationID: "continue-upload",
		Summary: "Send more bytes",
		Description: "The answer to the last part carries the receipt: only then is the file kept. A part that breaks off is kept as far as it " +
			"came, unless it had a checksum; a checksum that does not match answers 460 and keeps nothing of the part. " +
			"Another request for the same upload takes it over.",
		Parameters: append(tusHeader(), uploadID(),
			header("Upload-Offset", "Where these bytes belong; another offset than the box has answers 409"),
			header("Upload-Length", "Of an upload that was begun without one"),
			header("Upload-Checksum", "Of this body: sha1 or sha256, a space, base64")),
		RequestBody: chunk(true),
		Responses: map[string]*huma.Response{"204": {Description: "Taken", Headers: headers(
			"Upload-Offset", "Upload-Expires", "Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")}},
	}
}

func describeTerminate() huma.Operation {
	return huma.Operation{
		Method: http.MethodDelete, Path: basePath + "/{id}", OperationID: "cancel-upload",
		Summary:     "Give an upload up",
		Description: "A file that is kept already stays.",
		Parameters:  append(tusHeader(), uploadID()),
		Responses:   map[string]*huma.Response{"204": {Description: "Gone"}},
	}
}

func describeOverride() huma.Operation {
	return huma.Operation{
		Method: http.MethodPost, Path: basePath + "/{id}", OperationID: "override-method",
		Summary:     "PATCH, HEAD or DELETE for clients that can send none of them",
		Parameters:  append(tusHeader(), uploadID(), header("X-HTTP-Method-Override", "The method that is meant")),
		RequestBody: chunk(false),
		Responses: map[string]*huma.Response{
			"200": {Description: "As for HEAD"},
			"204": {Description: "As for PATCH and DELETE"},
		},
	}
}

func tusHeader() []*huma.Param {
	p := header("Tus-Resumable", version)
	p.Required = true
	p.Schema.Enum = []any{version}
	return []*huma.Param{p}
}

func header(name, description string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
}

func uploadID() *huma.Param {
	return &huma.Param{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}
}

func headers(names ...string) map[string]*huma.Param {
	m := map[string]*huma.Param{}
	for _, n := range names {
		m[n] = &huma.Header{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return m
}

func chunk(required bool) *huma.RequestBody {
	return &huma.RequestBody{Required: required, Content: map[string]*huma.MediaType{
		chunkType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
}

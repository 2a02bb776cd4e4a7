package resumable

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"yunbox.local/daemon/httpd"
)

// Register mounts both protocols below /v1/uploads and writes it down in doc, the
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
		{[]string{basePath, basePath + "/{$}"}, httpd.Files, http.HandlerFunc(h.createAny), describeCreate()},
		{[]string{one}, httpd.Files, serve(h.head, h.headDraft), describeHead()},
		{[]string{one}, httpd.Files, http.HandlerFunc(h.get), describeGet()},
		{[]string{one}, httpd.Files, serve(h.patch, h.appendDraft), describePatch()},
		{[]string{one}, httpd.Files, serve(h.terminate, h.cancelDraft), describeTerminate()},
		{[]string{one}, httpd.Files, serve(h.override, h.overrideDraft), describeOverride()},
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
		Name: "uploads", Description: "Resumable uploads in two protocols. " +
			"tus 1.0.0 with " + extensions + " (https://tus.io/protocols/resumable-upload): requests carry `Tus-Resumable`. " +
			"draft-ietf-httpbis-resumable-upload, interop versions 3 to 9 in `Upload-Draft-Interop-Version`, or none for the form that the RFC will have.",
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
		Summary: "What of tus the box speaks, and the limits of uploads",
		Responses: map[string]*huma.Response{"204": {Description: "In the headers", Headers: headers(
			"Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm", "Upload-Limit", "Accept-Patch")}},
	}
}

func describeCreate() huma.Operation {
	answer := headers("Location", "Upload-Offset", "Upload-Expires", "Upload-Complete", "Upload-Incomplete", "Upload-Limit", "Repr-Digest",
		"Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")
	return huma.Operation{
		Method: http.MethodPost, Path: basePath, OperationID: "create-upload",
		Summary: "Begin an upload, perhaps with its first bytes, or send a whole file",
		Description: "Consent, quota and space are decided before the body. If the body is the whole file, the answer carries its receipt.\n\n" +
			"tus: metadata keys are `path` or `filename`, `source` (left out: found by the names), `source_path` (the device's own name of the file, for that), `mtime` (RFC 3339 or Unix seconds), `device`, `sha256` (hex; verified), `again` (true: also what the asker deleted from the box, which is refused with 410 `deleted` otherwise).\n\n" +
			"IETF: `Upload-Complete` (version 3: `Upload-Incomplete`) says whether the body is all of the file. " +
			"The query says what `PUT /v1/files` takes there, and `path`; without it the file name of `Content-Disposition` counts. " +
			"The address of the upload comes in a 104 before the body is read, and in `Location`. " +
			"A request in no form that is known is an ordinary upload of its body.",
		Parameters: append(protocols(),
			query("path", "IETF: the whole path, as in PUT /v1/files"),
			query("source", "IETF: album, screenshot, camera, wechat, qq, tim, download, other; left out, or auto: found by the names"),
			query("source_path", "IETF: what the device itself calls the file, for finding the source; not kept"),
			query("mtime", "IETF: RFC 3339 or Unix seconds, decimals allowed"),
			query("device", "IETF: the sending device; left out: the one of the session"),
			query("again", "IETF: true: also what the asker deleted from the box"),
			header("Upload-Complete", "IETF: ?1 if the body is all of the file, else ?0"),
			header("Upload-Incomplete", "IETF, version 3: the reverse"),
			header("Content-Disposition", `IETF: inline; filename="IMG_0001.jpg"`),
			header("Repr-Digest", "IETF: of the whole file (RFC 9530), verified. What the asker has already is answered before the body"),
			header("Content-Digest", "IETF: of this body (RFC 9530), verified"),
			header("Upload-Length", "Bytes of the file; tus: either this or Upload-Defer-Length"),
			header("Upload-Defer-Length", "tus: 1, a later PATCH says the length"),
			header("Upload-Metadata", "Pairs of a key and its value in base64"),
			header("Upload-Checksum", "tus: of this body, sha1 or sha256, a space, base64")),
		RequestBody: bytesOf(false, chunkType, "application/octet-stream"),
		Responses: map[string]*huma.Response{
			"200": {Description: "IETF: kept; nothing was new", Headers: answer, Content: storedFile()},
			"201": {Description: "Begun, or kept if all bytes came along; then IETF has the receipt as JSON, too", Headers: answer, Content: storedFile()},
		},
	}
}

func describeHead() huma.Operation {
	return huma.Operation{
		Method: http.MethodHead, Path: basePath + "/{id}", OperationID: "upload-offset",
		Summary:     "How far an upload got",
		Description: "Of a finished one also what became of it, for clients whose last answer was lost. Whoever sends bytes for it at that moment has to let go.",
		Parameters:  append(protocols(), uploadID()),
		Responses: map[string]*huma.Response{
			"200": {Description: "tus: in the headers", Headers: headers(
				"Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Expires",
				"Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")},
			"204": offsetAnswer(),
		},
	}
}

func offsetAnswer() *huma.Response {
	return &huma.Response{Description: "IETF: in the headers", Headers: headers(
		"Upload-Offset", "Upload-Length", "Upload-Complete", "Upload-Incomplete", "Upload-Limit",
		"Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")}
}

func describeGet() huma.Operation {
	return huma.Operation{
		Method: http.MethodGet, Path: basePath + "/{id}", OperationID: "get-upload-offset",
		Summary:    "How far an upload got, for clients that cannot send HEAD; of a finished one, the file",
		Parameters: append(protocols()[1:], uploadID()),
		Responses: map[string]*huma.Response{
			"200": {Description: "The file that the upload became, with its offset in the headers", Content: bytesOf(true, "application/octet-stream").Content},
			"204": offsetAnswer(),
		},
	}
}

func describePatch() huma.Operation {
	answer := headers("Upload-Offset", "Upload-Expires", "Upload-Complete", "Upload-Incomplete", "Upload-Limit", "Repr-Digest",
		"Yunbox-Item", "Yunbox-Sha256", "Yunbox-Stored", "Yunbox-Path")
	return huma.Operation{
		Method: http.MethodPatch, Path: basePath + "/{id}", OperationID: "continue-upload",
		Summary: "Send more bytes",
		Description: "The answer to the last part carries the receipt: only then is the file kept. A part that breaks off is kept as far as it " +
			"came, in tus unless it had a checksum; a checksum that does not match answers 460 (IETF: 422) and keeps nothing of the part. " +
			"Another request for the same upload takes it over.",
		Parameters: append(protocols(), uploadID(),
			header("Upload-Offset", "Where these bytes belong; another offset than the box has answers 409"),
			header("Upload-Complete", "IETF: ?1 if these bytes are the rest of the file"),
			header("Upload-Incomplete", "IETF, version 3: ?1 if they are not"),
			header("Content-Digest", "IETF: of this body (RFC 9530), verified"),
			header("Upload-Length", "Of an upload that was begun without one"),
			header("Upload-Checksum", "tus: of this body, sha1 or sha256, a space, base64")),
		RequestBody: bytesOf(true, chunkType, partialType),
		Responses: map[string]*huma.Response{
			"200": {Description: "IETF: kept; nothing was new", Headers: answer, Content: storedFile()},
			"201": {Description: "IETF: kept; before version 7 also: taken", Headers: answer, Content: storedFile()},
			"204": {Description: "Taken", Headers: answer},
		},
	}
}

func describeTerminate() huma.Operation {
	return huma.Operation{
		Method: http.MethodDelete, Path: basePath + "/{id}", OperationID: "cancel-upload",
		Summary:     "Give an upload up",
		Description: "A file that is kept already stays.",
		Parameters:  append(protocols(), uploadID()),
		Responses:   map[string]*huma.Response{"204": {Description: "Gone"}},
	}
}

func describeOverride() huma.Operation {
	return huma.Operation{
		Method: http.MethodPost, Path: basePath + "/{id}", OperationID: "override-method",
		Summary:     "PATCH for clients that cannot send it; in tus also HEAD and DELETE",
		Parameters:  append(protocols(), uploadID(), header("X-HTTP-Method-Override", "The method that is meant")),
		RequestBody: bytesOf(false, chunkType, partialType),
		Responses: map[string]*huma.Response{
			"200": {Description: "As for HEAD, or PATCH of the IETF's protocol"},
			"201": {Description: "As for PATCH of the IETF's protocol"},
			"204": {Description: "As for PATCH and DELETE"},
		},
	}
}

// protocols are the headers by which a request says what it speaks.
func protocols() []*huma.Param {
	tus, ietf := header("Tus-Resumable", "tus"), header(versionField, "IETF; left out: the form of the RFC")
	tus.Schema.Enum = []any{tusVersion}
	for d := draft3; d <= draft9; d++ {
		ietf.Schema.Enum = append(ietf.Schema.Enum, strconv.Itoa(int(d)))
	}
	return []*huma.Param{tus, ietf}
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

func query(name, description string) *huma.Param {
	p := header(name, description)
	p.In = "query"
	return p
}

func bytesOf(required bool, types ...string) *huma.RequestBody {
	body := &huma.RequestBody{Required: required, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		body.Content[t] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return body
}

// storedFile is the answer that PUT /v1/files gives, too.
func storedFile() map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/StoredFile"}}}
}

package webdav

import (
	"net/http"

	"yunbox.local/daemon/problem"
)

// sourceOf says where the file at path comes from, which decides whose consent it
// needs. WebDAV has no word for that: a client may say it by the header
// Yunbox-Source or the query parameter source.
func sourceOf(r *http.Request, path string) (string, error) {
	header, query := r.Header.Get("Yunbox-Source"), r.URL.Query().Get("source")
	switch {
	case header != "" && query != "" && header != query:
		return "", &problem.Error{
			Kind: problem.Invalid, Op: "webdav.source", Title: "The source of the file is said twice",
			Detail: "The header Yunbox-Source and the parameter source of the address differ.", Hint: "Send one of them.",
		}
	case header != "":
		return header, nil
	case query != "":
		return query, nil
	}
	return sourceOfPath(path), nil
}

// sourceOfPath is the source of a file whose client says none.
func sourceOfPath(string) string { return "other" }

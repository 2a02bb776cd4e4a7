package webdav

import (
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
)

// metaOf is what is known of a file that v makes before its headers are read: its
// place, its device and its source, which decides whose consent it needs. WebDAV has
// no word for the source: a client may say it by the header Yunbox-Source or the
// query parameter source; else its names tell. named is the path by which they do;
// that of a folder ends with a slash.
func metaOf(v *visit, named string) (ingest.Meta, error) {
	meta := ingest.Meta{Path: v.path, Device: v.who.Device, DevicePath: named, Drive: true}
	header, query := v.r.Header.Get("Yunbox-Source"), v.r.URL.Query().Get("source")
	switch {
	case header != "" && query != "" && header != query:
		return meta, &problem.Error{
			Kind: problem.Invalid, Op: "webdav.source", Title: "The source of the file is said twice",
			Detail: "The header Yunbox-Source and the parameter source of the address differ.", Hint: "Send one of them.",
		}
	case header != "":
		meta.Source = header
	case query != "":
		meta.Source = query
	}
	meta.FindSource()
	return meta, nil
}

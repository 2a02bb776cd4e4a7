package nextcloud

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage"
)

// The namespaces of the properties.
const (
	ownCloud  = "http://owncloud.org/ns"
	nextCloud = "http://nextcloud.org/ns"
)

// What may be done with everything of one's own: it can be read (G), deleted (D),
// renamed (N) and moved (V), files written (W), and in folders files (C) and
// folders (K) made. Sharing (R) is not.
const (
	filePermissions   = "GDNVW"
	folderPermissions = "GDNVCK"
)

// live is webdav.Dialect.Live. The size of a folder is not told, because all that
// is in it would have to be counted at each listing.
func (h *Handler) live(name xml.Name, f webdav.Found) (string, bool) {
	switch name {
	case xml.Name{Space: ownCloud, Local: "id"}:
		return h.globalID(fileID(f)), true
	case xml.Name{Space: ownCloud, Local: "fileid"}:
		return strconv.FormatInt(fileID(f), 10), true
	case xml.Name{Space: ownCloud, Local: "permissions"}:
		if f.File {
			return filePermissions, true
		}
		return folderPermissions, true
	case xml.Name{Space: ownCloud, Local: "size"}:
		return strconv.FormatInt(f.Item.Size, 10), f.File
	case xml.Name{Space: ownCloud, Local: "checksums"}:
		return `<oc:checksum xmlns:oc="` + ownCloud + `">SHA256:` + f.Item.Ref.String() + `</oc:checksum>`, f.File
	case xml.Name{Space: ownCloud, Local: "owner-id"}, xml.Name{Space: ownCloud, Local: "owner-display-name"}:
		return escaped(f.Who.Name), true
	case xml.Name{Space: ownCloud, Local: "data-fingerprint"}, xml.Name{Space: ownCloud, Local: "share-types"},
		xml.Name{Space: nextCloud, Local: "mount-type"}:
		return "", true
	case xml.Name{Space: ownCloud, Local: "comments-unread"}, xml.Name{Space: nextCloud, Local: "is-encrypted"}:
		return "0", true
	case xml.Name{Space: nextCloud, Local: "has-preview"}:
		return "false", true
	case xml.Name{Space: nextCloud, Local: "upload_time"}:
		return strconv.FormatInt(f.Item.Added.Unix(), 10), f.File
	}
	return "", false
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

// fileID is a number that stays when the file or folder moves. Items have numbers
// made of the time, far above those of folders.
func fileID(f webdav.Found) int64 {
	if f.File {
		return int64(f.Item.ID)
	}
	return f.Folder.ID
}

// globalID is what clients know a file or folder by, on whatever server it lies.
func (h *Handler) globalID(id int64) string { return fmt.Sprintf("%08d", id) + "oc" + h.Instance }

// announced is webdav.Dialect.Announced.
func announced(r *http.Request, meta *ingest.Meta) error {
	total, err := totalLength(r)
	if err != nil {
		return err
	}
	switch {
	case r.Method == "MOVE": // the bytes have come before
		meta.Size = total
	case total >= 0 && meta.Size >= 0 && total != meta.Size:
		return badHeader("OC-Total-Length is not the length of the body.")
	case meta.Size < 0:
		meta.Size = total
	}
	kind, sum, _ := strings.Cut(r.Header.Get("OC-Checksum"), ":")
	switch strings.ToUpper(kind) {
	case "SHA256":
		want, err := storage.ParseRef(strings.ToLower(sum))
		if err != nil {
			return badHeader("OC-Checksum is no SHA-256 in hex digits.")
		}
		if !meta.Want.IsZero() && meta.Want != want {
			return badHeader("OC-Checksum is another SHA-256 than the one of the digest header.")
		}
		meta.Want = want
	case "SHA1":
		if meta.WantSHA1, err = storage.ParseSHA1(strings.ToLower(sum)); err != nil {
			return badHeader("OC-Checksum is no SHA-1 in hex digits.")
		}
	}
	return nil // others, such as MD5, prove nothing that TLS does not
}

// totalLength is the length of the whole file; -1: not said.
func totalLength(r *http.Request) (int64, error) {
	s := r.Header.Get("OC-Total-Length")
	if s == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strings.Trim(s, "0123456789") != "" {
		return -1, badHeader("OC-Total-Length is no number of bytes.")
	}
	return n, nil
}

func badHeader(detail string) error {
	return &problem.Error{
		Kind: problem.Invalid, Op: "nextcloud.header", Title: "A header cannot be used", Detail: detail,
		Hint: "Correct it, or leave it out.",
	}
}

// stored is webdav.Dialect.Stored.
func (h *Handler) stored(header http.Header, item catalog.Item) {
	header.Set("OC-ETag", content.ETag(item.Ref))
	header.Set("OC-FileId", h.globalID(int64(item.ID)))
}

const sha1Of = `SELECT sha1 FROM blob WHERE ref = +?`

// served is webdav.Dialect.Served: clients check what they download by the SHA-1, the
// only checksum that all of them know.
func (h *Handler) served(ctx context.Context, header http.Header, item catalog.Item) error {
	var sum []byte
	err := h.DB.Read(ctx, func(tx *db.Tx) error { return tx.QueryRow(sha1Of, item.Ref[:]).Scan(&sum) })
	if errors.Is(err, sql.ErrNoRows) { // removed just now
		return nil
	}
	if err == nil {
		header.Set("OC-Checksum", "SHA1:"+hex.EncodeToString(sum))
	}
	return err
}

// status is webdav.Dialect.Status: clients send a file again after 400, and give
// it up after 422.
func status(k problem.Kind) int {
	if k == problem.Mismatch {
		return http.StatusBadRequest
	}
	return 0
}

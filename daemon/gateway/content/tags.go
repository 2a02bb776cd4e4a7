package content

import (
	"mime"
	"path"
	"strings"

	"yunbox.local/storage"
)

// ETag is the strong entity tag of a content.
func ETag(ref storage.Ref) string { return `"` + ref.String() + `"` }

// attachment is a Content-Disposition that saves a file under its own name in
// any script (RFC 6266, RFC 8187).
func attachment(name string) string {
	if v := mime.FormatMediaType("attachment", map[string]string{"filename": name}); v != "" {
		return v
	}
	return "attachment"
}

// Type is the media type of a file of that name. It is decided by the extension alone, from a table of our own: the
// system's differs from box to box, and looking into the bytes is what nosniff
// forbids browsers. Whatever a browser could run is missing on purpose.
func Type(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".jpg", ".jpeg", ".jpe":
		return "image/jpeg"
	case ".png":
		return "image/png"
	case ".gif":
		return "image/gif"
	case ".webp":
		return "image/webp"
	case ".heic":
		return "image/heic"
	case ".heif":
		return "image/heif"
	case ".avif":
		return "image/avif"
	case ".bmp":
		return "image/bmp"
	case ".tif", ".tiff", ".dng":
		return "image/tiff"
	case ".mp4", ".m4v":
		return "video/mp4"
	case ".mov":
		return "video/quicktime"
	case ".3gp":
		return "video/3gpp"
	case ".mkv":
		return "video/x-matroska"
	case ".webm":
		return "video/webm"
	case ".mp3":
		return "audio/mpeg"
	case ".m4a", ".aac":
		return "audio/mp4"
	case ".flac":
		return "audio/flac"
	case ".wav":
		return "audio/wav"
	case ".pdf":
		return "application/pdf"
	case ".zip":
		return "application/zip"
	case ".txt", ".md", ".csv", ".log":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// HasTag says whether a list of entity tags is "*" or holds that of ref. Weak
// tags never match: a hash is either the same or another.
func HasTag(list string, ref storage.Ref) bool {
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.Trim(tag, " \t"); tag == "*" || tag == ETag(ref) {
			return true
		}
	}
	return false
}

package nextcloud

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/problem"
)

// maxQuestion is the most bytes of a PROPFIND's body.
const maxQuestion = 128 << 10

// list answers PROPFIND: of a folder, with the chunks in it unless Depth is 0, or of
// one chunk. All that is known of them is told, whatever was asked for. Who asks is
// about to go on, so whoever is still sending must let go: what is told is final.
func (h *Handler) list(e *errand) error {
	if _, err := io.Copy(io.Discard, io.LimitReader(e.r.Body, maxQuestion)); err != nil {
		return err
	}
	f, err := h.find(e)
	if problem.KindOf(err) == problem.Conflict && e.chunk == "" {
		// Two files are sent under this name, and Android does not say here which it
		// means. If it is told of no chunks it sends them from the first on, and those
		// that are here already are only compared.
		out := e.multistatus()
		writeFolder(out, e.href(), 0)
		return finish(out)
	}
	if err != nil {
		return err
	}
	ctx := e.r.Context()
	info, err := h.Ingest.Describe(ctx, principal(e.r).User, f.upload)
	if err != nil {
		return err
	}
	if info.Finished != nil {
		return noFolder()
	}
	var only *chunk
	if e.chunk != "" {
		n, err := parseChunkName(e.chunk)
		if err != nil {
			return err
		}
		c, err := h.listed(ctx, f, n.number, info.Offset)
		if err != nil {
			return err
		}
		only = &c
	}
	first, err := h.chunksAfter(ctx, chunksAfter, f.upload, -1) // an error can still be told
	if err != nil {
		return err
	}
	base, out := e.href(), e.multistatus()
	if only != nil {
		writeChunk(out, base, *only)
	} else {
		writeFolder(out, base, info.Offset)
		if e.r.Header.Get("Depth") != "0" {
			if err := h.writeChunks(ctx, out, base, f, first, info.Offset); err != nil {
				return errors.Join(err, out.Flush())
			}
		}
	}
	return finish(out)
}

// listed returns chunk number, if it counts: it was appended and ends before offset,
// or is set aside.
func (h *Handler) listed(ctx context.Context, f chunkFolder, number, offset int64) (c chunk, err error) {
	err = h.DB.Read(ctx, func(tx *db.Tx) error {
		for _, query := range []string{chunkAt, earlyAt} {
			c, err = scanChunk(tx.QueryRow(query, f.upload, number))
			if err == nil && c.end <= offset {
				return nil
			}
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		return noFolder()
	})
	return c, err
}

// writeChunks writes the chunks that were appended, of which first are the first ones,
// and those set aside.
func (h *Handler) writeChunks(ctx context.Context, out *bufio.Writer, base string, f chunkFolder, first []chunk, offset int64) (err error) {
	after := int64(-1)
	for list := first; len(list) > 0; {
		for _, c := range list {
			if c.end <= offset {
				writeChunk(out, base, c)
				after = c.number
			}
		}
		if list, err = h.chunksAfter(ctx, chunksAfter, f.upload, list[len(list)-1].number); err != nil {
			return err
		}
	}
	early, err := h.chunksAfter(ctx, earlyAfter, f.upload, after) // fewer than one page
	for _, c := range early {
		writeChunk(out, base, c)
	}
	return err
}

// href is the address of the folder.
func (e *errand) href() string {
	user, _, _ := cutUser(e.r.URL)
	return uploadsPrefix + user + "/" + url.PathEscape(e.name) + "/"
}

func (e *errand) multistatus() *bufio.Writer {
	e.w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	e.w.Header().Set("Cache-Control", "no-store")
	e.w.WriteHeader(http.StatusMultiStatus)
	out := bufio.NewWriter(e.w)
	_, _ = out.WriteString(xml.Header + `<d:multistatus xmlns:d="DAV:">`) // an error stays in the writer
	return out
}

func finish(out *bufio.Writer) error {
	_, _ = out.WriteString("</d:multistatus>\n")
	_ = out.Flush() // a client that is gone is told nothing
	return nil
}

func writeFolder(out *bufio.Writer, href string, bytes int64) {
	writeResponse(out, href, `<d:resourcetype><d:collection/></d:resourcetype><d:getetag>"f`+strconv.FormatInt(bytes, 10)+`"</d:getetag>`)
}

func writeChunk(out *bufio.Writer, base string, c chunk) {
	writeResponse(out, base+c.name, `<d:resourcetype/><d:getcontentlength>`+strconv.FormatInt(c.size, 10)+`</d:getcontentlength><d:getcontenttype>`+content.Type("")+
		`</d:getcontenttype><d:getetag>`+escaped(c.etag())+`</d:getetag><d:getlastmodified>`+time.UnixMilli(c.written).UTC().Format(http.TimeFormat)+`</d:getlastmodified>`)
}

func writeResponse(out *bufio.Writer, href, props string) {
	for _, s := range []string{"<d:response><d:href>", escaped(href), "</d:href><d:propstat><d:prop>", props,
		"</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"} {
		_, _ = out.WriteString(s)
	}
}

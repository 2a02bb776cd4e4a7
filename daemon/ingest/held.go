package ingest

import (
	"context"
	"encoding/json"

	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/rights"
)

// Held says what this package keeps about people.
func (in *Ingest) Held() rights.Holder {
	return rights.Holder{Package: "ingest", Categories: []rights.Category{{
		ID: "uploads", Title: rights.Words{EN: "Uploads on their way", ZH: "进行中的上传"},
		What: rights.Words{EN: "Uploads that can be resumed: where the file is to go and what its device said about it. Finished ones stay for a week, for a client whose answer was lost.", ZH: "可续传的上传：文件去向和设备提供的信息。完成后保留一周，以便未收到答复的客户端查询。"},
		From: rights.Words{EN: "From your devices.", ZH: "由您的设备提供。"},
		Kept: rights.Words{EN: "Seven days after the last progress; what is not finished goes when you withdraw its consent.", ZH: "最后一次进展后七天；未完成的在您撤回相应同意时删除。"},
		Fix:  rights.Words{EN: "Cancel it and send it again.", ZH: "取消后重新上传。"}, Purposes: []string{"storage", "album_backup", "wechat_backup", "qq_backup", "camera_transfer"},
		Erase: rights.Erase{Step: in.eraseUploads, Count: countUploads},
		Tables: []rights.Table{{
			// There is no index by person: it would cost every upload. Rows live for a week.
			Name: "upload", Kind: "upload", Key: []string{"t.id"}, Columns: []rights.Column{
				rights.Text("path"), rights.Text("size"), rights.Time("mtime"), rights.Text("source"), rights.Text("source_by"), rights.ID("device"),
				rights.Time("created"), rights.Time("expires"), rights.ID("item"), rights.Hash("sha256").Of("t.ref"), rights.Text("outcome"), rights.JSON("extra")},
		}},
	}}}
}

const (
	uploadsOf     = `SELECT id FROM upload WHERE user = +?1 ORDER BY id LIMIT +?2`
	uploadsFor    = `SELECT id FROM upload WHERE user = +?1 AND source IN (SELECT value FROM json_each(?3)) ORDER BY id LIMIT +?2`
	uploadsForSum = `SELECT count(*), coalesce(sum(max(size, 0)), 0) FROM upload WHERE user = +?1 AND source IN (SELECT value FROM json_each(?2))`
)

// sourcesOf returns the sources of a purpose as a JSON array.
func sourcesOf(purpose string) string {
	b, err := json.Marshal(consent.SourcesOf(consent.Purpose(purpose)))
	if err != nil {
		panic(err) // a list of strings can always be encoded
	}
	return string(b)
}

// eraseUploads ends uploads and removes what has arrived of them.
func (in *Ingest) eraseUploads(ctx context.Context, u ident.UserID, w rights.Which, n int) (int, error) {
	query, args := uploadsOf, []any{int64(u), min(n, expireBatch)}
	if w.Purpose != "" {
		query, args = uploadsFor, append(args, sourcesOf(w.Purpose))
	}
	ids, err := in.ids(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return in.dropAll(ctx, ids)
}

func countUploads(ctx context.Context, tx *db.Tx, u ident.UserID, purpose string) (s rights.Sum, err error) {
	err = tx.QueryRowContext(ctx, uploadsForSum, int64(u), sourcesOf(purpose)).Scan(&s.Records, &s.Bytes)
	return s, err
}

// SweepDead removes at once the files of contents that nobody keeps any longer, which
// Run does soon after.
func (in *Ingest) SweepDead(ctx context.Context) error {
	if err := in.db.Err(); err != nil {
		return err
	}
	_, err := in.sweepDead(ctx)
	return err
}

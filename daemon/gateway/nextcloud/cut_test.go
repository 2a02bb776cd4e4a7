package nextcloud_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"yunbox.local/daemon/daemontest"
)

// R01 R02: a chunk is noted before its bytes are durable. If the power goes in
// between, it is not listed, and is taken when it comes again.
func TestNotedChunkWithoutBytesCountsForNothing(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	b := daemontest.StartOn(t, state, nil)
	w := &world{Box: b, t: t, ada: b.Bind()}
	w.ada.Grant("storage")
	to := []string{"Destination", files + "a.bin"}
	for _, asked := range []string{"listed", "sent", "moved"} {
		w.do("MKCOL", uploads+asked, "", to...).is(201)
		w.do("PUT", uploads+asked+"/1", "12345", to...).is(201)
		b.Stop()
		db, err := sql.Open("sqlite3", filepath.Join(state, "box.db"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := db.Exec(`INSERT INTO nextcloud_chunk (upload, number, name, size, end, crc, written)
			SELECT upload, 2, '2', 5, 10, 0, 0 FROM nextcloud_folder WHERE name = ?`, asked)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			t.Fatalf("%d rows, %v", n, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		b.Restart()
		switch asked {
		case "listed":
			w.lists(asked, "1:5")
			w.do("PROPFIND", uploads+asked+"/2", "", "Depth", "0").is(404)
		case "moved":
			w.do("MOVE", uploads+asked+"/.file", "", append(to, "OC-Total-Length", "10")...).is(400)
		}
		w.do("PUT", uploads+asked+"/2", "67890", to...).is(201)
		w.lists(asked, "1:5 2:5")
		w.do("MOVE", uploads+asked+"/.file", "", append(to, "OC-Total-Length", "10")...)
		if got := w.do("GET", files+"a.bin", "").body; got != "1234567890" {
			t.Errorf("%s: %q", asked, got)
		}
	}
}

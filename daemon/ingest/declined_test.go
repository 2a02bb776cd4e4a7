package ingest_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"testing"

	"yunbox.local/daemon/catalog"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/ingest"
	"yunbox.local/daemon/problem"
	"yunbox.local/daemon/source"
	"yunbox.local/storage"
	"yunbox.local/storage/vfs/vfstest"
)

// deleteForGood removes what ann has at a path.
func (b *box) deleteForGood(path string) {
	b.t.Helper()
	ctx := context.Background()
	it, err := b.cat.Lookup(ctx, ann, path)
	must(b.t, err)
	must(b.t, b.cat.Trash(ctx, ann, it.ID))
	must(b.t, b.cat.Purge(ctx, ann, it.ID))
	_, err = b.in.Sweep(ctx)
	must(b.t, err)
}

// The one rule, for each way in which a file may come.
func TestWhatIsDeclined(t *testing.T) {
	b := start(t, settings{})
	content := []byte("a photo that was deleted")
	for _, c := range []struct {
		what   string
		change func(*ingest.Meta)
		device ident.DeviceID
		kept   bool
	}{
		{"a backup", func(*ingest.Meta) {}, phone, false},
		{"a backup of no device", func(*ingest.Meta) {}, 0, false},
		{"a backup that says what it is", func(m *ingest.Meta) { m.SourceBy = source.Declared }, phone, false},
		{"again", func(m *ingest.Meta) { m.Again = true }, phone, true},
		{"a drive", func(m *ingest.Meta) { m.Drive = true }, 0, true},
		{"a device that backs up by a drive's protocol", func(m *ingest.Meta) { m.Drive = true }, phone, false},
		{"again by that", func(m *ingest.Meta) { m.Drive, m.Again = true, true }, phone, true},
		{"other", func(m *ingest.Meta) { m.Source = source.Other }, phone, true},
		{"other, found", func(m *ingest.Meta) { m.Source, m.SourceBy = source.Other, source.None }, phone, false},
		{"a document by a device's drive", func(m *ingest.Meta) { m.Drive, m.Source, m.SourceBy = true, source.Other, source.None }, phone, true},
	} {
		for _, way := range []string{"announced", "announced by SHA-1", "not announced", "resumed", "restated"} {
			first := album("a.jpg", len(content))
			first.Again = true // after the first time
			_, err := b.send(b.grant(ann, consent.AlbumBackup), first, bytes.NewReader(content))
			must(t, err)
			b.deleteForGood("a.jpg")
			m := album("b.jpg", len(content))
			m.Device = c.device
			c.change(&m)
			g, err := b.ledger.GrantFor(t.Context(), ann, c.device, m.Source)
			must(t, err)
			switch way {
			case "announced":
				m.Want = sha256.Sum256(content)
			case "announced by SHA-1":
				m.WantSHA1 = sha1.Sum(content)
			}
			if way == "announced" || way == "announced by SHA-1" {
				_, known, err := b.in.Known(t.Context(), g, m)
				if problem.KindOf(err) == problem.Deleted == c.kept || known {
					t.Errorf("%s, %s: known is %v, %v", c.what, way, known, err)
				}
				if !c.kept {
					_, err = b.send(g, m, unread{t})
					want(t, err, problem.Deleted)
					continue
				}
			}
			var r ingest.Result
			switch way {
			case "resumed", "restated":
				r, err = b.sendInParts(g, m, content, way == "restated")
			default:
				r, err = b.send(g, m, bytes.NewReader(content))
			}
			if c.kept {
				if err != nil || r.Stored != ingest.StoredNew {
					t.Errorf("%s, %s: %+v, %v", c.what, way, r, err)
					continue
				}
				b.deleteForGood("b.jpg")
				continue
			}
			want(t, err, problem.Deleted)
			list, _, err := b.cat.Ledger(t.Context(), ann, c.device, catalog.OfferDeclined, "", 1)
			must(t, err)
			if len(list) != 1 || list[0].Path != "b.jpg" || list[0].Ref != sha256.Sum256(content) || list[0].Size != int64(len(content)) || list[0].Kind != problem.Deleted {
				t.Errorf("%s, %s: the ledger has %+v", c.what, way, list)
			}
			if blobs, staged := b.blobs(); blobs != 0 || staged != 0 {
				t.Errorf("%s, %s: %d blobs, %d staged", c.what, way, blobs, staged)
			}
		}
	}
}

// sendInParts is an upload that is resumed, and told what it is before or after that.
func (b *box) sendInParts(g consent.Grant, m ingest.Meta, content []byte, restated bool) (ingest.Result, error) {
	b.t.Helper()
	ctx := context.Background()
	first := m
	if restated { // it began as what it is not: the rule goes by what was said last
		first.Again, first.Drive = !m.Again, false
	}
	i, err := b.in.Begin(ctx, g, first)
	must(b.t, err)
	must(b.t, i.Persist(ctx))
	_, err = i.Write(ctx, 0, bytes.NewReader(content[:5]))
	must(b.t, err)
	must(b.t, i.Close())
	if restated {
		must(b.t, b.in.Restate(ctx, g, i.ID(), m))
	}
	i, err = b.in.Resume(ctx, g, i.ID())
	must(b.t, err)
	defer i.Close()
	_, err = i.Write(ctx, 5, bytes.NewReader(content[5:]))
	must(b.t, err)
	return i.Finish(ctx)
}

// What is declined after its bytes came is not published: that would cost a flush
// of all of the disk when it is removed.
func TestDecliningFlushesNothing(t *testing.T) {
	disk := vfstest.NewDisk()
	b := start(t, settings{disk: disk})
	b.mustPut(ann, "a", "deleted")
	b.deleteForGood("a")
	const publishes = vfstest.OpSyncAll | vfstest.OpSyncDir | vfstest.OpRename
	before := disk.Calls(publishes)
	for range 20 {
		_, err := b.put(ann, "b", []byte("deleted"))
		want(t, err, problem.Deleted)
	}
	if n := disk.Calls(publishes) - before; n != 0 {
		t.Errorf("%d flushes of folders and of the disk, and renamings, for what was declined", n)
	}
	if b.mustPut(ann, "c", "kept"); disk.Calls(publishes) == before {
		t.Error("publishing is not what this counts")
	}
}

// A content that an older version forgot by its SHA-1 is known by it after it was
// declined once; the content without bytes is nobody's.
func TestDeletedBySHA1(t *testing.T) {
	b := start(t, settings{})
	b.mustPut(ann, "a", "deleted")
	b.deleteForGood("a")
	must(t, b.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM tombstone_sha1`)
		return err
	}))
	known := func(u ident.UserID, content string) (d catalog.Deletion) {
		t.Helper()
		must(t, b.db.Read(t.Context(), func(tx *db.Tx) error {
			list, err := b.cat.DeletedSHA1In(tx, u, []storage.SHA1{sha1.Sum([]byte("never")), sha1.Sum([]byte(content))})
			if err == nil && !list[0].Time.IsZero() {
				t.Error("what was never here was deleted")
			}
			d = list[1]
			return err
		}))
		return d
	}
	if d := known(ann, "deleted"); !d.Time.IsZero() {
		t.Errorf("%+v", d)
	}
	_, err := b.put(ann, "a", []byte("deleted"))
	want(t, err, problem.Deleted)
	if d := known(ann, "deleted"); d.Time.IsZero() || d.Ref != sha256.Sum256([]byte("deleted")) || d.Trashed {
		t.Errorf("%+v", d)
	}
	if d := known(bob, "deleted"); !d.Time.IsZero() {
		t.Errorf("bob is told of %+v", d)
	}
	b.mustPut(ann, "empty", "")
	b.deleteForGood("empty")
	if d := known(ann, ""); !d.Time.IsZero() {
		t.Errorf("%+v", d)
	}
	b.mustPut(ann, "empty again", "")
}

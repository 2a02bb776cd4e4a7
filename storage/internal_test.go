package storage

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"yunbox.local/storage/vfs"
	"yunbox.local/storage/vfs/vfstest"
)

// HeldBuffers is for tests.
func HeldBuffers(s *Store) int64 { return s.buffers.held.Load() }

func sampleRecords(t testing.TB) []record {
	a, b := sha256.New(), sha1.New()
	a.Write([]byte("yunbox"))
	b.Write([]byte("yunbox"))
	stateA, errA := a.(encoding.BinaryMarshaler).MarshalBinary()
	stateB, errB := b.(encoding.BinaryMarshaler).MarshalBinary()
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	now := time.UnixMilli(1_800_000_000_000).UTC()
	return []record{
		{seq: 1, size: 10, offset: 6, time: now, hash: stateA, sha1: stateB},
		{seq: 1 << 40, size: -1, offset: 6, time: now, hash: stateA, sha1: stateB},
		{seq: 2, size: 6, offset: 6, time: now, sealed: true, hash: a.Sum(nil), sha1: b.Sum(nil)},
	}
}

func TestRecord(t *testing.T) {
	for _, r := range sampleRecords(t) {
		b, err := r.marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.marshal(); err != nil || !bytes.Equal(again, b) || !got.time.Equal(r.time) {
			t.Errorf("%+v came back as %+v", r, got)
		}
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := parseRecord(b); err == nil {
				t.Fatalf("bit %d flipped, and nobody saw it", bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		if _, err := parseRecord(b[:slotSize-1]); err == nil {
			t.Error("a short slot was accepted")
		}
	}
	r := sampleRecords(t)[0]
	r.hash = make([]byte, slotSize)
	if _, err := r.marshal(); err == nil {
		t.Error("a state that does not fit was accepted")
	}
}

// A torn or stale slot leaves the other one in force.
func TestReadRecord(t *testing.T) {
	disk := vfstest.NewDisk()
	f, err := disk.OpenFile("state", vfs.CreateNew, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readRecord(f); err != errNoRecord {
		t.Errorf("an empty file: %v", err)
	}
	sample := sampleRecords(t)[0]
	for seq := uint64(1); seq < 6; seq++ {
		r := sample
		r.seq = seq
		b, err := r.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b[:300], r.slot()); err != nil { // torn
			t.Fatal(err)
		}
		if got, err := readRecord(f); seq > 1 && (err != nil || got.seq != seq-1) {
			t.Errorf("torn slot %d: %+v %v", seq, got, err)
		}
		if _, err := f.WriteAt(b, r.slot()); err != nil {
			t.Fatal(err)
		}
		if got, err := readRecord(f); err != nil || got.seq != seq {
			t.Errorf("slot %d: %+v %v", seq, got, err)
		}
	}
}

// Whatever the bytes: no panic, and what is accepted is consistent.
func FuzzParseRecord(f *testing.F) {
	for _, r := range sampleRecords(f) {
		b, err := r.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:100])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkParsed(t, b)
		if len(b) >= slotSize-4 { // get past the checksum
			fixed := append(bytes.Clone(b[:slotSize-4]), 0, 0, 0, 0)
			copy(fixed, stateMagic)
			fixChecksum(fixed)
			checkParsed(t, fixed)
		}
	})
}

func fixChecksum(b []byte) {
	binary.LittleEndian.PutUint32(b[slotSize-4:], crc32.Checksum(b[:slotSize-4], castagnoli))
}

func checkParsed(t *testing.T, b []byte) {
	r, err := parseRecord(b)
	if err != nil {
		return
	}
	if r.seq == 0 || r.offset < 0 || r.size < -1 || r.size >= 0 && r.offset > r.size {
		t.Fatalf("accepted %+v", r)
	}
	if r.sealed {
		_ = Ref(r.hash) // would panic
		_ = SHA1(r.sha1)
	}
	u := &Upload{hashes: newHashes()}
	_ = u.restoreHashes(r) // may fail, must not panic
}

func FuzzParseVolume(f *testing.F) {
	v := volume{newID(), time.Unix(1_800_000_000, 0)}
	f.Add(v.marshal())
	f.Add([]byte("yunbox volume 1\n\n\n\n"))
	f.Add([]byte("yunbox volume 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseVolume(b)
		if err == nil && (!bytes.Equal(v.marshal(), b) || !validID(v.id)) {
			t.Fatalf("%q was accepted and would be written as %q", b, v.marshal())
		}
	})
}

func TestVolume(t *testing.T) {
	v := volume{newID(), time.Unix(1_800_000_000, 0)}
	text := v.marshal()
	if got, err := parseVolume(text); err != nil || got.id != v.id || !got.created.Equal(v.created) {
		t.Fatalf("%+v %v", got, err)
	}
	for i := range text {
		text[i] ^= 1
		if _, err := parseVolume(text); err == nil {
			t.Errorf("byte %d changed, and nobody saw it: %q", i, text)
		}
		text[i] ^= 1
	}
}

func TestIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := newID()
		if !validID(id) || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"", "x", strings.Repeat("a", 27), strings.Repeat("1", 26), strings.Repeat("A", 26), strings.Repeat("z", 26), strings.Repeat("a", 25) + "\n"} {
		if validID(id) {
			t.Errorf("%q was accepted", id)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add(strings.Repeat("0f", 32))
	f.Add(strings.Repeat("F", 64))
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRef(s); err == nil && !strings.EqualFold(r.String(), s) {
			t.Fatalf("%q was read as %s", s, r)
		}
		if h, err := ParseSHA1(s); err == nil && !strings.EqualFold(h.String(), s) {
			t.Fatalf("%q was read as %s", s, h)
		}
	})
}

// A record whose hash state this Go cannot read leads to the right hash all the
// same.
func TestHashesAreComputedAgain(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, vfstest.NewDisk(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Begin(ctx, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(ctx, 0, strings.NewReader("first half, ")); err != nil {
		t.Fatal(err)
	}
	if err := u.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	r := record{seq: u.seq + 1, size: -1, offset: 12, time: s.now(), hash: []byte("another Go"), sha1: []byte("another Go")}
	b, err := r.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.stateFile.WriteAt(b, r.slot()); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if u, err = s.Resume(ctx, u.ID()); err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := u.Write(ctx, 12, strings.NewReader("second half")); err != nil {
		t.Fatal(err)
	}
	sealed, err := u.Seal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if data := []byte("first half, second half"); sealed.Ref != sha256.Sum256(data) || sealed.SHA1 != sha1.Sum(data) {
		t.Error("the sums are wrong")
	}
}

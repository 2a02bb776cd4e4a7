package dedup

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"yunbox.local/storage"
)

// scene draws one of many pictures at a size: patches of light and shade.
func scene(seed uint64, w, h int) image.Image {
	rng := rand.New(rand.NewPCG(seed, 9))
	type patch struct{ x, y, rx, ry, light float64 }
	patches := make([]patch, 40)
	for i := range patches {
		patches[i] = patch{rng.Float64(), rng.Float64(), 0.05 + rng.Float64()/4, 0.05 + rng.Float64()/4, rng.Float64()*120 - 60}
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			v, fx, fy := 128.0, (float64(x)+0.5)/float64(w), (float64(y)+0.5)/float64(h)
			for _, p := range patches {
				if dx, dy := (fx-p.x)/p.rx, (fy-p.y)/p.ry; dx*dx+dy*dy < 1 {
					v += p.light
				}
			}
			c := uint8(max(0, min(255, v)))
			img.Set(x, y, color.RGBA{c, uint8(230 - int(c)*3/4), c / 2, 255})
		}
	}
	return img
}

func asJPEG(t testing.TB, img image.Image, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withSegment puts a segment behind the first two bytes.
func withSegment(b []byte, marker byte, content string) []byte {
	seg := []byte{0xFF, marker, byte((len(content) + 2) >> 8), byte(len(content) + 2)}
	return slices.Concat(b[:2], seg, []byte(content), b[2:])
}

func keyOf(t *testing.T, b []byte) [16]byte {
	t.Helper()
	info, err := readJPEG(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return info.key
}

func TestJPEGKeyIsOfThePicture(t *testing.T) {
	plain := asJPEG(t, scene(1, 200, 150), 80)
	key := keyOf(t, plain)
	for name, b := range map[string][]byte{
		"Exif":              withSegment(plain, 0xE1, "Exif\x00\x00with a thumbnail \xff\xd8\xff\xd9"),
		"a comment":         withSegment(plain, 0xFE, "made by hand"),
		"a profile":         withSegment(plain, 0xE2, "ICC_PROFILE"),
		"both":              withSegment(withSegment(plain, 0xE1, "a"), 0xFE, "b"),
		"a film at the end": append(bytes.Clone(plain), "ftypmp42…"...),
	} {
		if keyOf(t, b) != key {
			t.Errorf("with %s it has another key", name)
		}
	}
	if keyOf(t, asJPEG(t, scene(2, 200, 150), 80)) == key || keyOf(t, asJPEG(t, scene(1, 200, 150), 79)) == key {
		t.Error("other pictures have the same key")
	}
	if keyOf(t, withSegment(plain, 0xEE, "Adobe\x00\x64\x00\x00\x00\x00\x01")) == key {
		t.Error("the coding of colours is no part of the key")
	}
	info, err := readJPEG(bytes.NewReader(plain))
	if err != nil || info.wide != 200 || info.high != 150 || info.memory < 200*150*3/2 || info.memory > 10*200*150 {
		t.Errorf("%+v %v", info, err)
	}
	for n := range len(plain) {
		if _, err := readJPEG(bytes.NewReader(plain[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes count as whole", n, len(plain))
		}
	}
}

func TestLooks(t *testing.T) {
	bits := func(img image.Image) uint64 {
		l, ok := perceive(img)
		if !ok {
			t.Fatal("no look")
		}
		return l
	}
	again := func(img image.Image, quality int) image.Image {
		out, err := jpeg.Decode(bytes.NewReader(asJPEG(t, img, quality)))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for seed := range uint64(6) {
		a := bits(scene(seed, 320, 240))
		for name, img := range map[string]image.Image{
			"half the size": scene(seed, 160, 120), "compressed hard": again(scene(seed, 320, 240), 40),
			"small and compressed": again(scene(seed, 160, 120), 60), "tiny": scene(seed, 30, 22),
		} {
			if d := differ(&pic{bits: a}, &pic{bits: bits(img)}); d > alike && name != "tiny" {
				t.Errorf("scene %d, %s: %d bits differ", seed, name, d)
			}
		}
		if d := differ(&pic{bits: a}, &pic{bits: bits(scene(seed+1000, 320, 240))}); d <= alike {
			t.Errorf("scenes %d and %d look alike: %d", seed, seed+1000, d)
		}
	}
	if _, ok := perceive(image.NewGray(image.Rect(0, 0, 100, 100))); ok {
		t.Error("a black picture has a look")
	}
}

func TestSimilarSuggestsAndTouchesNothing(t *testing.T) {
	p := newPlace(t)
	original := asJPEG(t, scene(1, 640, 480), 95)
	p.put("DCIM/IMG_1.jpg", withSegment(original, 0xE1, "Exif: at home"))
	p.put("WeChat/mmexport1.jpg", asJPEG(t, scene(1, 480, 360), 70))
	p.put("stripped.JPG", original)
	p.put("stripped copy.jpg", original) // equal: counts once
	var b bytes.Buffer
	if err := png.Encode(&b, scene(1, 320, 240)); err != nil {
		t.Fatal(err)
	}
	p.put("screen.png", b.Bytes())
	p.put("another.jpg", asJPEG(t, scene(2, 640, 480), 90))
	p.put("cropped.jpg", asJPEG(t, scene(1, 480, 480), 90)) // other proportions
	p.put("broken.jpg", original[:len(original)/2])
	p.put("text.jpg", bytes.Repeat([]byte("no picture "), 1000))
	p.put("black.jpg", append(asJPEG(t, image.NewGray(image.Rect(0, 0, 900, 900)), 90), make([]byte, 5000)...))
	before := p.contents()
	p.scan(ScanOptions{})
	for run := range 2 {
		var groups []Alike
		r, err := p.open().Similar(context.Background(), ScanOptions{}, func(a Alike) error { groups = append(groups, a); return nil })
		if err != nil || len(groups) != 1 {
			t.Fatalf("%+v %v %v", groups, r, err)
		}
		g := groups[0]
		if g.Best.Path != "DCIM/IMG_1.jpg" || g.Best.Wide != 640 || len(g.Files) != 3 {
			t.Errorf("%+v", g)
		}
		for _, f := range g.Files {
			exact := f.Path == "stripped.JPG" || f.Path == "stripped copy.jpg"
			if f.Exact != exact || f.Distance > alike || f.Path == "another.jpg" {
				t.Errorf("%+v", f)
			}
		}
		if r.Groups != 1 || r.Alike != 3 || r.Unseen != 3 {
			t.Errorf("%+v", r)
		}
		if want := int64(9 * (1 - run)); r.ReadFiles != want {
			t.Errorf("run %d read %d pictures", run, r.ReadFiles)
		}
	}
	for name, c := range before {
		if b, err := os.ReadFile(p.path(name)); err != nil || string(b) != c {
			t.Errorf("%s was touched", name)
		}
	}
}

// A few bytes that say they are a huge picture are not decoded.
func TestHugePicturesAreNotDecoded(t *testing.T) {
	small := asJPEG(t, scene(1, 64, 64), 80)
	at := bytes.Index(small, []byte{0xFF, 0xC0})
	binary.BigEndian.PutUint16(small[at+5:], 60_000)
	binary.BigEndian.PutUint16(small[at+7:], 60_000)
	info, err := readJPEG(bytes.NewReader(small))
	if err != nil || info.memory <= maxDecoded {
		t.Fatalf("%+v %v", info, err)
	}
	if n := testing.AllocsPerRun(1, func() { _, err = lookAt(bytes.NewReader(small), &info) }); err == nil || n > 10 {
		t.Errorf("%v allocations, %v", n, err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, scene(1, 8, 8)); err != nil {
		t.Fatal(err)
	}
	huge := b.Bytes()
	binary.BigEndian.PutUint32(huge[16:], 16_000)
	binary.BigEndian.PutUint32(huge[20:], 16_000) // more does not fit an int of 32 bits
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	if _, err := lookAt(bytes.NewReader(huge), nil); err == nil || err.Error() != "it is too large to be looked at" {
		t.Errorf("%v", err)
	}
}

func FuzzJPEG(f *testing.F) {
	plain := asJPEG(f, scene(1, 40, 30), 80)
	f.Add(plain)
	f.Add(withSegment(plain, 0xE1, "Exif"))
	f.Add([]byte("\xff\xd8\xff\xc2\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00\xff\xda\x00\x02\xff\xd9"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := readJPEG(bytes.NewReader(b))
		if err != nil {
			return
		}
		if info.wide <= 0 || info.high <= 0 || info.memory < int64(info.wide)*int64(info.high) && info.memory < 1 {
			t.Fatalf("%+v", info)
		}
		// What was written beside the picture is no part of it.
		more, err := readJPEG(bytes.NewReader(withSegment(b, 0xFE, "a comment")))
		if err != nil || more.key != info.key {
			t.Fatalf("with a comment: %v", err)
		}
		lookAt(bytes.NewReader(b), &info)
	})
}

func FuzzCache(f *testing.F) {
	var b [entrySize]byte
	e := entry{Facts: Facts{1, 2, 3, 4, 5}, known: knowsFull, day: 20_000}
	e.put(b[:])
	f.Add(append([]byte(cacheHead), b[:]...))
	f.Add([]byte(cacheHead))
	f.Add([]byte("yunbox dedup cache 9\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := readEntries(bytes.NewReader(b))
		n := 0
		for c.next(); c.ok; c.next() {
			n++
			var again [entrySize]byte
			c.now.put(again[:])
			if !bytes.Contains(b, again[:]) {
				t.Fatal("an entry is none of the file's")
			}
		}
		if n*entrySize > len(b) {
			t.Fatal("more than there is")
		}
	})
}

func FuzzJournal(f *testing.F) {
	line, _ := appendLine(nil, jline{Op: opIntent, N: 1, Act: Trash, Path: "a", Keep: "b", To: ".yunbox-trash/a", Dup: &Facts{}, Kept: &Facts{}, Ref: new(storage.Ref)})
	end, _ := appendLine(nil, jline{Op: opEnd})
	f.Add(append(line, end...))
	f.Add(line[:20])
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines := 0
		bad, err := parseJournal(bytes.NewReader(b), func(l *jline) error {
			lines++
			if l.Op == opIntent && (filepath.IsAbs(string(l.Path)) || !filepath.IsLocal(string(l.Path)) || !filepath.IsLocal(string(l.Keep)) || l.Dup == nil) {
				t.Fatalf("%+v", l)
			}
			return nil
		})
		if err != nil || lines+bad > bytes.Count(b, []byte("\n"))+1 {
			t.Fatalf("%d lines, %d bad, %v", lines, bad, err)
		}
	})
}

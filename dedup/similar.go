package dedup

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"path"
	"strings"

	"yunbox.local/storage"
)

func differ(a, b *pic) int { return bits.OnesCount64(a.bits ^ b.bits) }

// Alike is a group of pictures that show the same. It is a suggestion to a person:
// nothing here folds or removes any of them.
type Alike struct {
	Best  Picture   `json:"best"`
	Files []Picture `json:"files"` // the others
}

// Picture is one of an Alike.
type Picture struct {
	Path Path  `json:"path"`
	Size int64 `json:"size"` // bytes
	Wide int   `json:"width"`
	High int   `json:"height"`
	// Exact: the very same picture, dot for dot; what differs is written beside it,
	// such as when and where it was taken.
	Exact bool `json:"exact"`
	// Distance is in how many of 63 bits its look differs from that of the best.
	Distance int `json:"distance"`
}

// SimilarReport is what Similar found.
type SimilarReport struct {
	Pictures int64 `json:"pictures"`
	Groups   int64 `json:"groups"`
	Alike    int64 `json:"alike"` // pictures that are like a better one
	Bytes    int64 `json:"bytes"` // of those
	// Unseen are pictures that were not looked at: too large, damaged, of one
	// colour, or more than are compared at once.
	Unseen     int64    `json:"unseen"`
	ReadFiles  int64    `json:"read_files"`
	ReadBytes  int64    `json:"read_bytes"`
	Unreadable Troubles `json:"unreadable"`
}

// maxPictures is how many are compared with each other; one takes about 70 bytes.
const maxPictures = 250_000

// minPicture is the least size of a picture, in bytes: below are icons.
const minPicture = 4 << 10

// pngMagic is how a PNG begins (ISO/IEC 15948 §5.2).
const pngMagic = "\x89PNG\r\n\x1a\n"

// isPicture goes by the name; the bytes decide later.
func isPicture(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return true
	}
	return false
}

// Similar looks at all pictures of the tree and gives groups of those that show the
// same. Files of one content count as one. A scan should come first: what that
// remembers spares work.
func (f *Folder) Similar(ctx context.Context, opt ScanOptions, yield func(Alike) error) (r *SimilarReport, err error) {
	err = f.list(ctx, opt, byInode(), func(s *scan, listed *sorter) error {
		r = &SimilarReport{Unreadable: s.report.Unreadable}
		pics, err := s.lookAll(ctx, listed, r)
		if err != nil {
			r = nil
			return err
		}
		return cluster(pics, func(group []int) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a, err := s.alike(pics, group)
			if err != nil {
				return err
			}
			r.Groups++
			for _, p := range a.Files {
				r.Alike++
				r.Bytes += p.Size
			}
			return yield(a)
		})
	})
	return r, err
}

func (s *scan) alike(pics []pic, group []int) (a Alike, err error) {
	best := &pics[group[0]]
	for i, n := range group {
		p := &pics[n]
		name, err := s.names.path(p.name)
		if err != nil {
			return a, err
		}
		out := Picture{Path: Path(name), Size: p.size, Wide: int(p.wide), High: int(p.high)}
		if p.hasLook && best.hasLook {
			out.Distance = differ(p, best)
		}
		out.Exact = p.hasImage && best.hasImage && p.image == best.image
		if i == 0 {
			a.Best = out
		} else {
			a.Files = append(a.Files, out)
		}
	}
	return a, nil
}

// lookAll looks at the pictures among what was listed, one at a time.
func (s *scan) lookAll(ctx context.Context, listed *sorter, r *SimilarReport) (pics []pic, err error) {
	c, err := s.work.entries(cacheName)
	if err != nil {
		return nil, err
	}
	defer c.close()
	c.next()
	m := newMeter(s.opt.Progress, Comparing, s.report.Files, 0)
	defer m.end()
	seen := map[storage.Ref]bool{} // contents that there are several of
	var last Facts
	for rec, err := range listed.each() {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		m.add(1, rec.Size)
		name, err := s.names.path(rec.name)
		if err != nil {
			return nil, err
		}
		if rec.Size < minPicture || !isPicture(name) || last.same(rec.Facts) {
			continue
		}
		last = rec.Facts
		e := entry{Facts: rec.Facts, day: s.today()}
		if c.seek(rec.Facts) {
			e = c.now
		}
		if e.known&knowsFull != 0 && len(seen) < maxPictures {
			if seen[e.full] {
				continue
			}
			seen[e.full] = true
		}
		r.Pictures++
		if len(pics) >= maxPictures {
			r.Unseen++
			continue
		}
		if e.known&(knowsImage|knowsLook|knowsPlain) == 0 {
			if err := s.look(ctx, name, &e); err != nil {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				r.Unreadable.add(name, reasonOf(err))
				continue
			}
			r.ReadFiles++
			r.ReadBytes += e.Size
			if !s.tree.vols.loose(e.Volume) && max(e.Mtime, e.Ctime) <= s.began.Add(-s.settled).UnixNano() {
				if err := s.log.add(&e); err != nil {
					return nil, err
				}
			}
		}
		if e.known&knowsLook == 0 {
			r.Unseen++
		}
		if e.known&(knowsImage|knowsLook) != 0 {
			pics = append(pics, pic{
				bits: e.look, name: rec.name, size: e.Size, wide: e.wide, high: e.high,
				image: e.image, hasImage: e.known&knowsImage != 0, hasLook: e.known&knowsLook != 0,
			})
		}
	}
	return pics, nil
}

// look reads a picture. What is none, whatever its name, is known as plain.
func (s *scan) look(ctx context.Context, name string, e *entry) error {
	f, err := s.tree.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.facts()
	if err != nil {
		return err
	}
	if now != e.Facts {
		return errChanged
	}
	from := func() io.Reader {
		return &interruptible{ctx, io.NewSectionReader(f, 0, e.Size)}
	}
	var magic [8]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return err
	}
	var l look
	switch {
	case magic[0] == 0xFF && magic[1] == mSOI:
		info, bad := readJPEG(from())
		if bad == nil {
			e.known |= knowsImage
			e.image, e.wide, e.high = info.key, uint16(info.wide), uint16(info.high)
			l, err = lookAt(from(), &info)
		} else {
			err = bad
		}
	case string(magic[:]) == pngMagic:
		l, err = lookAt(from(), nil)
	default:
		err = errNoLook{"it is no picture"}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var none errNoLook
	switch {
	case err == nil:
		e.known |= knowsLook
		e.look, e.wide, e.high = l.bits, uint16(min(l.wide, 1<<16-1)), uint16(min(l.high, 1<<16-1))
	case errors.As(err, &none), errors.Is(err, errNotJPEG):
		e.known |= knowsPlain
	default:
		return err
	}
	if now, err := f.facts(); err != nil || now != e.Facts {
		return errors.Join(errChanged, err)
	}
	return nil
}

package dedup

import (
	"bufio"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"slices"
)

// maxDecoded bounds what decoding one picture may take, in bytes: about 20 million
// dots of a usual JPEG. Larger ones are not looked at.
const maxDecoded = 32 << 20

// look is how a picture looks, in 63 bits: whether each of its lowest frequencies is
// above or below the middle of them (the perceptual hash of Zauner, "Implementation
// and Benchmarking of Perceptual Image Hash Functions", 2010). Copies that were
// resized or compressed again differ in few bits, other pictures in about 31.
type look struct {
	bits       uint64
	wide, high int
}

// errNoLook is a picture that cannot be told from others by its look, or not be
// decoded within the bounds.
type errNoLook struct{ why string }

func (e errNoLook) Error() string { return e.why }

// lookAt decodes a picture. jpg is what readJPEG said of it, nil for a PNG. Untrusted
// bytes go no further than the decoders of Go's library: a panic of theirs is an error.
func lookAt(from io.Reader, jpg *jpegInfo) (l look, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errNoLook{fmt.Sprintf("the decoder gave up: %v", r)}
		}
	}()
	var img image.Image
	if jpg != nil {
		if jpg.memory > maxDecoded {
			return l, errNoLook{"it is too large to be looked at"}
		}
		img, err = jpeg.Decode(bufio.NewReader(from))
	} else {
		head := &recorder{r: from}
		conf, err := png.DecodeConfig(head)
		if err != nil {
			return l, errNoLook{"it cannot be decoded"}
		}
		if int64(conf.Width)*int64(conf.Height)*10 > maxDecoded {
			return l, errNoLook{"it is too large to be looked at"}
		}
		img, err = png.Decode(bufio.NewReader(io.MultiReader(head.again(), from)))
		if err != nil {
			return l, errNoLook{"it cannot be decoded"}
		}
	}
	if err != nil {
		return l, errNoLook{"it cannot be decoded"}
	}
	size := img.Bounds().Size()
	bits, ok := perceive(img)
	if !ok {
		return l, errNoLook{"there is nothing to be seen in it"}
	}
	return look{bits, size.X, size.Y}, nil
}

// recorder keeps what was read, to be read again.
type recorder struct {
	r    io.Reader
	kept []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.kept = append(r.kept, p[:n]...)
	return n, err
}

func (r *recorder) again() io.Reader { return &slice{r.kept} }

type slice struct{ b []byte }

func (s *slice) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

const (
	raster = 32 // the picture is brought to this size
	lowest = 8  // and this many frequencies are looked at, each way
)

// perceive is the hash itself. It is false for a picture of one colour.
func perceive(img image.Image) (uint64, bool) {
	gray := shrink(img)
	var cos [lowest][raster]float64
	for u := range lowest {
		for x := range raster {
			cos[u][x] = math.Cos(math.Pi * float64(u) * (2*float64(x) + 1) / (2 * raster))
		}
	}
	var rows [raster][lowest]float64
	for y := range raster {
		for u := range lowest {
			for x := range raster {
				rows[y][u] += gray[y][x] * cos[u][x]
			}
		}
	}
	var list [lowest*lowest - 1]float64
	strong := 0.0
	for v := range lowest {
		for u := range lowest {
			if u+v == 0 {
				continue // the mean brightness
			}
			sum := 0.0
			for y := range raster {
				sum += rows[y][u] * cos[v][y]
			}
			list[v*lowest+u-1] = sum
			strong = max(strong, math.Abs(sum))
		}
	}
	if strong < raster*raster/2 { // half a level of grey, in the strongest of all
		return 0, false
	}
	sorted := slices.Clone(list[:])
	slices.Sort(sorted)
	middle := sorted[len(sorted)/2]
	var bits uint64
	for i, v := range list {
		if v > middle {
			bits |= 1 << i
		}
	}
	return bits, true
}

// shrink is the brightness of a picture in raster × raster fields, each the mean of
// its dots, 0 to 255.
func shrink(img image.Image) (g [raster][raster]float64) {
	b := img.Bounds()
	luma := brightness(img)
	var n [raster][raster]int
	// No more than about a million dots are looked at.
	step := max(1, int(math.Sqrt(float64(b.Dx())*float64(b.Dy())/1e6)))
	for y := b.Min.Y; y < b.Max.Y; y += step {
		fy := (y - b.Min.Y) * raster / b.Dy()
		for x := b.Min.X; x < b.Max.X; x += step {
			fx := (x - b.Min.X) * raster / b.Dx()
			g[fy][fx] += luma(x, y)
			n[fy][fx]++
		}
	}
	for y := range raster {
		for x := range raster {
			if n[y][x] > 0 {
				g[y][x] /= float64(n[y][x])
			} else { // smaller than the raster: the dot that lies there
				g[y][x] = luma(b.Min.X+x*b.Dx()/raster, b.Min.Y+y*b.Dy()/raster)
			}
		}
	}
	return g
}

// brightness returns the fast way to that of a dot.
func brightness(img image.Image) func(x, y int) float64 {
	switch img := img.(type) {
	case *image.YCbCr:
		return func(x, y int) float64 { return float64(img.Y[img.YOffset(x, y)]) }
	case *image.Gray:
		return func(x, y int) float64 { return float64(img.GrayAt(x, y).Y) }
	}
	return func(x, y int) float64 {
		c := color.Gray16Model.Convert(img.At(x, y)).(color.Gray16)
		return float64(c.Y) / 257
	}
}

// alike is how many bits two looks of one picture differ in, at most, and bands into
// how many parts a look is cut: of two that differ in alike bits one part is equal.
const (
	alike    = 8
	bands    = alike + 1
	bandBits = 63 / bands
)

func band(bits uint64, i int) uint16 { return uint16(bits>>(i*bandBits)) & (1<<bandBits - 1) }

// sameShape says whether the sides of two pictures are in the same proportion, to 2 %.
func sameShape(a, b *pic) bool {
	x, y := int64(a.wide)*int64(b.high), int64(b.wide)*int64(a.high)
	return max(x, y)*100 <= min(x, y)*102
}

// pic is a picture that was looked at.
type pic struct {
	bits       uint64
	name, size int64
	wide, high uint16
	image      [16]byte
	hasImage   bool
	hasLook    bool
}

func (p *pic) dots() int64 { return int64(p.wide) * int64(p.high) }

// cluster puts pictures that show the same into groups of indices, the best first. A
// group is what is like its best one, not what is like something that is like it.
func cluster(pics []pic, yield func([]int) error) error {
	order := make([]int, len(pics))
	for i := range order {
		order[i] = i
	}
	// The best: most dots, then most bytes.
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(pics[b].dots(), pics[a].dots()), cmp.Compare(pics[b].size, pics[a].size), cmp.Compare(pics[a].name, pics[b].name))
	})
	byImage := make([]int32, 0, len(pics))
	var byBand [bands][]int32
	for i := range pics {
		if pics[i].hasImage {
			byImage = append(byImage, int32(i))
		}
		if pics[i].hasLook {
			for j := range bands {
				byBand[j] = append(byBand[j], int32(i))
			}
		}
	}
	slices.SortFunc(byImage, func(a, b int32) int { return slices.Compare(pics[a].image[:], pics[b].image[:]) })
	for j := range bands {
		slices.SortFunc(byBand[j], func(a, b int32) int { return cmp.Compare(band(pics[a].bits, j), band(pics[b].bits, j)) })
	}
	taken := make([]bool, len(pics))
	for _, best := range order {
		if taken[best] {
			continue
		}
		p := &pics[best]
		taken[best] = true
		group := []int{best}
		take := func(i int32) {
			if !taken[i] {
				taken[i] = true
				group = append(group, int(i))
			}
		}
		if p.hasImage {
			from, _ := slices.BinarySearchFunc(byImage, p, func(i int32, p *pic) int { return slices.Compare(pics[i].image[:], p.image[:]) })
			for ; from < len(byImage) && pics[byImage[from]].image == p.image; from++ {
				take(byImage[from])
			}
		}
		for j := 0; j < bands && p.hasLook; j++ {
			want := band(p.bits, j)
			from, _ := slices.BinarySearchFunc(byBand[j], want, func(i int32, want uint16) int { return cmp.Compare(band(pics[i].bits, j), want) })
			for ; from < len(byBand[j]) && band(pics[byBand[j][from]].bits, j) == want; from++ {
				if q := &pics[byBand[j][from]]; differ(p, q) <= alike && sameShape(p, q) {
					take(byBand[j][from])
				}
			}
		}
		if len(group) > 1 {
			if err := yield(group); err != nil {
				return err
			}
		}
	}
	return nil
}

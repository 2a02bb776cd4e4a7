package main

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"slices"
	"strings"

	"rsc.io/qr"
)

// The size of a printed label: 100 by 70 mm, a common one of label printers.
const (
	labelWidth, labelHeight = 100 / 25.4 * 72, 70 / 25.4 * 72 // points (PDF)
	labelDots               = 300                             // an inch (PNG)
	pictureWidth            = 1181
	pictureHeight           = 827
)

// A line of the label: a caption in two languages, and what it names.
type labelLine struct {
	english, chinese string
	value            []string
}

func linesOf(l boxLabel) []labelLine {
	lines := []labelLine{{"Serial number", "序列号", []string{l.Serial}}}
	if l.Code != nil {
		lines = append(lines, labelLine{"Verification code", "验证码", []string{*l.Code}})
	}
	words := labelLine{english: "Words of the key", chinese: "密钥词"}
	for i := 0; i < len(l.Words); i += 2 {
		words.value = append(words.value, strings.Join(l.Words[i:min(i+2, len(l.Words))], " "))
	}
	return append(lines, words)
}

// What stands below the code.
const (
	scanEnglish, scanChinese = "Scan it to make the box yours", "扫码认领这台盒子"
	keepEnglish, keepChinese = "Whoever reads this can become the owner", "看到此标签的人就可以认领，请妥善保管"
)

// codeOf is the label's QR code, nil once it is spent.
func codeOf(l boxLabel) (*qr.Code, error) {
	if l.PairURI == nil {
		return nil, nil
	}
	return qr.Encode(*l.PairURI, qr.M) // paper gets scratched
}

// hanDots is the side of a Chinese sign in dots.
const hanDots = 32

// hanText has the Chinese signs that are on a label, one a line: the sign, and its dots row by
// row in base64. They are those of Noto Sans CJK SC. Many programs that print have no
// Chinese font, and leave out what is not in the file.
//
//go:embed labelglyphs.txt
var hanText string

// hanOf returns the dots of a sign: hanDots rows of hanDots/8 bytes, the highest bit on the left.
func hanOf(r rune) ([]byte, error) {
	_, line, ok := strings.Cut(hanText, string(r)+" ")
	if !ok {
		return nil, fmt.Errorf("label: there are no dots for %q", r)
	}
	line, _, _ = strings.Cut(line, "\n")
	return base64.StdEncoding.DecodeString(line)
}

// labelPDF writes the label as a page of PDF 1.4, with the fonts that every program has
// and Chinese signs as pictures. A thin line says where to cut what was printed on
// a larger sheet.
func labelPDF(w io.Writer, l boxLabel) error {
	code, err := codeOf(l)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	text := func(font string, size, x, y float64, s string) {
		fmt.Fprintf(&page, "BT /%s %g Tf %g %g Td (%s) Tj ET\n", font, size, x, y, strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(s))
	}
	chinese := func(size, x, y float64, s string) {
		for _, r := range s {
			dots, herr := hanOf(r)
			err = errors.Join(err, herr)
			fmt.Fprintf(&page, "q %g 0 0 %g %g %g cm BI /W %d /H %d /IM true /BPC 1 /D [1 0] /F /AHx ID %x> EI Q\n", size, size, x, y-size/8, hanDots, hanDots, dots)
			x += size
		}
	}
	const edge = 1.0
	fmt.Fprintf(&page, "q 0.25 w 0.6 G %g %g %.2f %.2f re S Q\n", edge, edge, labelWidth-2*edge, labelHeight-2*edge)
	left := 14.0
	text("B", 15, left, 176, "yunbox")
	if code != nil {
		side := 118.0 / float64(code.Size) // and four of them white around it
		for y := range code.Size {
			for x := range code.Size {
				if code.Black(x, y) {
					fmt.Fprintf(&page, "%.3f %.3f %.3f %.3f re\n", left+float64(x)*side, 162-float64(y+1)*side, side, side)
				}
			}
		}
		page.WriteString("f\n")
		text("H", 7, left, 26, scanEnglish)
		chinese(7, left, 15, scanChinese)
		left = 154
	}
	y := 156.0
	for _, line := range linesOf(l) {
		text("H", 7, left, y, line.english)
		chinese(7, left+70, y, line.chinese)
		for _, v := range line.value {
			y -= 14
			text("M", 11, left, y, v)
		}
		y -= 16
	}
	if code != nil {
		text("H", 6, left, 26, keepEnglish)
		chinese(6, left, 15, keepChinese)
	}
	if err != nil {
		return err
	}
	font := func(name string) string {
		return "<< /Type /Font /Subtype /Type1 /BaseFont /" + name + " /Encoding /WinAnsiEncoding >>"
	}
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>", // it has its size
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %.2f %.2f] /Contents 4 0 R /Resources << /Font << /H 5 0 R /B 6 0 R /M 7 0 R >> >> >>", labelWidth, labelHeight),
		fmt.Sprintf("<< /Length %d >>\nstream\n%sendstream", page.Len(), page.String()),
		font("Helvetica"), font("Helvetica-Bold"), font("Courier-Bold"),
	}
	var out bytes.Buffer
	out.WriteString("%PDF-1.4\n")
	var at []int
	for i, o := range objects {
		at = append(at, out.Len())
		fmt.Fprintf(&out, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	table := out.Len()
	fmt.Fprintf(&out, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, n := range at {
		fmt.Fprintf(&out, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&out, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, table)
	_, err = w.Write(out.Bytes())
	return err
}

// labelPNG writes the label as a picture that says how large it is to be printed.
func labelPNG(w io.Writer, l boxLabel) error {
	code, err := codeOf(l)
	if err != nil {
		return err
	}
	p := image.NewPaletted(image.Rect(0, 0, pictureWidth, pictureHeight), color.Palette{color.White, color.Black})
	// both draws a text in small letters, and the Chinese one behind it.
	both := func(x, y int, english, chinese string) {
		drawText(p, x, y, 3, english)
		if english != "" {
			x += 18*len(english) + 18
		}
		for _, r := range chinese {
			dots, herr := hanOf(r)
			if herr != nil {
				err = errors.Join(err, herr)
				continue
			}
			for i := range hanDots * hanDots {
				if dots[i/8]>>(7-i%8)&1 == 1 {
					p.SetColorIndex(x+i%hanDots, y-6+i/hanDots, 1)
				}
			}
			x += hanDots
		}
	}
	drawText(p, 60, 34, 7, "yunbox")
	left := 60
	if code != nil {
		module := 500 / code.Size
		for y := range code.Size * module {
			for x := range code.Size * module {
				if code.Black(x/module, y/module) {
					p.SetColorIndex(left+x, pictureTop+y, 1)
				}
			}
		}
		both(left, 690, scanEnglish, scanChinese)
		both(left, 729, keepEnglish, "")
		both(left, 768, "", keepChinese)
		left = 670
	}
	y := pictureTop + 10
	for _, line := range linesOf(l) {
		both(left, y, line.english, line.chinese)
		y += 38
		scale := 5
		if slices.ContainsFunc(line.value, func(v string) bool { return len(v) > 16 }) {
			scale = 4 // two words of eight letters
		}
		for _, v := range line.value {
			drawText(p, left, y, scale, v)
			y += 50
		}
		y += 30
	}
	var b bytes.Buffer
	if err = errors.Join(err, png.Encode(&b, p)); err != nil {
		return err
	}
	// How many dots a metre has is a chunk (pHYs) that image/png does not write; it stands
	// behind the first one, which is as long in every picture.
	const head = 8 + 25
	chunk := binary.BigEndian.AppendUint32([]byte("pHYs"), labelDots*10000/254)
	chunk = append(binary.BigEndian.AppendUint32(chunk, labelDots*10000/254), 1)
	size := binary.BigEndian.AppendUint32(nil, 9)
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(chunk))
	_, err = w.Write(slices.Concat(b.Bytes()[:head], size, chunk, sum, b.Bytes()[head:]))
	return err
}

// pictureTop is where the code begins: it needs four modules of white around it.
const pictureTop = 132

// drawText draws capital letters, digits, hyphens and dots, five by seven dots of a scale.
func drawText(p *image.Paletted, x, y, scale int, s string) {
	for _, r := range strings.ToUpper(s) {
		glyph := glyphOf(r)
		for column := range 5 * scale {
			for row := range 7 * scale {
				if glyph[column/scale]>>(row/scale)&1 == 1 {
					p.SetColorIndex(x+column, y+row, 1)
				}
			}
		}
		x += 6 * scale
	}
}

// glyphOf returns the columns of a character from the left, the lowest bit on top; a blank
// for what there is none of.
func glyphOf(r rune) string {
	const letters = "\x7e\x11\x11\x11\x7e" + "\x7f\x49\x49\x49\x36" + "\x3e\x41\x41\x41\x22" + "\x7f\x41\x41\x22\x1c" + "\x7f\x49\x49\x49\x41" + "\x7f\x09\x09\x09\x01" +
		"\x3e\x41\x49\x49\x7a" + "\x7f\x08\x08\x08\x7f" + "\x00\x41\x7f\x41\x00" + "\x20\x40\x41\x3f\x01" + "\x7f\x08\x14\x22\x41" + "\x7f\x40\x40\x40\x40" +
		"\x7f\x02\x0c\x02\x7f" + "\x7f\x04\x08\x10\x7f" + "\x3e\x41\x41\x41\x3e" + "\x7f\x09\x09\x09\x06" + "\x3e\x41\x51\x21\x5e" + "\x7f\x09\x19\x29\x46" +
		"\x46\x49\x49\x49\x31" + "\x01\x01\x7f\x01\x01" + "\x3f\x40\x40\x40\x3f" + "\x1f\x20\x40\x20\x1f" + "\x3f\x40\x38\x40\x3f" + "\x63\x14\x08\x14\x63" +
		"\x07\x08\x70\x08\x07" + "\x61\x51\x49\x45\x43"
	const digits = "\x3e\x51\x49\x45\x3e" + "\x00\x42\x7f\x40\x00" + "\x42\x61\x51\x49\x46" + "\x21\x41\x45\x4b\x31" + "\x18\x14\x12\x7f\x10" +
		"\x27\x45\x45\x45\x39" + "\x3c\x4a\x49\x49\x30" + "\x01\x71\x09\x05\x03" + "\x36\x49\x49\x49\x36" + "\x06\x49\x49\x29\x1e"
	switch {
	case r >= 'A' && r <= 'Z':
		return letters[5*(r-'A') : 5*(r-'A')+5]
	case r >= '0' && r <= '9':
		return digits[5*(r-'0') : 5*(r-'0')+5]
	case r == '-':
		return "\x08\x08\x08\x08\x08"
	}
	return "\x00\x00\x00\x00\x00"
}

package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"
	"unicode/utf16"

	"rsc.io/qr"
)

// The size of a printed label, in points (PDF) of 1/72 inch.
const (
	labelWidth  = 283 // 100 mm
	labelHeight = 198 // 70 mm
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

// codeOf is the label's QR code, nil once it is spent.
func codeOf(l boxLabel) (*qr.Code, error) {
	if l.PairURI == nil {
		return nil, nil
	}
	return qr.Encode(*l.PairURI, qr.M) // paper gets scratched
}

// labelPDF writes the label as a page of PDF 1.4 with the fonts that every program has,
// and for Chinese the one that PDF names for that (Adobe-GB1), which is not embedded.
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
		var hex strings.Builder
		for _, u := range utf16.Encode([]rune(s)) {
			fmt.Fprintf(&hex, "%04X", u)
		}
		fmt.Fprintf(&page, "BT /C %g Tf %g %g Td <%s> Tj ET\n", size, x, y, hex.String())
	}
	left := 14.0
	text("B", 15, left, 176, "yunbox")
	if code != nil {
		side := 124.0 / float64(code.Size)
		for y := range code.Size {
			for x := range code.Size {
				if code.Black(x, y) {
					fmt.Fprintf(&page, "%.3f %.3f %.3f %.3f re\n", left+float64(x)*side, 162-float64(y+1)*side, side, side)
				}
			}
		}
		page.WriteString("f\n")
		text("H", 7, left, 18, "Scan it to make the box yours")
		chinese(7, left, 8, "扫码认领这台盒子")
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
		text("H", 6, 154, 18, "Whoever reads this can become the owner")
		chinese(6, 154, 8, "见到此标签者即可认领，请妥善保管")
	}
	font := func(name string) string {
		return "<< /Type /Font /Subtype /Type1 /BaseFont /" + name + " /Encoding /WinAnsiEncoding >>"
	}
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R /Resources << /Font << /H 5 0 R /B 6 0 R /M 7 0 R /C 8 0 R >> >> >>", labelWidth, labelHeight),
		fmt.Sprintf("<< /Length %d >>\nstream\n%sendstream", page.Len(), page.String()),
		font("Helvetica"), font("Helvetica-Bold"), font("Courier-Bold"),
		"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light-UniGB-UCS2-H /Encoding /UniGB-UCS2-H /DescendantFonts [9 0 R] >>",
		"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >> /DW 1000 /FontDescriptor 10 0 R >>",
		"<< /Type /FontDescriptor /FontName /STSong-Light /Flags 6 /FontBBox [-25 -254 1000 880] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 880 /StemV 93 >>",
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

// labelPNG writes the label as a picture of 300 dots an inch. Its letters are small and
// built in, so there are no Chinese ones.
func labelPNG(w io.Writer, l boxLabel) error {
	code, err := codeOf(l)
	if err != nil {
		return err
	}
	const width, height = labelWidth * 300 / 72, labelHeight * 300 / 72
	p := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.White, color.Black})
	drawText(p, 60, 50, 8, "yunbox")
	left := 60
	if code != nil {
		module := 560 / code.Size
		for y := range code.Size * module {
			for x := range code.Size * module {
				if code.Black(x/module, y/module) {
					p.SetColorIndex(left+x, 150+y, 1)
				}
			}
		}
		drawText(p, left, 765, 3, "Scan it to make the box yours")
		drawText(p, left, 797, 3, "Whoever reads this can become the owner")
		left = 670
	}
	y := 160
	for _, line := range linesOf(l) {
		drawText(p, left, y, 3, line.english)
		y += 35
		for _, v := range line.value {
			drawText(p, left, y, 5, v)
			y += 50
		}
		y += 30
	}
	return png.Encode(w, p)
}

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

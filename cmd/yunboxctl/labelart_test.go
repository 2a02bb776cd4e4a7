package main

import (
	"bytes"
	"fmt"
	"image/png"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"rsc.io/qr"
)

func aLabel() boxLabel {
	code, uri := "12345678", "yunbox://pair?v=1&id=z7n6n2nrjzowrglj&k=z9vm6bFOXWiZaXG2WsyiWbOijzd8DlmFzemvqpuVuu8&s=5fwJ85uchTcZIQCkAEHXpA&n=D5JQ"
	return boxLabel{Serial: "YB26-FAJ6-D5JQ", Code: &code, PairURI: &uri, Words: strings.Fields("abandon abstract absolute aardvark above absent")}
}

func TestLabelAsAPicture(t *testing.T) { // R03
	l := aLabel()
	var b bytes.Buffer
	if err := labelPNG(&b, l); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b.Bytes(), []byte("\x00\x00\x00\x09pHYs\x00\x00\x2e\x23\x00\x00\x2e\x23\x01")) {
		t.Error("it does not say that it has 300 dots an inch")
	}
	p, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	dark := func(x, y int) bool { r, _, _, _ := p.At(x, y).RGBA(); return r == 0 }
	code, err := qr.Encode(*l.PairURI, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	module := 500 / code.Size
	for y := -4; y < code.Size+4; y++ {
		for x := -4; x < code.Size+4; x++ {
			want := x >= 0 && y >= 0 && x < code.Size && y < code.Size && code.Black(x, y)
			if got := dark(60+x*module+module/2, pictureTop+y*module+module/2); got != want {
				t.Fatalf("module %d,%d is dark: %t, want %t", x, y, got, want)
			}
		}
	}
	// Every text fits: there are 2 mm and more around all of it, which printers leave blank.
	const margin = 24
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			if dark(x, y) && (min(x, p.Bounds().Dx()-1-x) < margin || min(y, p.Bounds().Dy()-1-y) < margin) {
				t.Fatalf("%d,%d is dark, at the edge", x, y)
			}
		}
	}
	for _, r := range scanChinese + keepChinese + "序列号验证码密钥词" {
		if dots, err := hanOf(r); err != nil || len(dots) != hanDots*hanDots/8 || bytes.Count(dots, []byte{0}) == len(dots) {
			t.Errorf("%c has no dots: %v", r, err)
		}
	}
	// Every character that is on a label has a shape of its own.
	seen := map[string]rune{}
	for _, r := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-" {
		if other, ok := seen[glyphOf(r)]; ok || glyphOf(r) == glyphOf(' ') {
			t.Errorf("%c looks like %c", r, other)
		}
		seen[glyphOf(r)] = r
	}
}

func TestLabelToPrint(t *testing.T) { // R03
	l := aLabel()
	var b bytes.Buffer
	if err := labelPDF(&b, l); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"(YB26-FAJ6-D5JQ)", "(12345678)", "(abandon abstract)", "(absolute aardvark)", "(above absent)", "/MediaBox [0 0 283.46 198.43]", "/PrintScaling /None", "BI /W 32 /H 32"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	_, tail, _ := strings.Cut(text, "startxref\n")
	table, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(tail, "%%EOF\n")))
	if err != nil || !strings.HasPrefix(text[table:], "xref\n") {
		t.Fatalf("the table is not at %d: %v", table, err)
	}
	at := regexp.MustCompile(`(?m)^(\d{10}) 00000 n $`).FindAllStringSubmatch(text[table:], -1)
	if len(at) != 7 {
		t.Fatalf("%d objects", len(at))
	}
	for i, m := range at {
		n, err := strconv.Atoi(m[1])
		if err != nil || !strings.HasPrefix(text[n:], fmt.Sprintf("%d 0 obj\n", i+1)) {
			t.Errorf("object %d is not at %s", i+1, m[1])
		}
	}
	length, err := strconv.Atoi(regexp.MustCompile(`/Length (\d+)`).FindStringSubmatch(text)[1])
	begin := strings.Index(text, "stream\n") + len("stream\n")
	if err != nil || !strings.HasPrefix(text[begin+length:], "endstream") {
		t.Errorf("the page is not %d bytes long: %v", length, err)
	}
	// A spent label has nothing that opens the box.
	l.Code, l.PairURI, l.Spent = nil, nil, true
	b.Reset()
	if err := labelPDF(&b, l); err != nil || strings.Contains(b.String(), "12345678") || strings.Contains(b.String(), " re\n") || !strings.Contains(b.String(), "(YB26-FAJ6-D5JQ)") {
		t.Errorf("a spent label: %v", err)
	}
}

// Command licences knows what the two programs are made of, and under which licences:
//
//	licences update           writes cmd/yunboxctl/licenses.txt.gz, which yunboxctl shows
//	licences copyright        prints the package's copyright file (Debian's format 1.0)
//	licences check PROGRAM …  says what is missing: of that file, or of a program's modules
//
// The modules and their texts are asked of the go command; what is no module is listed
// here. A text whose licence is not recognised is an error.
package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	root, err := command("go", "list", "-m", "-f", "{{.Dir}}", "yunbox.local")
	if err != nil {
		return err
	}
	root = strings.TrimSpace(root)
	list, err := components(root)
	if err != nil {
		return err
	}
	kept := filepath.Join(root, "cmd", "yunboxctl", "licenses.txt.gz")
	switch {
	case len(args) == 1 && args[0] == "update":
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(z, texts(list)); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		return os.WriteFile(kept, b.Bytes(), 0o644)
	case len(args) == 1 && args[0] == "copyright":
		_, err := io.WriteString(os.Stdout, copyright(list))
		return err
	case len(args) > 0 && args[0] == "check":
		return check(list, kept, args[1:])
	}
	return errors.New("usage: see the head of scripts/licences/main.go")
}

// A component is something that is in the programs and not ours.
type component struct {
	name, version string
	files         string // in the words of the copyright file
	texts         []string
	holders       []string
	kind          string // a licence, or several: "Expat and Apache-2.0"
	note          string
}

// What is in the programs and is no module.
func others() []component {
	return []component{
		{name: "Preact", files: "daemon/gateway/web/app/vendor/preact/*", note: "In the box's page."},
		{name: "zxcvbn", version: "4.4.2", files: "daemon/account/passwords.txt daemon/account/words.txt", kind: "Expat",
			holders: []string{"2012-2016 Dan Wheeler and Dropbox, Inc."}, note: "Lists of words and passwords."},
		{name: "the English words of BIP-39", files: "daemon/ident/words.txt", kind: "Expat", holders: []string{"2013 Pavol Rusnak"}, note: "As in python-mnemonic."},
		{name: "Noto Sans CJK SC", files: "cmd/yunboxctl/labelglyphs.txt", kind: "OFL-1.1", holders: []string{"2014-2021 Adobe (http://www.adobe.com/)"}, note: "32 signs of it, as dots, for the label."},
		{name: "json2yaml", files: "third_party/huma/yaml/*", kind: "Expat", holders: []string{"2022 itchyny"}, note: "In huma."},
		{name: "github.com/google/uuid", files: "third_party/huma/validate.go", kind: "BSD-3-Clause", holders: []string{"2009, 2014 Google Inc."}, note: "One function, in huma."},
		{name: "SQLite", files: "lib/sqlite3/*", kind: "public-domain", holders: []string{"none: in the public domain, https://www.sqlite.org/copyright.html"}, note: "In github.com/mattn/go-sqlite3."},
		{name: "the GNU C Library", files: "lib/glibc/*", kind: "LGPL-2.1+", holders: []string{"1991-2022 Free Software Foundation, Inc."},
			note: "Linked statically, as Debian has it; its own copyright file lists more. Section 6 of its licence lets whoever has the programs link them anew with a changed library, and gives them what that takes: the source of yunbox and scripts/package."},
		{name: "the library of GCC", files: "lib/libgcc/*", kind: "GPL-3+ with GCC exception", holders: []string{"1987-2022 Free Software Foundation, Inc."}, note: "Linked statically."},
	}
}

func (c component) named() string { return strings.TrimSpace(c.name + " " + c.version) }

// components returns Go, the modules of both programs in the order of their names, and
// what is none.
func components(root string) ([]component, error) {
	packages, err := command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{if .Replace}}{{.Replace.Dir}}{{else}}{{.Dir}}{{end}}\t{{$.Dir}}{{end}}{{end}}",
		"yunbox.local/cmd/yunboxd", "yunbox.local/cmd/yunboxctl")
	if err != nil {
		return nil, err
	}
	modules, dirs := map[string]component{}, map[string]map[string]bool{}
	roots := map[string]string{}
	for line := range strings.Lines(packages) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 {
			continue
		}
		modules[f[0]] = component{name: f[0], version: f[1], files: f[0] + "/*"}
		if dirs[f[0]] == nil {
			dirs[f[0]] = map[string]bool{}
		}
		roots[f[0]] = f[2]
		// A part of a module may be somebody else's, with a licence of its own beside it.
		for dir := f[3]; strings.HasPrefix(dir, f[2]); dir = filepath.Dir(dir) {
			dirs[f[0]][dir] = true
		}
	}
	list := []component{}
	for name, c := range modules {
		if rel, err := filepath.Rel(root, roots[name]); err == nil && filepath.IsLocal(rel) {
			c.files = filepath.ToSlash(rel) + "/*" // a copy in this tree
		}
		for dir := range dirs[name] {
			found, err := licencesIn(dir)
			if err != nil {
				return nil, err
			}
			c.texts = append(c.texts, found...)
		}
		if err := c.read(); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b component) int { return cmp.Compare(a.name, b.name) })
	language := component{name: "Go", files: "lib/go/*", note: "Its runtime and standard library."}
	if i := slices.IndexFunc(list, func(c component) bool { return c.name == "golang.org/x/sys" }); i >= 0 {
		language.texts = list[i].texts // the same words; not every distribution has them with Go
	}
	list = append([]component{language}, list...)
	if err := list[0].read(); err != nil {
		return nil, err
	}
	for _, c := range others() {
		switch {
		case c.name == "Preact":
			if c.texts, err = licencesIn(filepath.Join(root, "daemon/gateway/web/app/vendor/preact")); err == nil {
				err = c.read()
			}
		case c.kind == "Expat" || c.kind == "BSD-3-Clause" || c.kind == "OFL-1.1":
			c.texts = []string{"Copyright (c) " + c.holders[0] + "\n\n" + paragraph(c.kind)}
		case c.kind == "public-domain":
			c.texts = []string{"In the public domain: https://www.sqlite.org/copyright.html\n"}
		default:
			c.texts = []string{c.note + "\nIts licence is in /usr/share/common-licenses of a Debian system, and at https://www.gnu.org/licenses/.\n"}
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|copyright|patents)(\.(txt|md))?$`)

func licencesIn(dir string) (list []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, strings.TrimSpace(strings.ReplaceAll(string(text), "\r", ""))+"\n")
	}
	return list, nil
}

var (
	blank  = regexp.MustCompile(`\s+`)
	holder = regexp.MustCompile(`(?mi)copyright (?:\(c\)|©)?\s*((?:<?\d{4}|the |fsnotify ).*)$`)
	rights = regexp.MustCompile(`(?i)[.,]?\s*all rights reserved.*|\.$|\. extensions.*`)
)

// read finds the kind and the holders of c in its texts.
func (c *component) read() error {
	slices.Sort(c.texts)
	c.texts = slices.Compact(c.texts)
	kinds, holders := map[string]bool{}, map[string]bool{}
	for _, text := range c.texts {
		flat := strings.ToLower(blank.ReplaceAllString(text, " "))
		for phrase, kind := range map[string]string{
			"apache license version 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
			"permission is hereby granted, free of charge": "Expat", "mozilla public license": "MPL-2.0", "gnu general public": "GPL",
		} {
			if strings.Contains(flat, phrase) {
				kinds[kind] = true
			}
		}
		if strings.Contains(flat, "redistribution and use in source and binary forms") {
			if strings.Contains(flat, "neither the name") {
				kinds["BSD-3-Clause"] = true
			} else {
				kinds["BSD-2-Clause"] = true
			}
		}
		for _, m := range holder.FindAllStringSubmatch(text, -1) {
			holders[rights.ReplaceAllString(strings.TrimSpace(m[1]), "")] = true
		}
	}
	for kind := range kinds {
		if !strings.Contains(licences, "\nLicense: "+kind+"\n") {
			return fmt.Errorf("%s is under %s, of which this program has no words: is it wanted?", c.name, kind)
		}
		c.kind = strings.Join(slices.Sorted(keys(kinds)), " and ")
	}
	if c.kind == "" {
		return fmt.Errorf("%s has no licence that this program knows: look at it, then say so here", c.name)
	}
	if c.holders = slices.Sorted(keys(holders)); len(c.holders) == 0 {
		c.holders = []string{"the authors of " + c.name}
	}
	return nil
}

func keys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// texts is what the programs carry along.
func texts(list []component) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "==== %s (%s)\n\n", c.named(), c.kind)
		b.WriteString(strings.Join(c.texts, "\n") + "\n")
	}
	return b.String()
}

// copyright is the package's copyright file.
func copyright(list []component) string {
	var b strings.Builder
	b.WriteString(heading)
	for _, c := range list {
		fmt.Fprintf(&b, "\nFiles: %s\nCopyright: %s\nLicense: %s\n", strings.ReplaceAll(c.files, " ", "\n "), strings.Join(c.holders, "\n "), c.kind)
		fmt.Fprintf(&b, "Comment: %s\n", strings.TrimSpace(c.named()+". "+c.note))
	}
	return b.String() + licences
}

// check compares the list with what was written down, and with the modules of programs.
func check(list []component, kept string, programs []string) error {
	packed, err := os.ReadFile(kept)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var have []byte
	if z, err := gzip.NewReader(bytes.NewReader(packed)); err == nil {
		if have, err = io.ReadAll(z); err != nil {
			return err
		}
	}
	var errs []error
	if string(have) != texts(list) {
		errs = append(errs, errors.New("cmd/yunboxctl/licenses.txt.gz is stale: run `go generate ./cmd/yunboxctl`"))
	}
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return err
		}
		for _, m := range lacking(list, info.Deps) {
			errs = append(errs, fmt.Errorf("%s has %s, whose licence does not come along", program, m))
		}
	}
	return errors.Join(errs...)
}

// lacking returns the modules that are not in the list.
func lacking(list []component, modules []*debug.Module) (missing []string) {
	for _, m := range modules {
		name := m.Path + " " + m.Version
		if !slices.ContainsFunc(list, func(c component) bool { return c.named() == name }) {
			missing = append(missing, name)
		}
	}
	return missing
}

func command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	// What a box runs, wherever this is asked.
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(out), err
}

// paragraph returns the words of a licence, without the marks of the copyright file.
func paragraph(name string) string {
	_, text, _ := strings.Cut(licences, "\nLicense: "+name+"\n")
	text, _, _ = strings.Cut(text, "\n\n")
	var b strings.Builder
	for line := range strings.Lines(text + "\n") {
		b.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, " ."), " "))
	}
	return b.String()
}

package main

import (
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// Whatever is in the programs has its licence in what they carry along, and in the
// package's copyright file.
func TestLicencesTravel(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	list, err := components(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(list, filepath.Join(root, "cmd/yunboxctl/licenses.txt.gz"), nil); err != nil {
		t.Error(err)
	}
	file := copyright(list)
	for _, want := range []string{
		"\nFiles: third_party/huma/*\nCopyright: 2020 Daniel G. Taylor\nLicense: Expat\n", "\nFiles: github.com/miekg/dns/*\n", "\nFiles: daemon/account/passwords.txt\n daemon/account/words.txt\n",
		"License: LGPL-2.1+\n", "License: public-domain\n", "Preact", "License: Apache-2.0 and BSD-3-Clause\nComment: github.com/go-jose/go-jose",
	} {
		if !strings.Contains(file, want) {
			t.Errorf("the copyright file lacks %q", want)
		}
	}
	for _, c := range list {
		for kind := range strings.SplitSeq(c.kind, " and ") {
			if !strings.Contains(licences, "\nLicense: "+kind+"\n") {
				t.Errorf("%s is under %q, which the copyright file does not have", c.name, kind)
			}
		}
	}
	// A program with something else in it is found.
	modules := []*debug.Module{{Path: "github.com/spf13/cobra", Version: list[slices.IndexFunc(list, func(c component) bool { return c.name == "github.com/spf13/cobra" })].version},
		{Path: "github.com/spf13/cobra", Version: "v0.0.1"}, {Path: "example.com/new", Version: "v1.0.0"}}
	if got := lacking(list, modules); !slices.Equal(got, []string{"github.com/spf13/cobra v0.0.1", "example.com/new v1.0.0"}) {
		t.Errorf("lacking: %q", got)
	}
}

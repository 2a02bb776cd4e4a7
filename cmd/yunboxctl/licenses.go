package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

//go:generate go run ../../scripts/licences update

// licenseTexts are the licences of all that is in yunboxd and yunboxctl and not ours.
// They are in the program, so that they go wherever it goes.
//
//go:embed licenses.txt.gz
var licenseTexts []byte

// license names something that is in the programs.
type license struct {
	Name    string `json:"name"`
	License string `json:"license"`
}

func (a *app) licensesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "licenses", Short: "Show the licences of what others made and the programs contain", Args: cobra.NoArgs,
		Long: `licenses prints the licences of the libraries and lists that yunboxd, yunboxctl and the
page contain, with their full words. It asks no box.

With --json it is {"licenses":[{"name","license"},…]}, without the words.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			z, err := gzip.NewReader(bytes.NewReader(licenseTexts))
			if err != nil {
				return err
			}
			text, err := io.ReadAll(z)
			if err != nil {
				return err
			}
			list := []license{}
			for line := range strings.Lines(string(text)) {
				if head, ok := strings.CutPrefix(strings.TrimSpace(line), "==== "); ok {
					name, kind, _ := strings.Cut(head, " (")
					list = append(list, license{name, strings.TrimSuffix(kind, ")")})
				}
			}
			return a.print(map[string][]license{"licenses": list}, func(w io.Writer) { fmt.Fprint(w, string(text)) })
		},
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

// boxLabel is GET /local/label, and what the key of the box is.
type boxLabel struct {
	Serial  string   `json:"serial"`
	Code    *string  `json:"code"`
	PairURI *string  `json:"pair_uri"`
	Spent   bool     `json:"spent"`
	Words   []string `json:"words"`
	Finger  string   `json:"fingerprint"`
}

func (a *app) labelCommand() *cobra.Command {
	var pdf, png string
	c := &cobra.Command{
		Use: "label", Short: "Show the label: serial number, verification code, pairing code", Args: cobra.NoArgs,
		Long: `label shows what the owner of a new box needs: serial number, verification code, the
six words of its key, and the QR code. --pdf and --png write it as a label of 100 by
70 mm to be printed and put on the box. Whoever reads the label of a box without an
owner can become that; so the file can be read by nobody else. Once the box has an
owner its code and QR code are spent, and the label shows the number and the words.

Both have English and Chinese texts, and say how large they are: print them without
"fit to page". What was printed on a larger sheet is cut along the thin line.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pdf != "" && png != "" {
				return usagef("one of --pdf and --png at a time")
			}
			c, err := a.local()
			if err != nil {
				return err
			}
			var l boxLabel
			if err := c.call(cmd.Context(), "GET", "/local/label", nil, &l); err != nil {
				return err
			}
			s, err := a.localStatus(cmd.Context())
			if err != nil {
				return err
			}
			l.Words, l.Finger = s.Words, s.Fingerprint
			switch {
			case pdf != "":
				return a.writeLabel(l, pdf, labelPDF)
			case png != "":
				return a.writeLabel(l, png, labelPNG)
			}
			return a.print(l, func(w io.Writer) {
				rows := [][]string{{"serial", l.Serial}}
				if l.Code != nil {
					rows = append(rows, []string{"code", *l.Code})
				}
				rows = append(rows, []string{"fingerprint", s.Fingerprint}, []string{"key words", strings.Join(s.Words, " ")})
				if l.PairURI != nil {
					rows = append(rows, []string{"pairing", *l.PairURI})
				}
				columns(w, rows)
				if l.Spent || l.PairURI == nil {
					fmt.Fprintln(w, "the box has an owner: code and pairing secret are spent")
					return
				}
				fmt.Fprintln(w)
				drawQR(w, *l.PairURI)
			})
		},
	}
	c.Flags().StringVar(&pdf, "pdf", "", "write the label to `FILE`, to be printed")
	c.Flags().StringVar(&png, "png", "", "write the label to `FILE`, as a picture")
	return c
}

// writeLabel writes a picture of the label where only its owner can read it.
func (a *app) writeLabel(l boxLabel, name string, draw func(io.Writer, boxLabel) error) error {
	var b bytes.Buffer
	if err := draw(&b, l); err != nil {
		return err
	}
	fail := func(err error) error {
		return &problem.Error{Kind: problem.Invalid, Op: "label", Title: "The label could not be written", Detail: err.Error() + ".", Hint: "Name a new file in a folder that may be written.", Err: err}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // never through a link that somebody put there
	if err != nil {
		return fail(err)
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		f.Close()
		return fail(err)
	}
	if err := f.Close(); err != nil {
		return fail(err)
	}
	return a.print(map[string]any{"file": name, "spent": l.Spent}, func(w io.Writer) {
		fmt.Fprintf(w, "the label is in %s\n", name)
		if !l.Spent {
			fmt.Fprintln(w, "whoever reads it can become the owner: print it, then remove the file")
		}
	})
}

func (a *app) resetCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "factory-reset", Short: "Erase everything and make the box nobody's", Args: cobra.NoArgs,
		Long: `factory-reset makes the box what it was when it was new. The keys go first, without
which nothing that was sealed can be read again, then all files, names, records,
consents, copies of records and logs in its state directory. It starts with a new key,
a new id and a new verification code; its serial number stays. Every app and browser has
to be bound and signed in anew: print a new label with ` + "`yunboxctl label --pdf`" + `.

It cannot be taken back, and it cannot be stopped half-way: a box whose power is cut
meanwhile goes on when it starts. What is not in the state directory stays: second
copies on other disks, encrypted and good for whoever has their recovery keys; folders that
the box only watched; the journal of the system. Files are removed, not written over: where
somebody might look for them on the disk itself, encrypt the disk below the box, or erase it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.local()
			if err != nil {
				return err
			}
			s, err := a.localStatus(cmd.Context())
			if err != nil {
				return err
			}
			if !yes {
				agreed, asked := a.ask(fmt.Sprintf("Everything that everybody keeps on %s is erased, for good. Go on?", shown(s.Name)))
				if !agreed && asked {
					return &problem.Error{Kind: problem.Invalid, Op: "reset", Title: "Nothing was erased"}
				}
				if !agreed {
					return usagef("factory-reset erases everything, for good: confirm it with --yes")
				}
			}
			var begun struct {
				SecondCopies []string `json:"second_copies"`
			}
			if err := c.call(cmd.Context(), "POST", "/local/factory-reset", map[string]bool{"yes": true}, &begun); err != nil {
				return err
			}
			return a.print(begun, func(w io.Writer) {
				fmt.Fprintln(w, "the box is being erased, and starts anew; `yunboxctl wait` waits for it")
				for _, name := range begun.SecondCopies {
					fmt.Fprintf(w, "its second copy %s stays, encrypted\n", shown(name))
				}
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "erase everything without asking")
	return c
}

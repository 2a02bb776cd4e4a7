package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes the manual page yunboxctl(1) from the commands themselves, for the
// package. It is in no list of commands.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Write the manual page", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(a.stdout, manual(c.Root()))
			return err
		},
	}
}

// manual is a page in the language of man(7).
func manual(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH YUNBOXCTL 1 \"\" \"yunbox %s\" \"yunbox\"\n.SH NAME\nyunboxctl \\- %s\n", version, lower(roff(root.Short)))
	b.WriteString(".SH SYNOPSIS\n.B yunboxctl\n[\\fIglobal options\\fR] \\fICOMMAND\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]\n.SH DESCRIPTION\n")
	text, _, _ := strings.Cut(root.Long, "\n\n"+exitCodes)
	paragraphs(&b, text)
	b.WriteString(".SH \"GLOBAL OPTIONS\"\n")
	options(&b, root.PersistentFlags())
	b.WriteString(".SH COMMANDS\n")
	commands(&b, root)
	b.WriteString(".SH \"EXIT STATUS\"\n.nf\n")
	for line := range strings.Lines(strings.TrimPrefix(exitCodes, "Exit codes:\n")) {
		b.WriteString(roff(line))
	}
	b.WriteString("\n.fi\n.SH ENVIRONMENT\n")
	for _, v := range [][2]string{
		{"YUNBOX_BOX", "Address of the box, as with \\fB\\-\\-box\\fR."},
		{"YUNBOX_FINGERPRINT", "Fingerprint of the box's key, as with \\fB\\-\\-fingerprint\\fR."},
		{"YUNBOX_TOKEN", "A token to sign in with, in place of the profile's."},
	} {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", v[0], v[1])
	}
	b.WriteString(".SH \"SEE ALSO\"\n.BR yunboxd (8)\n")
	return b.String()
}

func commands(b *strings.Builder, parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if c.Hidden || !c.IsAvailableCommand() && !c.HasAvailableSubCommands() {
			continue
		}
		if c.Runnable() {
			fmt.Fprintf(b, ".SS \"%s\"\n", strings.ReplaceAll(roff(strings.TrimPrefix(c.UseLine(), c.Root().Name()+" ")), `"`, `\(dq`))
			text := c.Long
			if text == "" {
				text = c.Short + "."
			}
			paragraphs(b, text)
			options(b, c.LocalNonPersistentFlags())
		}
		commands(b, c)
	}
}

func options(b *strings.Builder, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(b, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(b, "\\fB\\-\\-%s\\fR", roff(f.Name))
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(b, "\n%s\n", roff(usage+byDefault(f)))
	})
}

// paragraphs writes text; what is indented in it stays as it is.
func paragraphs(b *strings.Builder, text string) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(part, " ") || strings.Contains(part, "\n  ") {
			fmt.Fprintf(b, ".PP\n.nf\n%s\n.fi\n", roff(part))
		} else {
			fmt.Fprintf(b, ".PP\n%s\n", roff(part))
		}
	}
}

// roff escapes what groff reads as its own: backslashes, hyphens that are to be typed, and dots and
// quotes at the beginning of a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func lower(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

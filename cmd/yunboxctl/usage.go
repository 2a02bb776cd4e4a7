package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sayHow has the commands below c say how they are called where arguments are missing, or
// are too many.
func sayHow(c *cobra.Command) {
	for _, sub := range c.Commands() {
		sayHow(sub)
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		says := fmt.Sprintf("%s does not take %s", c.CommandPath(), strings.Join(quoted(args), " "))
		for more := slices.Clone(args); len(more) < len(args)+3; {
			if more = append(more, "x"); check(c, more) == nil {
				says = "something is missing"
			}
		}
		return usagef("%s\nusage: %s", says, c.UseLine())
	}
}

func quoted(args []string) []string {
	q := make([]string, len(args))
	for i, arg := range args {
		q[i] = fmt.Sprintf("%q", arg)
	}
	return q
}

// misnamed is the error where args name a group of commands and none of it. The library
// shows the group's help then and calls it a success, which a script would believe.
func misnamed(root *cobra.Command, args []string) error {
	c, rest, err := root.Find(args)
	if err != nil || c.Runnable() || c.ParseFlags(rest) != nil || c.Flags().NArg() == 0 {
		return nil // found, or somebody else's to say
	}
	name := c.Flags().Arg(0)
	says := fmt.Sprintf("unknown command %q for %q", name, c.CommandPath())
	c.SuggestionsMinimumDistance = 2
	if like := c.SuggestionsFor(name); len(like) > 0 {
		says += "; did you mean " + strings.Join(like, " or ") + "?"
	}
	return usagef("%s", says)
}

// wantsJSON says whether args ask for JSON, where they were not understood.
func wantsJSON(args []string) bool {
	end := slices.Index(args, "--")
	if end < 0 {
		end = len(args)
	}
	return slices.Contains(args[:end], "--json")
}

// byDefault is what an option is where it is not given, "" if that goes without saying.
func byDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "0", "false", "[]", "0s":
		return ""
	}
	return " (default " + f.DefValue + ")"
}

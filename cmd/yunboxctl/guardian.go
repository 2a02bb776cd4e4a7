package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// guarded is a child as GET /local/guardians shows it.
type guarded struct {
	ID        string `json:"id"`
	Username  string `json:"username"`
	OfAge     string `json:"of_age"`
	Grown     bool   `json:"grown"`
	Guarded   bool   `json:"guarded"`
	Guardians []struct {
		Username string  `json:"username"`
		Asked    string  `json:"asked"`
		Since    *string `json:"since"`
		Stands   bool    `json:"stands"`
	} `json:"guardians"`
}

type guardedList struct {
	Children []guarded `json:"children"`
}

func (g guarded) row() []string {
	var names []string
	for _, l := range g.Guardians {
		name := shown(l.Username)
		switch {
		case l.Since == nil:
			name += " (has not accepted)"
		case !l.Stands:
			name += " (disabled)"
		}
		names = append(names, name)
	}
	state := "nothing is taken: nobody stands for the child"
	switch {
	case g.Grown:
		state = "has turned 14 and decides alone, after accepting the policy"
	case g.Guarded:
		state = ""
	}
	return []string{shown(g.Username), "14 in " + g.OfAge, strings.Join(names, ", "), state}
}

func (a *app) guardianCommand() *cobra.Command {
	top := &cobra.Command{Use: "guardian", Short: "See and name the guardians of children",
		Long: "guardian shows who stands for each child (user add --child) and names another one.\nWhat a guardian decides is between the guardian and the child: no command shows it."}
	print := func(list guardedList) error {
		return a.print(list, func(w io.Writer) {
			rows := make([][]string, 0, len(list.Children))
			for _, g := range list.Children {
				rows = append(rows, g.row())
			}
			if len(rows) == 0 {
				fmt.Fprintln(w, "there are no children")
			}
			columns(w, rows)
		})
	}
	call := func(cmd *cobra.Command, method, path string, in any) error {
		c, err := a.local()
		if err != nil {
			return err
		}
		var list guardedList
		if err := c.call(cmd.Context(), method, "/local/guardians"+path, in, &list); err != nil {
			return err
		}
		return print(list)
	}
	top.AddCommand(
		&cobra.Command{Use: "list", Short: "List the children and who stands for them", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return call(cmd, "GET", "", nil) }},
		&cobra.Command{Use: "name CHILD GUARDIAN", Short: "Ask an adult to stand for a child for whom nobody does", Args: cobra.ExactArgs(2),
			Long: "name asks an adult of the box to stand for a child; they accept on the box's page.\nA child that has a guardian gets another one by that guardian only.",
			RunE: func(cmd *cobra.Command, args []string) error {
				return call(cmd, "POST", "/"+url.PathEscape(args[0]), map[string]string{"username": args[1]})
			}},
		&cobra.Command{Use: "remove CHILD GUARDIAN", Short: "End that somebody stands for a child", Args: cobra.ExactArgs(2),
			Long: "remove ends it at once: what that guardian agreed to is suspended and running uploads stop.\nWhat is stored stays. Both are told.",
			RunE: func(cmd *cobra.Command, args []string) error {
				return call(cmd, "DELETE", "/"+url.PathEscape(args[0])+"/"+url.PathEscape(args[1]), nil)
			}},
	)
	return top
}

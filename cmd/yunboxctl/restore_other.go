//go:build !linux

package main

import (
	"github.com/spf13/cobra"

	"yunbox.local/daemon/problem"
)

func (a *app) backupRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore", Short: "Make a box again from its second copy (on Linux)",
		RunE: func(*cobra.Command, []string) error {
			return &problem.Error{Kind: problem.Unsupported, Op: "backup.restore", Title: "A box is restored on Linux only",
				Hint: "Run yunboxctl on the computer that is to be the box. README.txt in the copy says how to read it anywhere."}
		},
	}
}

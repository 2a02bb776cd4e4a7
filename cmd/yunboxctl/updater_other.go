//go:build !linux

package main

import "github.com/spf13/cobra"

// updaterCommands: boxes run Linux.
func (a *app) updaterCommands() []*cobra.Command { return nil }

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The page names every command that a person can run, and every option of it.
func TestTheManualPageHasEveryCommand(t *testing.T) {
	var out, stderr bytes.Buffer
	if code := run(t.Context(), []string{"man"}, strings.NewReader(""), &out, &stderr); code != 0 {
		t.Fatal(&stderr)
	}
	text := strings.ReplaceAll(out.String(), `\-`, "-")
	n := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if name, ok := strings.CutPrefix(c.CommandPath(), "yunboxctl "); ok && c.Runnable() {
			n++
			if !strings.Contains(text, `.SS "`+name) {
				t.Errorf("%s is not in it", name)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	a := &app{}
	walk(a.root())
	if n < 50 {
		t.Errorf("%d commands", n)
	}
	for i, line := range strings.Split(out.String(), "\n") {
		if strings.HasPrefix(line, ".") && !strings.HasPrefix(line, ".S") && !strings.HasPrefix(line, ".T") && !strings.HasPrefix(line, ".P") && !strings.HasPrefix(line, ".B") && line != ".nf" && line != ".fi" {
			t.Errorf("line %d is taken for a macro: %s", i+1, line)
		}
	}
}

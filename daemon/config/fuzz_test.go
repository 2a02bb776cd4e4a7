package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"yunbox.local/daemon/config"
)

// Any file is either settings that make sense or an error that a person can mend.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{"", "https = \":443\"\nmdns = \"on\"\n", "hosts = [\"a.example\", \"b\"]\nname = \"微信\"", "memory-mib = -1", "ftp-ports = \"1-2\"",
		"[state]\nx = 1", "state = 1e400", "unknown = 1", "name = \"\\u0000\"", "hosts = [[[[[[", "memory-mib = 99999999999999999999", "a.b.c = {d = 1}", "\xef\xbb\xbf", "mdns = [true]"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(dir, "yunbox.toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := config.Flags()
		if err := flags.Parse([]string{"--config", name, "--state", dir}); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(flags)
		if mend := new(config.Error); err != nil && !errors.As(err, &mend) {
			t.Errorf("%q: %v is nobody's fault", text, err)
		}
		if err == nil && (!filepath.IsAbs(c.State) || c.MemoryMiB <= 0 || len(c.Name) > 63 || c.HTTPS == "") {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

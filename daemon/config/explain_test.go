package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/config"
)

func TestEachSettingSaysWhereItIsFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "box.toml")
	if err := os.WriteFile(file, []byte(`
scrub-days = 60
mdns = "off"
hosts = ["a.example", "b.example"]
http = "127.0.0.1:1"
[mail]
server = "mail.example:587"
from = "box@example.com"
[[sign-in]]
id = "one"
name = "One"
issuer = "https://one.example/"
client-id = "client-4711"
[maker]
updates = "https://updates.example/?key=4711"
`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("YUNBOX_HTTP", "off")
	t.Setenv("YUNBOX_MEMORY_MIB", "80")
	flags := config.Flags()
	if err := flags.Parse([]string{"--config", file, "--memory-mib", "96", "--state", "/srv/box"}); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(flags)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]config.Setting{}
	for _, s := range c.Settings {
		got[s.Name] = s
		if strings.Contains(s.Value, "4711") {
			t.Errorf("%+v opens a door", s)
		}
	}
	for name, want := range map[string][2]string{
		"state": {"/srv/box", config.FromFlag}, "memory-mib": {"96", config.FromFlag}, "http": {"off", config.FromEnv},
		"scrub-days": {"60", config.FromFile}, "mdns": {"off", config.FromFile}, "hosts": {"a.example,b.example", config.FromFile},
		"https": {":8443", config.FromDefault}, "ftp-plain": {"off", config.FromDefault},
		"mail.server": {"mail.example:587", config.FromFile}, "sign-in.1.client-id": {"********", config.FromFile},
		"maker.updates": {"https://updates.example/?********", config.FromFile}, "config": {file, config.FromFlag},
	} {
		if s := got[name]; s.Value != want[0] || s.Origin != want[1] {
			t.Errorf("%s: %+v, want %v", name, s, want)
		}
	}
	for name, personal := range map[string]bool{"state": true, "name": true, "hosts": true, "mail.from": true, "scrub-days": false, "https": false} {
		if got[name].Personal != personal {
			t.Errorf("%s: personal is %v", name, got[name].Personal)
		}
	}
}

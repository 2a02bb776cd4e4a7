package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"yunbox.local/daemon/config"
)

func load(t *testing.T, args ...string) (config.Config, error) {
	t.Helper()
	fs := config.Flags()
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return config.Load(fs)
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "yunbox.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaults(t *testing.T) {
	c, err := load(t)
	if err != nil || c.HTTPS != ":8443" || c.HTTP != "off" || c.FTP != "off" || c.MDNS != config.MDNSOn || c.LogFormat != "text" || c.State != "/var/lib/yunbox" {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestFlagOverEnvironmentOverFileOverDefault(t *testing.T) {
	f := file(t, "https = \":1\"\nname = \"file\"\nmdns = false\nlog-format = \"json\"\nhosts = [\"a.lan\"]\n")
	t.Setenv("YUNBOX_HTTPS", ":2")
	t.Setenv("YUNBOX_NAME", "environment")
	t.Setenv("YUNBOX_LOG_FORMAT", "text")
	c, err := load(t, "--config", f, "--https", ":3")
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTPS != ":3" || c.Name != "environment" || c.MDNS.Announces() || c.LogFormat != "text" || len(c.Hosts) != 1 {
		t.Fatalf("%+v", c)
	}
	t.Setenv("YUNBOX_MDNS", "on")
	t.Setenv("YUNBOX_HOSTS", "b.lan,c.lan")
	t.Setenv("YUNBOX_CONFIG", f)
	if c, err = load(t); err != nil || c.MDNS != config.MDNSOn || strings.Join(c.Hosts, " ") != "b.lan c.lan" {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"htps":       {"--config", file(t, "htps = \":1\"\n")},
		"https":      {"--https", "8443"},
		"port":       {"--https", ":70000"},
		"http":       {"--http", "on"},
		"ftp":        {"--ftp", "2121"},
		"ftp-ports":  {"--ftp", ":2121", "--ftp-ports", "3000-2000"},
		"log-format": {"--log-format", "xml"},
		"memory-mib": {"--memory-mib", "39"},
		"name":       {"--name", strings.Repeat("盒", 30)},
		"hosts":      {"--hosts", "http://x"},
		"mdns":       {"--config", file(t, "mdns = \"perhaps\"\n")},
		"mail.from":  {"--config", file(t, "[mail]\nserver = \"mail.example:587\"\n")},
		"mail.tls":   {"--config", file(t, "[mail]\ntls = \"off\"\n")},
		"keys: x":    {"--config", file(t, "[mail]\nx = 1\n")},
		"updates":    {"--config", file(t, "[maker]\nupdates = \"http://a.example/\"\n")},
		"sign-in.id": {"--config", file(t, "[[sign-in]]\nid = \"A b\"\n")},
		"issuer":     {"--config", file(t, "[[sign-in]]\nid = \"a\"\nissuer = \"http://a.example\"\nclient-id = \"x\"\n")},
		"client-id":  {"--config", file(t, "[[sign-in]]\nid = \"a\"\nissuer = \"https://a.example\"\n")},
		"team-id":    {"--config", file(t, "[[sign-in]]\nid = \"a\"\nkind = \"apple\"\nclient-id = \"x\"\n")},
		"kind":       {"--config", file(t, "[[sign-in]]\nid = \"a\"\nkind = \"saml\"\nclient-id = \"x\"\n")},
		"gone.toml":  {"--config", "/nonexistent/gone.toml"},
		"state":      {"--state", ""},
	} {
		_, err := load(t, args...)
		var e *config.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v does not name %s", args, err, want)
		}
	}
}

func TestCamerasAreLetInOnlyAsAsked(t *testing.T) {
	c, err := load(t)
	if err != nil || c.FTP != config.Off || c.FTPPlain {
		t.Fatalf("%+v, %v", c, err)
	}
	c, err = load(t, "--ftp", ":2121")
	if err != nil || c.FTP != ":2121" || c.FTPPlain {
		t.Fatalf("an address alone means encrypted only: %+v, %v", c, err)
	}
	c, err = load(t, "--ftp", ":2121", "--ftp-plain=on", "--ftp-ports", "50000-50019")
	if err != nil || !c.FTPPlain {
		t.Fatalf("%+v, %v", c, err)
	}
	if low, high, err := c.FTPPortRange(); low != 50000 || high != 50019 || err != nil {
		t.Errorf("%d-%d, %v", low, high, err)
	}
	for _, bad := range []string{"50000", "-", "1-2", "50000-", "-50000", "50000-70000", "a-b", "50000-50010-50020"} {
		if _, err := load(t, "--ftp-ports", bad); err == nil {
			t.Errorf("%q are ports", bad)
		}
	}
}

func TestOnOff(t *testing.T) {
	for arg, want := range map[string]bool{"on": true, "off": false, "true": true, "false": false} {
		if c, err := load(t, "--ftp-plain="+arg); err != nil || c.FTPPlain != want {
			t.Errorf("--ftp-plain=%s: %v, %v", arg, c.FTPPlain, err)
		}
	}
	for arg, want := range map[string]config.MDNS{"on": config.MDNSOn, "off": config.MDNSOff, "true": config.MDNSOn, "false": config.MDNSOff, "own": config.MDNSOwn, "Avahi": config.MDNSAvahi} {
		c, err := load(t, "--mdns="+arg)
		if err != nil || c.MDNS != want || c.MDNS.Announces() != (want != config.MDNSOff) {
			t.Errorf("--mdns=%s: %v, %v", arg, c.MDNS, err)
		}
		for _, s := range c.Settings {
			if s.Name == "mdns" && s.Value != string(want) {
				t.Errorf("--mdns=%s is told as %q", arg, s.Value)
			}
		}
	}
	for text, want := range map[string]config.MDNS{"mdns = true\n": config.MDNSOn, "mdns = \"own\"\n": config.MDNSOwn} {
		if c, err := load(t, "--config", file(t, text)); err != nil || c.MDNS != want {
			t.Errorf("%s: %v, %v", text, c.MDNS, err)
		}
	}
}

// R14 R37: servers elsewhere stand in the file only, and there are none unless they do.
func TestServersElsewhere(t *testing.T) {
	c, err := load(t)
	if err != nil || c.Mail.Server != "" || len(c.SignIn) != 0 || c.Maker.Updates != "" || c.Maker.Statistics != "" {
		t.Fatalf("%+v, %v", c, err)
	}
	c, err = load(t, "--config", file(t, `
[mail]
server = "mail.example:587"
from = "Box <box@mail.example>"
[[sign-in]]
id = "apple"
name = "Apple"
kind = "apple"
client-id = "example.box"
team-id = "T"
key-id = "K"
[[sign-in]]
id = "wechat"
kind = "wechat"
client-id = "wx1"
`))
	if err != nil || c.Mail.Server != "mail.example:587" || len(c.SignIn) != 2 || c.SignIn[0].Issuer != "https://appleid.apple.com" || c.SignIn[1].Name != "wechat" {
		t.Fatalf("%+v, %v", c, err)
	}
}

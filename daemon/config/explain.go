package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// The origins of a setting.
const (
	FromFlag    = "flag"
	FromEnv     = "env"
	FromFile    = "file"
	FromDefault = "default"
)

// A Setting is what one setting came to, for who maintains the box.
type Setting struct {
	Name   string `json:"name"`  // as in the file: "mail.server"
	Value  string `json:"value"` // without secrets: see masked
	Origin string `json:"origin"`
	// Personal values may say who lives where, and stay out of what is sent to others.
	Personal bool `json:"personal"`
}

// personal are the settings whose values a person chose freely.
var personal = []string{"state", "name", "hosts", "breached", "calendar", "volume", "config"}

// explain lists what every setting came to, ordered as the flags are, then those that
// only the file has.
func explain(v *viper.Viper, flags *pflag.FlagSet) (list []Setting) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "version" || f.Name == "help" {
			return
		}
		s := Setting{Name: f.Name, Origin: FromDefault, Personal: slices.Contains(personal, f.Name)}
		_, env := os.LookupEnv("YUNBOX_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
		switch {
		case f.Changed:
			s.Origin = FromFlag
		case env:
			s.Origin = FromEnv
		case f.Name != "config" && v.InConfig(f.Name):
			s.Origin = FromFile
		}
		switch {
		case f.Name == "config":
			s.Value = fileOf(flags)
		case f.Value.Type() == "on|off":
			on, err := parseOnOff(v.GetString(f.Name))
			s.Value = map[bool]string{true: "on", false: Off}[err == nil && on]
		case f.Name == "mdns":
			who, err := parseMDNS(v.GetString(f.Name))
			s.Value = map[bool]string{true: string(who), false: Off}[err == nil]
		case f.Value.Type() == "stringSlice":
			s.Value = strings.Join(v.GetStringSlice(f.Name), ",")
		default:
			s.Value = v.GetString(f.Name)
		}
		if host, _, err := net.SplitHostPort(s.Value); err == nil && host != "" {
			s.Personal = true
		}
		list = append(list, s)
	})
	known := len(list)
	for _, key := range []string{"mail", "sign-in", "maker"} {
		list = flatten(list, key, v.Get(key))
	}
	slices.SortFunc(list[known:], func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// flatten adds a table or list of the file as single settings.
func flatten(list []Setting, name string, value any) []Setting {
	switch value := value.(type) {
	case nil:
	case map[string]any:
		for key, sub := range value {
			list = flatten(list, name+"."+key, sub)
		}
	case []any:
		for i, sub := range value {
			list = flatten(list, fmt.Sprintf("%s.%d", name, i+1), sub)
		}
	default:
		list = append(list, Setting{Name: name, Value: masked(name, fmt.Sprint(value)), Origin: FromFile, Personal: true})
	}
	return list
}

// masked hides what opens a door. Passwords are no settings (see `yunboxctl secret`),
// but somebody may have put one into an address all the same.
func masked(name, value string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if value == "" {
		return ""
	}
	for _, word := range []string{"password", "secret", "token", "key-id", "team-id", "client-id"} {
		if strings.Contains(last, word) {
			return "********"
		}
	}
	if u, err := url.Parse(value); err == nil && u.Host != "" && (u.User != nil || u.RawQuery != "") {
		if u.User != nil {
			u.User = url.User("********")
		}
		if u.RawQuery != "" {
			u.RawQuery = "********"
		}
		return strings.ReplaceAll(u.String(), "%2A", "*")
	}
	return value
}

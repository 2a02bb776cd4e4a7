// Package config reads the box's settings once, at start, into a validated
// struct. A reload is a new struct.
//
// A setting comes from, in this order: a flag, the environment (YUNBOX_HTTPS for
// --https), the TOML file named by --config, the default. Unknown keys in the
// file are refused: a misspelt setting must not silently mean the default.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// LeastMemoryMiB is the least memory that a box works with.
const LeastMemoryMiB = 40

// Off switches a listener off.
const Off = "off"

// Socket as an address means: what the service manager listens on for the box
// (sd_listen_fds(3), by the setting's name), and nothing else.
const Socket = "socket"

// Config is what can be set about a box. Field tags are the names in the file;
// flags are the same names.
type Config struct {
	// State is the folder that holds everything of the box, absolute.
	State string `mapstructure:"state"`
	// HTTPS is the address of the encrypted gateways, "HOST:PORT", port 0 takes a
	// free one; or "socket". So are HTTP and FTP.
	HTTPS string `mapstructure:"https"`
	// HTTP is the address of the same gateways without encryption, or "off".
	HTTP string `mapstructure:"http"`
	// FTP is the address of the camera gateway, or "off".
	FTP string `mapstructure:"ftp"`
	// FTPPlain lets cameras in that know no TLS: their password and their photos
	// can then be read on the network.
	FTPPlain bool `mapstructure:"ftp-plain"`
	// FTPPorts are the ports of the camera gateway's data connections, "LOW-HIGH".
	// Empty: any that is free.
	FTPPorts string `mapstructure:"ftp-ports"`
	// MDNS says who announces the box on the local network. Empty: nobody.
	MDNS MDNS `mapstructure:"mdns"`
	// Name is what people call the box, at most 63 bytes of UTF-8 (RFC 6763
	// §4.1.1). Empty: "Yunbox" and four characters of its identity.
	Name string `mapstructure:"name"`
	// Hosts are further host names that the box answers to (a reverse proxy's, a
	// router's).
	Hosts []string `mapstructure:"hosts"`
	// LogFormat is "text" or "json".
	LogFormat string `mapstructure:"log-format"`
	// MemoryMiB is the memory, in MiB, that the daemon holds itself to in all, at least
	// LeastMemoryMiB. Its heap, caches and buffers are shares of it.
	MemoryMiB int `mapstructure:"memory-mib"`
	// ReserveMiB is disk space, in MiB, that uploads leave for the catalogue and
	// for deleting; 0 chooses by the size of the disk.
	ReserveMiB int `mapstructure:"reserve-mib"`
	// Volume is the id of the volume that the state directory must lie on, as
	// `yunboxctl status` shows it: where another or none is mounted the box does not
	// start and writes nothing. Empty: any, and a new one is made where there is none.
	Volume string `mapstructure:"volume"`
	// ScrubDays is within how many days the box reads every stored content back, 7
	// to 365; 0: only when it is told to.
	ScrubDays int `mapstructure:"scrub-days"`
	// ScrubMiB is how many MiB a second it reads then; 0: no limit.
	ScrubMiB int `mapstructure:"scrub-mib"`
	// Tree says whether everybody's files are shown under their own names in tree/:
	// "auto", "reflink" (only where that takes no room) or "off". Empty: off.
	Tree string `mapstructure:"tree"`
	// Breached is a file of passwords that were stolen somewhere, SHA-1 sums in their
	// order as haveibeenpwned's downloader writes them, absolute. Empty: there is none.
	Breached string `mapstructure:"breached"`
	// CancelDays is for how many days a person can keep an account that they cancelled,
	// 1 to 90. 0: as erasure chooses.
	CancelDays int `mapstructure:"cancel-days"`
	// Calendar is a folder with a file for each year that says which days are worked on:
	// see requests.ReadYear. Empty: Monday to Friday.
	Calendar string `mapstructure:"calendar"`
	// Mail, SignIn and Maker are servers elsewhere. Only the file has them; without them
	// the box connects to nobody.
	Mail   Mail     `mapstructure:"mail"`
	SignIn []SignIn `mapstructure:"sign-in"`
	Maker  Maker    `mapstructure:"maker"`
	// File is where the settings were read from, absolute; empty: no file.
	File string `mapstructure:"-"`
	// Settings says what each setting came to and from where; empty for a Config that
	// Load did not make.
	Settings []Setting `mapstructure:"-"`
}

// Error is a setting that makes no sense. The program ends with a usage error.
type Error struct{ Err error }

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func errorf(format string, args ...any) error { return &Error{fmt.Errorf(format, args...)} }

// MDNS is who announces the box on the local network.
type MDNS string

// Who announces the box.
const (
	MDNSOn    MDNS = "on"    // the box itself, Avahi where that has the port for itself
	MDNSOwn   MDNS = "own"   // the box itself only
	MDNSAvahi MDNS = "avahi" // Avahi only
	MDNSOff   MDNS = Off     // nobody
)

// Announces reports whether anybody does.
func (m MDNS) Announces() bool { return m != "" && m != MDNSOff }

// String implements pflag.Value.
func (m *MDNS) String() string { return string(*m) }

// Type implements pflag.Value.
func (m *MDNS) Type() string { return "on|off|own|avahi" }

// Set implements pflag.Value.
func (m *MDNS) Set(s string) error {
	v, err := parseMDNS(s)
	*m = v
	return err
}

func parseMDNS(s string) (MDNS, error) {
	switch v := MDNS(strings.ToLower(s)); v {
	case MDNSOwn, MDNSAvahi:
		return v, nil
	}
	on, err := parseOnOff(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is not on, off, own or avahi", s)
	case on:
		return MDNSOn, nil
	}
	return MDNSOff, nil
}

// onOff is a flag that reads on and off beside true and false.
type onOff bool

func (b *onOff) String() string {
	if *b {
		return "on"
	}
	return Off
}
func (b *onOff) Type() string { return "on|off" }
func (b *onOff) Set(s string) error {
	v, err := parseOnOff(s)
	*b = onOff(v)
	return err
}

func parseOnOff(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "on":
		return true, nil
	case Off:
		return false, nil
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither on nor off", s)
	}
	return v, nil
}

// Flags returns the flag set of the daemon, with its help.
func Flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("yunboxd", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.String("state", "/var/lib/yunbox", "`DIR` that holds everything of the box")
	fs.String("https", ":8443", "`ADDR` of page, API and uploads, HOST:PORT; port 0 takes a free one, socket means the one of the service manager")
	fs.String("http", Off, "`ADDR` of the same without encryption, for clients that cannot pin a key, or off")
	fs.String("ftp", Off, "`ADDR` of the camera gateway, or off")
	plain := onOff(false)
	fs.Var(&plain, "ftp-plain", "let cameras in that know no TLS, in the clear, `on|off`")
	fs.String("ftp-ports", "", "`LOW-HIGH` ports of the cameras' data connections, for a firewall; empty: any")
	mdns := MDNSOn
	fs.Var(&mdns, "mdns", "announce the box on the local network, `on|off|own|avahi`: on lets Avahi do it where that keeps the port of mDNS for itself, own and avahi mean nobody else")
	fs.String("name", "", "`NAME` of the box on the network")
	fs.StringSlice("hosts", nil, "further host `NAMES` that the box answers to")
	fs.String("log-format", "text", "form of the log, `text|json`")
	fs.Int("memory-mib", 64, "`MIB` of memory that the daemon holds itself to, all in all")
	fs.Int("reserve-mib", 0, "`MIB` of disk that uploads leave free; 0 chooses by the disk")
	fs.String("volume", "", "`ID` of the volume, from yunboxctl status, without which the box does not start; empty: any")
	fs.Int("scrub-days", 30, "`DAYS` within which every stored content is read back; 0: only on demand")
	fs.Int("scrub-mib", 32, "`MIB` a second that are read then; 0: no limit")
	fs.String("tree", "auto", "readable view of all files, `auto|reflink|off`: auto makes copies where storage cannot be shared and there is ample room")
	fs.String("breached", "", "`FILE` of SHA-1 sums in their order, as haveibeenpwned's downloader writes it: passwords that nobody may choose; read on the box only")
	fs.Int("cancel-days", 7, "`DAYS` for which a person can keep an account that they cancelled")
	fs.String("calendar", "", "`DIR` with a file of holidays for each year (2026.txt: \"2026-10-01 off\"); empty: Monday to Friday are worked on")
	fs.String("config", "", "`FILE` with these settings in TOML")
	fs.Bool("version", false, "print the version and end")
	return fs
}

// Load reads the settings of a parsed flag set, the environment and the file.
// The error is an *Error if a person can mend it.
func Load(flags *pflag.FlagSet) (Config, error) {
	v := viper.New()
	v.SetEnvPrefix("YUNBOX")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "version" && f.Name != "help" {
			err = errors.Join(err, v.BindPFlag(f.Name, f))
		}
	})
	if err != nil {
		return Config{}, err
	}
	if err := readFile(v, flags); err != nil {
		return Config{}, err
	}
	var c Config
	hook := mapstructure.ComposeDecodeHookFunc(onOffHook, mapstructure.StringToSliceHookFunc(","))
	if err := v.UnmarshalExact(&c, viper.DecodeHook(hook)); err != nil {
		return Config{}, errorf("settings: %w", err)
	}
	c.Settings = explain(v, flags)
	if c.File = fileOf(flags); c.File != "" {
		if c.File, err = filepath.Abs(c.File); err != nil {
			return Config{}, errorf("config: %w", err)
		}
	}
	return c, c.validate()
}

// fileOf is the file that a person names, "" if none.
func fileOf(flags *pflag.FlagSet) string {
	if file, _ := flags.GetString("config"); file != "" {
		return file
	}
	return os.Getenv("YUNBOX_CONFIG")
}

func readFile(v *viper.Viper, flags *pflag.FlagSet) error {
	file := fileOf(flags)
	if file == "" {
		return nil
	}
	v.SetConfigFile(file)
	v.SetConfigType("toml")
	if err := v.ReadInConfig(); err != nil {
		return errorf("%s: %w", file, err)
	}
	return nil
}

func onOffHook(from, to reflect.Type, value any) (any, error) {
	switch {
	case from.Kind() == reflect.String && to.Kind() == reflect.Bool:
		return parseOnOff(value.(string))
	case to == reflect.TypeFor[MDNS]() && (from.Kind() == reflect.String || from.Kind() == reflect.Bool):
		return parseMDNS(fmt.Sprint(value))
	}
	return value, nil
}

func (c *Config) validate() error {
	if c.State == "" {
		return errorf("state: a folder is needed")
	}
	abs, err := filepath.Abs(c.State)
	if err != nil {
		return errorf("state: %w", err)
	}
	c.State = abs
	if err := listener("https", c.HTTPS); err != nil {
		return err
	}
	if c.HTTP != Off {
		if err := listener("http", c.HTTP); err != nil {
			return err
		}
	}
	if c.FTP != Off {
		if err := listener("ftp", c.FTP); err != nil {
			return err
		}
	}
	if _, _, err := c.FTPPortRange(); err != nil {
		return err
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return errorf("log-format: %q is neither text nor json", c.LogFormat)
	}
	if c.MemoryMiB < LeastMemoryMiB {
		return errorf("memory-mib: %d is too little; %d is the least", c.MemoryMiB, LeastMemoryMiB)
	}
	if c.ReserveMiB < 0 {
		return errorf("reserve-mib: %d is negative", c.ReserveMiB)
	}
	if c.ScrubDays != 0 && (c.ScrubDays < 7 || c.ScrubDays > 365) {
		return errorf("scrub-days: %d is neither 0 nor 7 to 365", c.ScrubDays)
	}
	if c.ScrubMiB < 0 {
		return errorf("scrub-mib: %d is negative", c.ScrubMiB)
	}
	if c.CancelDays < 0 || c.CancelDays > 90 {
		return errorf("cancel-days: %d is not 1 to 90", c.CancelDays)
	}
	switch c.Tree {
	case "", "auto", "reflink", Off:
	default:
		return errorf("tree: %q is neither auto, reflink nor off", c.Tree)
	}
	if len(c.Name) > 63 || !utf8.ValidString(c.Name) || strings.ContainsFunc(c.Name, unicode.IsControl) {
		return errorf("name: at most 63 bytes of plain text can be announced")
	}
	if c.Breached != "" && !filepath.IsAbs(c.Breached) {
		return errorf("breached: %q is not an absolute path", c.Breached)
	}
	if err := c.outside(); err != nil {
		return err
	}
	for _, h := range c.Hosts {
		if h == "" || strings.ContainsAny(h, "/: \t*") {
			return errorf("hosts: %q is not a host name", h)
		}
	}
	return nil
}

// FTPPortRange returns the first and the last port of FTPPorts, zeros for any.
func (c *Config) FTPPortRange() (low, high int, err error) {
	if c.FTPPorts == "" {
		return 0, 0, nil
	}
	a, b, _ := strings.Cut(c.FTPPorts, "-")
	first, err1 := strconv.ParseUint(a, 10, 16)
	last, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || first < 1024 || last < first {
		return 0, 0, errorf("ftp-ports: %q is not LOW-HIGH with ports from 1024 to 65535", c.FTPPorts)
	}
	return int(first), int(last), nil
}

// listener checks an address to listen on.
func listener(key, addr string) error {
	if addr == Socket {
		return nil
	}
	return address(key, addr)
}

func address(key, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errorf("%s: %q is not HOST:PORT", key, addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return errorf("%s: %q is not a port", key, port)
	}
	return nil
}

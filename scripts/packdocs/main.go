// Command packdocs writes what the package says about the daemon's settings, from the
// settings themselves: `packdocs yunboxd.8` the manual page, `packdocs yunbox.toml` the
// settings file with every default, commented out.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"yunbox.local/daemon"
	"yunbox.local/daemon/config"
)

func main() {
	text := map[string]func() string{"yunboxd.8": manual, "yunbox.toml": settings}
	if len(os.Args) != 2 || text[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: packdocs yunboxd.8|yunbox.toml")
		os.Exit(2)
	}
	if _, err := os.Stdout.WriteString(text[os.Args[1]]()); err != nil {
		fmt.Fprintln(os.Stderr, "packdocs:", err)
		os.Exit(1)
	}
}

func each(do func(f *pflag.Flag, value, usage string)) {
	config.Flags().VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		do(f, value, usage)
	})
}

func manual() string {
	var b strings.Builder
	fmt.Fprintf(&b, `.TH YUNBOXD 8 "" "yunbox %s" "yunbox"
.SH NAME
yunboxd \- keep the files of a storage box
.SH SYNOPSIS
.B yunboxd
[\fIoptions\fR]
.SH DESCRIPTION
yunboxd is the daemon of a private storage box: it is found by phones on the local network,
takes their photos and files in, and keeps them. On a system with this package it is
started by
.BR systemctl (1)
as yunboxd.service, and listens on what yunboxd.socket (HTTPS, port 443), yunboxd\-http.socket
(port 80: the way to HTTPS) and, if it is enabled, yunboxd\-ftp.socket (cameras, port 21) hand to
it.
.BR yunboxctl (1)
maintains it.
.PP
Settings come from, in this order: an option, the environment (YUNBOX_HTTPS for \-\-https),
the file named by \-\-config, the default.
.SH OPTIONS
`, daemon.Version)
	each(func(f *pflag.Flag, value, usage string) {
		fmt.Fprintf(&b, ".TP\n\\fB\\-\\-%s\\fR \\fI%s\\fR\n%s.", roff(f.Name), roff(value), roff(usage))
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
			fmt.Fprintf(&b, " Default: %s.", roff(f.DefValue))
		}
		b.WriteByte('\n')
	})
	b.WriteString(`.SH FILES
.TP
.I /etc/yunbox/yunbox.toml
The settings.
.TP
.I /var/lib/yunbox
Everything of the box: files, records, keys. Removing or purging the package leaves it.
.TP
.I /usr/lib/yunbox/current
The version that runs: that of the package, or a newer one that an update brought.
.SH "EXIT STATUS"
0 after SIGTERM or SIGINT; 1 failed; 2 a setting makes no sense; 5 the disk is not there or can only be
read; 8 another yunboxd uses the same state directory.
.SH "SEE ALSO"
.BR yunboxctl (1),
.BR systemctl (1)
`)
	return b.String()
}

func roff(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

func settings() string {
	var b strings.Builder
	b.WriteString(`# Settings of the box: yunboxd(8). Each line shows a default; take the # away to change it,
# then: systemctl restart yunboxd
#
# The addresses are not here. The box listens on port 443 by yunboxd.socket and points whoever
# calls on port 80 there by yunboxd-http.socket. Another port: systemctl edit yunboxd.socket
#   [Socket]
#   ListenStream=
#   ListenStream=8443
# Cameras that send by FTP: see /lib/systemd/system/yunboxd-ftp.socket.
# http = "socket" serves everything on port 80 without encryption, too.
`)
	each(func(f *pflag.Flag, value, usage string) {
		name := f.Name
		switch name {
		case "config", "version", "https", "http", "ftp":
			return
		}
		def := f.DefValue
		switch {
		case f.Value.Type() == "int":
		case f.Value.Type() == "stringSlice":
			def = "[]"
		default:
			def = fmt.Sprintf("%q", def)
		}
		fmt.Fprintf(&b, "\n")
		for _, line := range wrap(upper(usage)+".", 96) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		if name == "state" {
			b.WriteString("# On a disk of its own: below /srv, /mnt or /media, in a folder that belongs to the user\n# yunbox; and set volume, so that the box never starts without that disk.\n")
		}
		fmt.Fprintf(&b, "#%s = %s\n", name, def)
	})
	b.WriteString(`
# A mail server for notices to people. Its password: yunboxctl secret set mail
#[mail]
#server = "mail.example.org:587"
#from = "box@example.org"
#user = "box@example.org"
#tls = "starttls"          # or "implicit"

# A service that people may sign in with. Its secret: yunboxctl secret set sign-in.ID
#[[sign-in]]
#id = "example"
#name = "Example"
#kind = "oidc"             # or "apple", "wechat"
#issuer = "https://login.example.org"
#client-id = "…"

# Who answers whether there is a newer version, and takes statistics. Nothing is sent
# without these addresses, and nothing without the owner's consent.
#[maker]
#updates = "https://…"
#statistics = "https://…"
`)
	return b.String()
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func wrap(s string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

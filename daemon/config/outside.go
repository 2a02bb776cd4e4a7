package config

import (
	"net/mail"
	"net/url"
	"strings"
)

// Mail is the mail server that notices to people are given to. Its password is the
// secret "mail": see `yunboxctl secret`.
type Mail struct {
	// Server is "HOST:PORT"; empty: no e-mail is sent.
	Server string `mapstructure:"server"`
	// From is the sender's address, with or without a name.
	From string `mapstructure:"from"`
	// User signs in at the server; empty: nobody does.
	User string `mapstructure:"user"`
	// TLS is "starttls", which is insisted on, or "implicit". Empty: starttls.
	TLS string `mapstructure:"tls"`
	// CA is a file with further authorities to trust, in PEM.
	CA string `mapstructure:"ca"`
}

// SignIn is a service elsewhere that people may sign in with. Its secret is
// "sign-in." and the ID: the client secret, or Apple's private key in PEM.
type SignIn struct {
	// ID names it in addresses and records: a-z, 0-9 and hyphens, at most 32.
	ID string `mapstructure:"id"`
	// Name is what people call it, at most 64 bytes.
	Name string `mapstructure:"name"`
	// Kind is "oidc", "apple" or "wechat". Empty: oidc.
	Kind string `mapstructure:"kind"`
	// Issuer is the https address of an OpenID provider; Apple and WeChat have one.
	Issuer string `mapstructure:"issuer"`
	// ClientID is what the service knows the box by: client id, Services ID, AppID.
	ClientID string `mapstructure:"client-id"`
	// TeamID and KeyID belong to Apple's private key.
	TeamID string `mapstructure:"team-id"`
	KeyID  string `mapstructure:"key-id"`
	// CA is a file with further authorities to trust, in PEM.
	CA string `mapstructure:"ca"`
}

// The kinds of services.
const (
	OpenID = "oidc"
	Apple  = "apple"
	WeChat = "wechat"
)

// Maker is who answers whether there is a newer version, and takes statistics. There is
// no address of its own in the program: without these nothing is sent.
type Maker struct {
	// Updates and Statistics are https addresses.
	Updates    string `mapstructure:"updates"`
	Statistics string `mapstructure:"statistics"`
	// CA is a file with further authorities to trust, in PEM.
	CA string `mapstructure:"ca"`
}

// outside checks what is set about servers elsewhere, and fills in defaults.
func (c *Config) outside() error {
	if c.Mail.Server != "" {
		if err := address("mail.server", c.Mail.Server); err != nil {
			return err
		}
		if _, err := mail.ParseAddress(c.Mail.From); err != nil {
			return errorf("mail.from: %q is no address", c.Mail.From)
		}
	}
	switch c.Mail.TLS {
	case "", "starttls", "implicit":
	default:
		return errorf("mail.tls: %q is neither starttls nor implicit", c.Mail.TLS)
	}
	for what, at := range map[string]string{"updates": c.Maker.Updates, "statistics": c.Maker.Statistics} {
		if at != "" && !isHTTPS(at) {
			return errorf("maker.%s: %q is no https address", what, at)
		}
	}
	seen := map[string]bool{}
	for i := range c.SignIn {
		s := &c.SignIn[i]
		if s.ID == "" || len(s.ID) > 32 || strings.Trim(s.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || seen[s.ID] {
			return errorf("sign-in.id: %q is not a name of its own of small letters, digits and hyphens", s.ID)
		}
		seen[s.ID] = true
		if err := s.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *SignIn) check() error {
	if s.Kind == "" {
		s.Kind = OpenID
	}
	if s.Name == "" {
		s.Name = s.ID
	}
	switch s.Kind {
	case OpenID:
	case Apple:
		if s.Issuer == "" {
			s.Issuer = "https://appleid.apple.com"
		}
		if s.TeamID == "" || s.KeyID == "" {
			return errorf("sign-in %s: team-id and key-id are needed", s.ID)
		}
	case WeChat:
		if s.Issuer == "" {
			s.Issuer = "https://api.weixin.qq.com"
		}
	default:
		return errorf("sign-in %s: kind %q is neither oidc, apple nor wechat", s.ID, s.Kind)
	}
	switch {
	case len(s.Name) > 64:
		return errorf("sign-in %s: the name is longer than 64 bytes", s.ID)
	case !isHTTPS(s.Issuer):
		return errorf("sign-in %s: issuer %q is no https address", s.ID, s.Issuer)
	case s.ClientID == "" || len(s.ClientID) > 255:
		return errorf("sign-in %s: client-id is needed", s.ID)
	}
	return nil
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/incident"
	"yunbox.local/daemon/mail"
	"yunbox.local/daemon/report"
	"yunbox.local/daemon/rights"
	"yunbox.local/daemon/secrets"
	"yunbox.local/daemon/thirdparty"
	"yunbox.local/storage/vfs"
)

// openOutside makes the parts that speak to servers elsewhere. They connect to nobody
// before they are asked to, and to nobody at all unless the settings name them.
func (b *Box) openOutside(keys vfs.FS) error {
	b.secrets = secrets.New(keys)
	mailer, err := b.openMail()
	if err != nil {
		return err
	}
	b.incidents = incident.New(incident.Options{
		DB: b.db, Audit: b.audit, Outside: b.outside, Mail: mailer, Log: b.log, Now: b.clock.sure, // what is published cannot be taken back
		Address: b.accounts.MailAddress, HasAddress: b.accounts.HasMailAddress, Everyone: b.everyone, Touched: b.touched, Notify: b.accounts.NotifyIncident,
		Box: func() (name, url string) { return b.Name(), b.URLs()[0] },
	})
	services, err := b.services()
	if err != nil {
		return err
	}
	b.elsewhere = thirdparty.New(thirdparty.Options{
		Services: services, DB: b.db, Accounts: b.accounts, Consent: b.consent, Outside: b.outside, Now: b.now, Log: b.log,
		Secret: func(service string) (string, error) {
			s, ok, err := b.secrets.Get("sign-in." + service)
			if err == nil && !ok {
				err = errors.New("its secret is missing: `yunboxctl secret set sign-in." + service + "`")
			}
			return s, err
		},
	})
	return b.openMaker()
}

func (b *Box) openMaker() error {
	roots, err := authorities(b.conf.Maker.CA)
	if err != nil {
		return err
	}
	b.maker = report.New(report.Options{
		DB: b.db, Consent: b.consent, Outside: b.outside, Version: Version, Updates: b.conf.Maker.Updates, Statistics: b.conf.Maker.Statistics, Roots: roots,
		People: b.everyone,
		Kept: func(ctx context.Context, u ident.UserID) (files, bytes int64, err error) {
			usage, err := b.catalog.Usage(ctx, u)
			return usage.Items, usage.Bytes, err
		},
	})
	return nil
}

// services are what the settings say that people may sign in with.
func (b *Box) services() (list []thirdparty.Service, err error) {
	for _, c := range b.conf.SignIn {
		roots, err := authorities(c.CA)
		if err != nil {
			return nil, err
		}
		list = append(list, thirdparty.Service{ID: c.ID, Name: c.Name, Kind: thirdparty.Kind(c.Kind), Issuer: c.Issuer, ClientID: c.ClientID,
			TeamID: c.TeamID, KeyID: c.KeyID, Roots: roots})
	}
	return list, nil
}

// accountsHeld is account.Held with what only an open key can read.
func (b *Box) accountsHeld() rights.Holder {
	h := b.accounts.Held()
	for i := range h.Categories {
		if h.Categories[i].ID == "links" {
			h.Categories[i].Files = b.linkNames
			h.Categories[i].Erase = rights.Erase{Step: b.eraseLinks}
		}
	}
	return h
}

func (b *Box) eraseLinks(ctx context.Context, u ident.UserID, _ rights.Which, _ int) (int, error) {
	links, err := b.accounts.Links(ctx, u)
	if err != nil || len(links) == 0 {
		return 0, err
	}
	return len(links), b.accounts.EraseLinks(ctx, u)
}

func (b *Box) linkNames(ctx context.Context, u ident.UserID) (list []rights.Record, err error) {
	links, err := b.accounts.Links(ctx, u)
	for _, l := range links {
		if l.Shown != "" {
			list = append(list, rights.Record{Kind: "link_name", Fields: []rights.Field{{Name: "id", Value: l.ID.String()}, {Name: "service", Value: l.Service}, {Name: "name", Value: l.Shown}}})
		}
	}
	return list, err
}

func (b *Box) openMail() (*mail.Mailer, error) {
	roots, err := authorities(b.conf.Mail.CA)
	if err != nil {
		return nil, err
	}
	c := b.conf.Mail
	return mail.New(mail.Options{
		Server: c.Server, From: c.From, User: c.User, Implicit: c.TLS == "implicit", Roots: roots,
		Password: func() (string, error) {
			password, ok, err := b.secrets.Get("mail")
			if err == nil && !ok {
				err = errors.New("the password of the mail server is missing: `yunboxctl secret set mail`")
			}
			return password, err
		},
	})
}

// authorities are those of the system and of a file that the settings name; nil: those
// of the system.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("settings: %s has no certificate", file)
	}
	return pool, nil
}

func (b *Box) everyone(ctx context.Context) (list []ident.UserID, err error) {
	people, err := b.accounts.Users(ctx)
	for _, u := range people {
		list = append(list, u.ID)
	}
	return list, err
}

// touched are the people with data of one of the categories.
func (b *Box) touched(ctx context.Context, categories []string) (list []ident.UserID, err error) {
	people, err := b.everyone(ctx)
	if err != nil {
		return nil, err
	}
	register := b.register()
	for _, u := range people {
		has := false
		for _, id := range categories {
			c, err := register.Category(id)
			if err != nil {
				return nil, err
			}
			err = register.Read(ctx, func(tx *db.Tx) error {
				s, err := c.Sum(ctx, tx, u)
				has = has || s.Records > 0
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		if has {
			list = append(list, u)
		}
	}
	return list, nil
}

package daemon

import (
	"crypto/x509"
	"encoding/base64"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/disclosure"
	"yunbox.local/daemon/export"
	"yunbox.local/daemon/gateway/content"
	"yunbox.local/daemon/gateway/nextcloud"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/daemon/guardian"
	"yunbox.local/daemon/ident"
	"yunbox.local/daemon/incident"
	"yunbox.local/daemon/rights"
)

// register is what every part of the box says that it keeps about people.
func (b *Box) register() *rights.Register {
	r := rights.New(b.db,
		b.accountsHeld(), b.vault.Held(), consent.Held(), guardian.Held(), b.catalog.Held(sourcesOf), b.ingest.Held(), webdav.Held(), nextcloud.Held(), b.inbox.Held(),
		b.duplicates.Held(), b.tree.Held(), b.exports.Held(), b.erasure.Held(), b.requests.Held(), audit.Held(),
		disclosure.Held(), incident.Held(),
	)
	r.Pace(b.pace)
	return r
}

func (b *Box) openExports(files *content.Files) {
	b.exports = export.New(export.Options{
		DB: b.db, Audit: b.audit, Catalog: b.catalog, Rights: b.register, Open: files.Open, Sign: b.consent.Sign,
		Left: func(tx *db.Tx, p ident.Principal, id string) error {
			return b.outside.Record(tx, disclosure.Entry{User: p.User, Kind: disclosure.Export, Recipient: "the person", Categories: []string{"everything"},
				Why: "asked_for", Basis: disclosure.ByPerson, Actor: p.User, Object: id})
		},
		Dir: b.path("exports"), Version: Version, Log: b.log, Now: b.now,
		Box: func() (export.Signer, error) {
			spki, err := x509.MarshalPKIXPublicKey(b.identity.Signer().Public())
			return export.Signer{ID: b.identity.ID(), Key: b.identity.Fingerprint(), SPKI: base64.StdEncoding.EncodeToString(spki)}, err
		},
	})
	b.closers = append(b.closers, b.exports.Close)
}

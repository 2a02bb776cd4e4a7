package daemon

import (
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/rights"
	"yunbox.local/daemon/vault"
)

// Routes lists what the network can ask of b over HTTP.
func Routes(b *Box) []httpd.Route { return b.front.Routes() }

// Register is what every part of b says that it keeps about people.
func Register(b *Box) *rights.Register { return b.register() }

// Database is b's.
func Database(b *Box) *db.DB { return b.db }

// Vault is b's.
func Vault(b *Box) *vault.Vault { return b.vault }

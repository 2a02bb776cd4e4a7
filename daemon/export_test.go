package daemon

import (
	"context"
	"net/http"

	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/rights"
	"yunbox.local/daemon/vault"
	"yunbox.local/discovery"
)

// Routes lists what the network can ask of b over HTTP.
func Routes(b *Box) []httpd.Route { return b.front.Routes() }

// Register is what every part of b says that it keeps about people.
func Register(b *Box) *rights.Register { return b.register() }

// Between has fn called between two steps of erasing, and an error of it break off.
func Between(b *Box, fn func(context.Context) error) { b.between = fn }

// EraseNow does what there is to erase, as Run would.
func EraseNow(ctx context.Context, b *Box) error {
	exports, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); b.exports.Run(exports) }()
	defer func() { stop(); <-ended }()
	return b.erasure.Work(ctx)
}

// Answered are the links on which b is announced and answers.
func Answered(ctx context.Context, b *Box) []string { return b.answered(ctx) }

// ProveMDNS is the check of a trial whether b is found.
func ProveMDNS(ctx context.Context, b *Box) error { return b.proveMDNS(ctx) }

// Excused reports whether others may be why the box is not found.
func Excused(s discovery.Status) bool { return excused(s) }

// ID is b's public one.
func ID(b *Box) string { return b.identity.ID() }

// Network is what b says about its announcement.
func Network(b *Box) api.NetworkState { return b.network() }

// Front answers the network for b.
func Front(b *Box) http.Handler { return b.front }

// Database is b's.
func Database(b *Box) *db.DB { return b.db }

// Vault is b's.
func Vault(b *Box) *vault.Vault { return b.vault }

// Works is what b does in the background.
func Works(ctx context.Context, b *Box) ([]api.Work, error) { return b.works(ctx) }

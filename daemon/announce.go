package daemon

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/gateway/webdav"
	"yunbox.local/discovery"
)

// namesKey is where the names are kept that the box took because another device had
// its own.
const namesKey = "network_names"

// announce keeps the box visible on the network. A network that does not let it
// is no reason to stop keeping files.
func (b *Box) announce(ctx context.Context) {
	kept, err := b.keptNames(ctx)
	if err != nil {
		b.log.Warn("the name that the box had on the network is not known", "err", err)
	}
	s := b.service()
	a, err := discovery.Announce(ctx, s, discovery.Options{Log: b.log, Backend: backend(b.conf.MDNS), Kept: kept, Keep: func(n discovery.Names) {
		b.called.Store(&n)
		if n == s.Names() {
			n = discovery.Names{} // nothing to be kept
		}
		if n == kept {
			return
		}
		if err := b.keepNames(context.WithoutCancel(ctx), n); err != nil {
			b.log.Warn("the name of the box on the network is not kept for the next start", "err", err)
			return
		}
		kept = n
	}})
	if err != nil {
		b.log.Error("the box cannot be announced on the network", "err", err)
		return
	}
	b.announced.Store(a)
	defer func() {
		if err := a.Close(); err != nil {
			b.log.Warn("the network was not told goodbye", "err", err)
		}
	}()
	told := s
	over := time.NewTimer(0)
	defer over.Stop()
	for {
		until, invited := b.accounts.Inviting()
		if !until.IsZero() {
			over.Reset(until.Sub(b.now()) + time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.bound:
		case <-invited:
		case <-over.C:
		}
		s := b.service()
		if s == told {
			continue
		}
		if err := a.Update(s); err != nil {
			b.log.Error("the box's new state cannot be announced", "err", err)
			continue
		}
		told = s
	}
}

func (b *Box) service() discovery.Service {
	s := discovery.Service{
		Name: b.Name(), Host: strings.TrimSuffix(b.identity.HostName(), ".local"), Port: port(b.https), ID: b.identity.ID(),
		State: discovery.Unbound, Model: "yunbox", API: "/v1", WebDAV: webdav.Prefix, SerialTail: b.accounts.SerialEnd(),
	}
	if b.cameras != nil {
		s.FTP = port(b.ftp)
	}
	if b.accounts.Bound(context.Background()) {
		s.State, s.SerialTail = discovery.Bound, ""
		if until, _ := b.accounts.Inviting(); !until.IsZero() {
			s.State = discovery.Pairing
		}
	}
	if b.updates.Closed() != nil {
		s.State, s.SerialTail = discovery.Maintenance, ""
	}
	return s
}

func backend(m config.MDNS) discovery.Backend {
	switch m {
	case config.MDNSOwn:
		return discovery.Own
	case config.MDNSAvahi:
		return discovery.Avahi
	}
	return discovery.Auto
}

// network says how it is with the announcement, for who maintains the box.
func (b *Box) network() api.NetworkState {
	n := api.NetworkState{MDNS: config.Off, Links: []string{}}
	if !b.conf.MDNS.Announces() {
		return n
	}
	s, ok := b.Announced()
	if !ok {
		n.MDNS = string(discovery.Own)
		return n
	}
	n.MDNS, n.Name, n.Host, n.Announced = string(s.Backend), s.Names.Instance, s.Names.Host+".local", s.Held
	n.Links = append(n.Links, s.Links...)
	if !s.Looked.IsZero() {
		seen := len(s.Links) > 0
		for _, l := range s.Links {
			seen = seen && slices.Contains(s.Answered, l)
		}
		n.Seen = &seen
	}
	if s.Err != nil {
		text := strings.ReplaceAll(s.Err.Error(), "\n", "; ")
		n.Error = &text
	}
	return n
}

// Announced tells how the announcement on the network is doing; false if there is
// none (yet).
func (b *Box) Announced() (discovery.Status, bool) {
	a := b.announced.Load()
	if a == nil {
		return discovery.Status{}, false
	}
	return a.Status(), true
}

// hostName is the box's own name on the network: the one of its identity, or the
// one that it took because another device has that.
func (b *Box) hostName() string {
	if n := b.called.Load(); n != nil {
		return n.Host + ".local"
	}
	return b.identity.HostName()
}

func (b *Box) keptNames(ctx context.Context) (n discovery.Names, err error) {
	var text string
	err = b.db.Read(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT value FROM box WHERE key = ?`, namesKey).Scan(&text)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal([]byte(text), &n)
}

// keepNames writes names down for the next start; none takes the old ones away.
func (b *Box) keepNames(ctx context.Context, n discovery.Names) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return b.db.Write(ctx, func(tx *db.Tx) error {
		if n == (discovery.Names{}) {
			_, err := tx.Exec(`DELETE FROM box WHERE key = ?`, namesKey)
			return err
		}
		_, err := tx.Exec(`INSERT INTO box (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, namesKey, string(text))
		return err
	})
}

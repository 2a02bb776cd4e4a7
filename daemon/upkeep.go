package daemon

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"yunbox.local/daemon/config"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/doctor"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/httpd"
	figures "yunbox.local/daemon/metrics"
	"yunbox.local/daemon/vault"
)

// upkeepRoutes is what whoever maintains the box asks it over the unix socket.
func (b *Box) upkeepRoutes() {
	handle := b.maintenance.Handle
	handle("GET /local/jobs", b.serveJobs)
	handle("POST /local/jobs/stop", b.stopJob)
	handle("GET /local/doctor", b.serveDoctor)
	handle("GET /local/config", b.serveConfig)
	handle("GET /local/support", b.serveSupport)
}

// counted is a listener that counts what it accepts.
type counted struct {
	net.Listener
	n *atomic.Int64
}

// Accept implements net.Listener.
func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// metrics is what the box tells in figures.
func (b *Box) metrics(ctx context.Context) ([]byte, error) {
	p := &figures.Page{}
	p.Set("yunbox_build", Version, 1)
	p.Set("yunbox_uptime_seconds", "", float64(int64(time.Since(b.started).Seconds())))
	p.Set("yunbox_resident_bytes", "", float64(resident()))
	own := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(own)
	p.Set("yunbox_heap_bytes", "", float64(own[0].Value.Uint64()))
	p.Set("yunbox_goroutines", "", float64(own[1].Value.Uint64()))
	_, unsure := b.clock.shown()
	p.Flag("yunbox_clock_unsure", unsure)

	p.Flag("yunbox_volume_healthy", errors.Join(b.store.Err(), b.db.Err()) == nil)
	p.Flag("yunbox_records_healthy", b.recordsState().OK)
	network := b.network()
	for _, by := range []string{"own", "avahi"} {
		n := 0
		if network.MDNS == by {
			n = len(network.Links)
		}
		p.Set("yunbox_mdns_links", by, float64(n))
	}
	p.Flag("yunbox_mdns_seen", network.Seen != nil && *network.Seen)
	space, err := b.store.Space()
	if err != nil {
		return nil, err
	}
	p.Set("yunbox_disk_bytes", "", float64(space.Total))
	p.Set("yunbox_disk_free_bytes", "", float64(space.Free))
	totals, err := b.catalog.Totals(ctx)
	if err != nil {
		return nil, err
	}
	p.Set("yunbox_items", "", float64(totals.Items))
	p.Set("yunbox_logical_bytes", "", float64(totals.LogicalBytes))
	p.Set("yunbox_blobs", "", float64(totals.Blobs))
	p.Set("yunbox_physical_bytes", "", float64(totals.PhysicalBytes))

	b.traffic.Tell(p)
	p.Set("yunbox_http_connections", "", float64(b.front.Connections()))
	p.Set("yunbox_ftp_connections_total", "", float64(b.visits.Load()))
	p.Set("yunbox_uploads_open", "", float64(b.ingest.Active()))
	files := b.ingest.Counts()
	for outcome, n := range map[string]int64{"new": files.New, "known": files.Known, "declined": files.Declined, "failed": files.Failed} {
		p.Set("yunbox_uploads_total", outcome, float64(n))
	}
	changes := b.db.Stats()
	p.Set("yunbox_db_writes_total", "", float64(changes.Writes))
	p.Set("yunbox_db_commits_total", "", float64(changes.Commits))

	cover, err := b.health.Coverage(ctx)
	if err != nil {
		return nil, err
	}
	p.Set("yunbox_damaged", "", float64(cover.Damage.Open))
	p.Set("yunbox_healed", "", float64(cover.Damage.Healed))
	p.Set("yunbox_scrubbed_timestamp_seconds", "", seconds(cover.Last))
	p.Set("yunbox_unverified_timestamp_seconds", "", seconds(cover.Oldest))
	copies, err := b.secondCopies(ctx)
	if err != nil {
		return nil, err
	}
	complete, newest := 0, time.Time{}
	for _, c := range copies {
		if c.Complete {
			complete++
			if c.Time.After(newest) {
				newest = c.Time
			}
		}
	}
	p.Set("yunbox_second_copies", "", float64(len(copies)))
	p.Set("yunbox_second_copies_complete", "", float64(complete))
	p.Set("yunbox_second_copy_timestamp_seconds", "", seconds(newest))
	works, err := b.works(ctx)
	if err != nil {
		return nil, err
	}
	for _, kind := range figures.Jobs() {
		n := 0
		for _, w := range works {
			if w.Kind == kind && !w.Over() {
				n += max(w.Count, 1)
			}
		}
		p.Set("yunbox_jobs", kind, float64(n))
	}
	var out bytes.Buffer
	_, err = p.WriteTo(&out)
	return out.Bytes(), err
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// lookTime is how long the database may take to be looked through: on a slow disk it
// can be minutes, and yunboxctl check does that.
const lookTime = time.Minute

// serveDoctor says what only the box itself can find out about itself.
func (b *Box) serveDoctor(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), lookTime)
	defer cancel()
	list := []doctor.Finding{b.lookAtDatabase(ctx)}
	find := func(check string, state doctor.State, says, do string) {
		list = append(list, doctor.Finding{Check: check, State: state, Says: says, Do: do})
	}
	if records := b.recordsState(); records.OK {
		find("journal", doctor.OK, "The catalogue could be brought back from the journal beside it.", "")
	} else {
		find("journal", doctor.Fail, "The journal beside the catalogue does not keep up: "+*records.Error+".", "Look after the disk, then restart the box.")
	}
	if err := errors.Join(b.store.Err(), b.db.Err()); err != nil {
		find("volume", doctor.Fail, "The box takes nothing new: its disk failed, or can only be read.", "Look after the disk, then restart the box: `systemctl restart yunboxd`.")
	} else {
		find("volume", doctor.OK, "The box can write to its disk.", "")
	}
	if _, unsure := b.clock.shown(); unsure {
		find("box-clock", doctor.Warn, "The box does not trust its clock, and lets no term run out by it.", "Let the box reach a time server, or set the clock.")
	}
	cover, err := b.health.Coverage(ctx)
	if err != nil {
		return err
	}
	if n := cover.Damage.Open; n > 0 {
		find("damage", doctor.Fail, fmt.Sprintf("%d contents are damaged and wait for a device that still has them.", n), "`yunboxctl repair`, then let the devices back up again.")
	} else {
		find("damage", doctor.OK, "No stored content is known to be damaged.", "")
	}
	now := b.clock.sure()
	switch {
	case cover.Oldest.IsZero():
		find("scrub", doctor.OK, "Nothing is kept yet that could be read back.", "")
	case cover.Days == 0:
		list = append(list, doctor.Since("scrub", "Some contents were last read back", cover.Oldest, now, 90, "`yunboxctl scrub --full`, or set scrub-days: the box does not do it by itself."))
	default:
		list = append(list, doctor.Since("scrub", "The content that was not read back for longest was read or written", cover.Oldest, now, cover.Days+10, "Leave the box on: it reads at night. Or `yunboxctl scrub --full`."))
	}
	copies, err := b.secondCopies(ctx)
	if err != nil {
		return err
	}
	newest := time.Time{}
	for _, c := range copies {
		if c.Complete && c.Time.After(newest) {
			newest = c.Time
		}
	}
	switch {
	case len(copies) == 0:
		find("second-copy", doctor.Warn, "There is no second copy: if this disk dies, what is only here is lost.", "Attach another disk and `yunboxctl backup add`.")
	default:
		list = append(list, doctor.Since("second-copy", "The newest complete second copy was made", newest, now, 14, "Attach its disk, and `yunboxctl backup run`; `yunboxctl backup list` says more."))
	}
	if rss := resident(); rss > int64(b.conf.MemoryMiB)<<20*5/4 {
		find("memory", doctor.Warn, fmt.Sprintf("The box takes %d MiB of memory, more than the %d it holds itself to.", rss>>20, b.conf.MemoryMiB), "Tell its makers, with `yunboxctl support-bundle`.")
	} else {
		find("memory", doctor.OK, fmt.Sprintf("The box takes %d of %d MiB of memory.", rss>>20, b.conf.MemoryMiB), "")
	}
	httpd.WriteJSON(w, http.StatusOK, map[string][]doctor.Finding{"findings": list})
	return nil
}

func (b *Box) lookAtDatabase(ctx context.Context) doctor.Finding {
	f := doctor.Finding{Check: "database", State: doctor.OK, Says: "SQLite finds nothing wrong with the catalogue."}
	switch err := b.db.QuickCheck(ctx); {
	case err == nil:
	case ctx.Err() != nil:
		f.State, f.Says, f.Do = doctor.Unknown, "The catalogue is so large that it was not looked through in a minute.", "`yunboxctl check` does it, however long it takes."
	default:
		b.log.Error("the catalogue is damaged", "err", err)
		f.State, f.Says, f.Do = doctor.Fail, "The catalogue is damaged.", "`yunboxctl rebuild` makes it anew from the journal beside it."
	}
	return f
}

// serveConfig says what the settings came to. The socket is root's, and still no secret
// leaves by it.
func (b *Box) serveConfig(w http.ResponseWriter, _ *http.Request) error {
	httpd.WriteJSON(w, http.StatusOK, map[string]any{"file": b.conf.File, "settings": append([]config.Setting{}, b.conf.Settings...)})
	return nil
}

// support is what the box itself puts into a bundle for its makers: nothing in it says
// whose box it is.
type support struct {
	Version  string           `json:"version"`
	Serial   vault.Serial     `json:"serial"` // masked
	Bound    bool             `json:"bound"`
	People   int              `json:"people"`
	Schema   int              `json:"schema"`
	Rows     map[string]int64 `json:"rows"` // by table
	Settings []config.Setting `json:"settings"`
	Jobs     []api.Job        `json:"jobs"`
}

// rowTime is how long the rows of all tables may take to be counted.
const rowTime = 20 * time.Second

func (b *Box) serveSupport(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	s := support{Version: Version, Bound: b.accounts.Bound(ctx), Serial: vault.NewSerial(b.accounts.SerialEnd()), Settings: []config.Setting{}}
	people, err := b.accounts.Users(ctx)
	if err != nil {
		return err
	}
	s.People = len(people)
	for _, x := range b.conf.Settings {
		if x.Personal && x.Value != "" {
			x.Value = vault.NewCode(x.Value).String()
		}
		s.Settings = append(s.Settings, x)
	}
	works, err := b.works(ctx)
	if err != nil {
		return err
	}
	s.Jobs = api.Jobs(works, 0, true)
	counting, cancel := context.WithTimeout(ctx, rowTime)
	defer cancel()
	s.Schema, s.Rows, err = rows(counting, b.db)
	if err != nil && counting.Err() == nil {
		return err
	}
	httpd.WriteJSON(w, http.StatusOK, s)
	return nil
}

// rows counts the rows of every table, as far as it gets until ctx ends.
func rows(ctx context.Context, records *db.DB) (schema int, counts map[string]int64, err error) {
	counts = map[string]int64{}
	err = records.Read(ctx, func(tx *db.Tx) error {
		if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&schema); err != nil {
			return err
		}
		names, err := tables(ctx, tx)
		if err != nil {
			return err
		}
		for _, name := range names {
			var n int64
			// The name is the database's own.
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM "`+name+`"`).Scan(&n); err != nil {
				return err
			}
			counts[name] = n
		}
		return nil
	})
	return schema, counts, err
}

func tables(ctx context.Context, tx *db.Tx) (names []string, err error) {
	var list *sql.Rows
	if list, err = tx.QueryContext(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`); err != nil {
		return nil, err
	}
	defer list.Close()
	for list.Next() {
		var name string
		if err := list.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, list.Err()
}

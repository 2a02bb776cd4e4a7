package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"yunbox.local/daemon/audit"
	"yunbox.local/daemon/consent"
	"yunbox.local/daemon/db"
	"yunbox.local/daemon/gateway/api"
	"yunbox.local/daemon/httpd"
	"yunbox.local/daemon/problem"
	"yunbox.local/storage/vfs"
)

// Rescue holds the state directory of a box whose records cannot be used, and
// answers on its unix socket only: every question with why, and POST /local/rebuild
// by rebuilding them. It returns the report once that went well: open the box again.
// With ErrRebuild as why, it also returns after a rebuild that failed, and when nobody
// asks within rescuePatience. ready is called when the socket answers.
//
// Nobody is served meanwhile. A phone finds no box and tries again, which loses
// nothing; one that was told "error" might show it to its owner.
func Rescue(ctx context.Context, opt Options, why error, ready func()) (*RebuildReport, error) {
	b := newBox(opt)
	report, err := b.rescue(ctx, opt.Disk, why, ready)
	return report, errors.Join(err, b.Close())
}

// rescuePatience is how long a box that was closed for a rebuild waits for whoever
// asked for it.
const rescuePatience = 30 * time.Second

// Rebuild rebuilds the records of a box that does not run. tell may be nil.
func Rebuild(ctx context.Context, opt Options, how RebuildOptions, tell func(RebuildProgress)) (RebuildReport, error) {
	b := newBox(opt)
	if err := b.openForRescue(ctx, opt.Disk); err != nil {
		return RebuildReport{}, errors.Join(err, b.Close())
	}
	report, err := b.rebuildRecords(ctx, how, tell)
	return report, errors.Join(err, b.Close())
}

// openForRescue takes what a rebuild needs: the volume and the keys.
func (b *Box) openForRescue(ctx context.Context, disk vfs.FS) error {
	disk, err := b.openVolume(ctx, disk)
	if err != nil {
		return err
	}
	b.disk = disk
	_, err = b.openKeys()
	return err
}

func (b *Box) rebuildRecords(ctx context.Context, how RebuildOptions, tell func(RebuildProgress)) (RebuildReport, error) {
	if tell == nil {
		tell = func(RebuildProgress) {}
	}
	r := &rebuilding{
		RebuildOptions: how, conf: b.conf, log: b.log, now: b.now, disk: b.disk, store: b.store, tell: tell,
		ledger: func(d *db.DB, log *audit.Log) (*consent.Ledger, error) {
			return consent.OpenWith(ctx, d, log, b.identity.Signer(), b.words)
		},
	}
	return r.run(ctx)
}

func (b *Box) rescue(ctx context.Context, disk vfs.FS, why error, ready func()) (*RebuildReport, error) {
	if err := b.openForRescue(ctx, disk); err != nil {
		return nil, err
	}
	if err := vfs.CreateDir(b.path("run")); err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	listener, err := listenLocal(b.path(socket))
	if err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	b.closers = append(b.closers, closed(listener))
	asked := errors.Is(why, ErrRebuild)
	var nobody <-chan time.Time
	if asked {
		nobody = time.After(rescuePatience)
		why = &problem.Error{Kind: problem.Unavailable, Op: "daemon.rescue", Title: "The box is closed while its catalogue is rebuilt", Hint: "Try again in a moment."}
	}
	local := api.Closed(why)
	done := make(chan *RebuildReport, 1)
	gone := make(chan struct{}) // closed once nobody is let in any more
	var one sync.Mutex          // held by a rebuild, for good by the last one
	local.Handle("POST /local/rebuild", func(w http.ResponseWriter, r *http.Request) error {
		if !one.TryLock() {
			return &problem.Error{Kind: problem.Locked, Op: "daemon.rebuild", Title: "A rebuild is running already", Hint: "Wait for it."}
		}
		report, err := b.streamRebuild(ctx, w, r)
		switch {
		case err == nil:
			done <- &report
		case asked: // the records may be in good order
			done <- nil
		default:
			one.Unlock()
			return nil // it was told in the stream
		}
		<-gone // who reads to the end and asks again is not answered by the rescue any more
		return nil
	})
	server := &http.Server{
		Handler: httpd.Guard(b.log, local), ConnContext: local.ConnContext,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- ignoreClosed(server.Serve(listener)) }()
	ready()
	var report *RebuildReport
	select {
	case <-ctx.Done():
	case report = <-done:
	case <-nobody:
		if !one.TryLock() {
			report = <-done
		}
	case err := <-ended:
		close(gone)
		return nil, err
	}
	err = listener.Close()
	close(gone)
	stop, stopped := context.WithTimeout(context.Background(), drain)
	defer stopped()
	return report, errors.Join(err, unlessClosed(server.Shutdown(stop)), unlessClosed(<-ended))
}

// streamRebuild answers with a line of JSON for each event: progress, then done or
// error.
func (b *Box) streamRebuild(ctx context.Context, w http.ResponseWriter, r *http.Request) (RebuildReport, error) {
	var how RebuildOptions
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&how); err != nil {
		err = &problem.Error{Kind: problem.Invalid, Op: "daemon.rebuild", Title: "The body is not the JSON that is expected", Err: err, Hint: "This yunboxctl may be older or newer than the box."}
		httpd.WriteProblem(w, r, err)
		return RebuildReport{}, err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	line := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	send := func(v any) {
		line.Encode(v) // whoever has gone away does not stop the rebuild
		flush.Flush()
	}
	send(struct {
		Event string `json:"event"`
		RebuildProgress
	}{"progress", RebuildProgress{Step: "records"}})
	last := time.Now()
	// Not the context of the request: it goes on when nobody looks on any more, but
	// ends when the box does.
	report, err := b.rebuildRecords(ctx, how, func(p RebuildProgress) {
		if time.Since(last) < 100*time.Millisecond {
			return
		}
		last = time.Now()
		send(struct {
			Event string `json:"event"`
			RebuildProgress
		}{"progress", p})
	})
	if err != nil {
		b.log.Error("the records could not be rebuilt", "err", err)
		p := problem.As(err)
		send(map[string]any{"event": "error", "kind": p.Kind, "title": p.Title, "detail": p.Detail, "hint": p.Hint})
		return report, err
	}
	b.log.Info("the records were rebuilt", "replaced", report.Replaced, "number", report.Number, "people", report.People, "files", report.Files,
		"missing", report.Missing, "found", report.Found, "lost", report.Lost, "kept", report.Kept)
	send(struct {
		Event string `json:"event"`
		RebuildReport
	}{"done", report})
	return report, nil
}

// askRebuild answers POST /local/rebuild of a running box: it closes itself, and
// the rebuild is to be asked for again.
func (b *Box) askRebuild(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	if _, err := w.Write([]byte(`{"event":"closing"}` + "\n")); err != nil {
		return err
	}
	select {
	case b.rebuild <- struct{}{}:
	default:
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"yunbox.local/scripts/harness/internal/box"
	"yunbox.local/scripts/harness/internal/floor"
	"yunbox.local/scripts/harness/internal/proc"
)

// A target is a kind of server under test: the box, or the floor program.
type target interface {
	// start runs the server with all its state below dir.
	start(ctx context.Context, dir string) (server, error)
}

// A server is a running target.
type server interface {
	// settle brings a new server to where clients can use it; all it was promised
	// must be found again after every later cut.
	settle(ctx context.Context, hs *histories, pos func() int) error
	// clients are the loops that act on the server until ctx ends.
	clients(ctx context.Context, hs *histories, pos func() int) []func()
	// observe tells the present states of things, by key.
	observe(ctx context.Context, keys []string) map[string]string
	// judge is the server's own word on its state, and proof that it still works.
	judge(ctx context.Context) error
	kill()
}

// Content that a client sends. Sizes are spread so that most files are small.
func randomContent(rng *rand.Rand) (content []byte, sum string) {
	content = make([]byte, 1+rng.IntN(1<<(8+rng.IntN(12))))
	for rest := content; len(rest) > 0; {
		rest = rest[copy(rest, binary.LittleEndian.AppendUint64(nil, rng.Uint64())):]
	}
	hash := sha256.Sum256(content)
	return content, hex.EncodeToString(hash[:])
}

// putter stores new files, replaces and deletes some, and notes what is acknowledged.
type putter struct {
	worker int
	way    string // the gateway
	folder string // before each path
	rng    *rand.Rand
	hs     *histories
	pos    func() int
	put    func(ctx context.Context, path string, content []byte, sum string) error
	remove func(ctx context.Context, path string) error // nil: the target cannot
}

func (p *putter) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		path := p.folder + fmt.Sprintf("phone %d/照片 %04d.jpg", p.worker, n)
		p.store(ctx, path)
		if p.rng.IntN(6) == 0 {
			p.store(ctx, path)
		}
		if p.remove != nil && (n == 1 || p.rng.IntN(8) == 0) {
			if done := p.hs.file(p.way, path).begin(absent, p.pos); p.remove(ctx, path) == nil {
				done()
			}
		}
	}
}

func (p *putter) store(ctx context.Context, path string) {
	content, sum := randomContent(p.rng)
	done := p.hs.file(p.way, path).begin(sum, p.pos)
	if err := p.put(ctx, path, content, sum); err == nil {
		done()
		p.hs.acked(p.way)
	} else if ctx.Err() == nil {
		pause(ctx, 20*time.Millisecond) // refused, as on a full or dying disk: no busy loop
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// observeFiles hashes files, a few at a time.
func observeFiles(keys []string, hash func(path string) (string, error)) map[string]string {
	states := make(map[string]string, len(keys))
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan string)
	for range 4 {
		wg.Go(func() {
			for key := range work {
				sum, err := hash(strings.TrimPrefix(key, "file:"))
				if box.IsStatus(err, http.StatusNotFound) {
					sum = absent
				} else if err != nil {
					sum = "error: " + err.Error()
				}
				mu.Lock()
				states[key] = sum
				mu.Unlock()
			}
		})
	}
	for _, key := range keys {
		work <- key
	}
	close(work)
	wg.Wait()
	return states
}

// boxTarget is yunboxd. The token outlives the server: sessions are durable too.
type boxTarget struct {
	programs box.Programs
	seed     uint64
	work     string // for the folders that are watched; "": none are
	watch    io.Writer
	erasing  bool // people have data erased and accounts removed meanwhile
	token    string
}

const password = "correct horse battery" // of the owner

type boxServer struct {
	*box.Box
	target *boxTarget
	camera *box.Camera  // from settle
	inbox  *inboxWorker // from settle; nil: no folders are watched
	folder string       // before the names of files
}

func (t *boxTarget) start(ctx context.Context, dir string) (server, error) {
	b, err := t.programs.Start(ctx, filepath.Join(dir, "state"), t.watch)
	if err != nil {
		return nil, err
	}
	b.Token = t.token
	return &boxServer{Box: b, target: t}, nil
}

func (s *boxServer) kill() { s.Kill() }

func (s *boxServer) settle(ctx context.Context, hs *histories, pos func() int) error {
	if err := s.Claim(ctx, "owner", password); err != nil {
		return err
	}
	s.target.token = s.Token
	var err error
	if s.camera, err = s.AddCamera(ctx, "owner", "powercut"); err != nil {
		return err
	}
	hs.of("bound").add(act{"yes", 0, pos()})
	if s.target.work == "" {
		return nil
	}
	// Its folders must outlive the cuts: what a watched one still holds may be taken after them.
	dir, err := os.MkdirTemp(s.target.work, "inbox-")
	if err != nil {
		return err
	}
	s.inbox = &inboxWorker{s: s, rng: rand.New(rand.NewPCG(s.target.seed, 1<<33)), hs: hs, pos: pos, dir: dir}
	for range ahead {
		if err := s.inbox.fill(); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // the box takes what has not changed for so long
	return nil
}

func (s *boxServer) clients(ctx context.Context, hs *histories, pos func() int) []func() {
	rng := func(i int) *rand.Rand { return rand.New(rand.NewPCG(s.target.seed, uint64(i))) }
	var loops []func()
	for worker := range 10 {
		p := &putter{worker: worker, way: "API", folder: s.folder, rng: rng(worker), hs: hs, pos: pos, remove: s.remove}
		p.put = func(ctx context.Context, path string, content []byte, sum string) error {
			return s.Put(ctx, path, bytes.NewReader(content), int64(len(content)), sum)
		}
		switch worker {
		case 4:
			p.way, p.put = "tus", s.PutResumable
		case 5:
			p.way, p.put = "IETF", s.PostResumable
		case 6:
			p.way, p.put, p.remove = "WebDAV", s.PutDAV, s.RemoveDAV
		case 7:
			p.way = "FTP"
			p.folder, p.put = s.camera.Folder+s.folder, s.camera.Put // cameras cannot delete: their owner does
		case 8:
			p.way, p.put = "Immich", s.PostAsset
		case 9:
			p.way, p.put, p.remove = "Nextcloud", s.PutChunks, s.RemoveNextcloud
		}
		hs.way(p.way)
		loops = append(loops, func() { p.run(ctx) })
	}
	if s.inbox != nil {
		hs.way("inbox")
		loops = append(loops, func() { s.inbox.run(ctx) })
	}
	hs.way("many files")
	return append(loops,
		func() { s.rows(ctx, rng(len(loops)+1), hs, pos) },
		func() { s.decide(ctx, hs, pos) },
		func() { s.admit(ctx, hs, pos) },
		func() { s.purge(ctx, rng(len(loops)), hs, pos) },
		func() {
			if s.target.erasing {
				s.erase(ctx, rng(len(loops)+1), hs, pos)
			}
		})
}

func (s *boxServer) remove(ctx context.Context, path string) error {
	return s.API(ctx, http.MethodDelete, strings.TrimPrefix(s.FileURL(path), s.URL), nil, nil)
}

// decide gives consents and takes them back, and keeps the receipts.
func (s *boxServer) decide(ctx context.Context, hs *histories, pos func() int) {
	revision, err := s.PolicyRevision(ctx)
	if err != nil {
		return
	}
	purposes := []string{"album_backup", "wechat_backup", "qq_backup"}
	for n := 0; ctx.Err() == nil; n++ {
		purpose := purposes[n%len(purposes)]
		grant := n/len(purposes)%2 == 0
		state, method, in := "granted", http.MethodPut, any(map[string]any{"granted": true, "policy_revision": revision})
		if !grant {
			state, method, in = "withdrawn", http.MethodDelete, nil
		}
		before := pos()
		done := hs.of("consent:"+purpose).begin(state, pos)
		var receipt any
		if err := s.API(ctx, method, "/v1/consents/"+purpose, in, &receipt); err == nil {
			done()
			hs.of("receipt:" + canonical(receipt)).add(act{kept, before, pos()})
		}
		pause(ctx, 30*time.Millisecond)
	}
}

// canonical is JSON with sorted keys: the same receipt always reads the same.
func canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON a moment ago
	}
	return string(b)
}

func (s *boxServer) judge(ctx context.Context) error {
	for _, args := range [][]string{{"check", "--deep"}, {"audit", "verify"}} {
		cmd := exec.CommandContext(ctx, s.target.programs.Yunboxctl, append([]string{"--state", s.State}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("yunboxctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	content, sum := randomContent(rand.New(rand.NewPCG(s.target.seed, 1<<32)))
	err := s.Put(ctx, "after the cut.jpg", bytes.NewReader(content), int64(len(content)), sum)
	if box.IsStatus(err, http.StatusInsufficientStorage) {
		return nil // the disk was full before the cut, and the box says so
	} else if err != nil {
		return err
	}
	return s.obey(ctx)
}

// obey sends a file for each purpose that is decided on: the box must take it where
// it says that the purpose is granted, and nowhere else.
func (s *boxServer) obey(ctx context.Context) error {
	known, err := s.decisions(ctx)
	if err != nil {
		return err
	}
	for source, purpose := range map[string]string{"album": "album_backup", "wechat": "wechat_backup", "qq": "qq_backup"} {
		_, err := s.PutItem(ctx, source, "after the cut/"+source, strings.NewReader(source), int64(len(source)), "")
		granted := known["consent:"+purpose] == "granted"
		if full := box.IsStatus(err, http.StatusInsufficientStorage); !full && granted != (err == nil) || err != nil && !full && !box.IsStatus(err, http.StatusForbidden) {
			return fmt.Errorf("%s is %q, and a file for it is answered: %v", purpose, known["consent:"+purpose], err)
		}
	}
	return nil
}

// floorTarget is the floor program, whole or with a fault built in: it proves that
// the test passes a server that syncs all, and catches one that forgets a step.
type floorTarget struct {
	fault floor.Fault
	seed  uint64
	work  string // for its certificate
	watch io.Writer
}

type floorServer struct {
	*proc.Process
	target *floorTarget
	url    string
	client *http.Client
}

func (t *floorTarget) start(ctx context.Context, dir string) (server, error) {
	cert, key, err := floor.Certificate(t.work)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(t.watch, self, "floor", "--dir", filepath.Join(dir, "state"), "--cert", cert, "--key", key, "--fault", string(t.fault))
	if err != nil {
		return nil, err
	}
	s := &floorServer{Process: p, target: t}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = p.Await(ctx, func() error {
		_, address, ok := strings.Cut(p.Output(), "READY ")
		if !ok {
			return errors.New("it has not said READY")
		}
		s.url = "https://" + strings.TrimSpace(address)
		return nil
	})
	if err == nil {
		var ca []byte
		if ca, err = os.ReadFile(cert); err == nil {
			s.client, err = box.PinnedClient(ca)
		}
	}
	if err != nil {
		p.Kill()
		return nil, err
	}
	return s, nil
}

func (s *floorServer) kill() { s.Kill() }

func (s *floorServer) settle(context.Context, *histories, func() int) error { return nil }

func (s *floorServer) clients(ctx context.Context, hs *histories, pos func() int) []func() {
	var loops []func()
	for worker := range 4 {
		p := &putter{worker: worker, way: "floor", rng: rand.New(rand.NewPCG(s.target.seed, uint64(worker))), hs: hs, pos: pos}
		hs.way(p.way)
		p.put = func(ctx context.Context, path string, content []byte, _ string) error {
			_, err := box.Exchange(ctx, s.client, http.MethodPut, s.url+(&url.URL{Path: "/" + path}).EscapedPath(), content)
			return err
		}
		loops = append(loops, func() { p.run(ctx) })
	}
	return loops
}

func (s *floorServer) observe(ctx context.Context, keys []string) map[string]string {
	return observeFiles(keys, func(path string) (string, error) {
		content, err := box.Exchange(ctx, s.client, http.MethodGet, s.url+(&url.URL{Path: "/" + path}).EscapedPath(), nil)
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:]), err
	})
}

func (s *floorServer) judge(context.Context) error { return nil }

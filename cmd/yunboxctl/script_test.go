package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"github.com/rogpeppe/go-internal/testscript"

	"yunbox.local/daemon/daemontest"
)

// The manual is the test: every file in testdata is a story in shell words, told
// against a real box. These words are added to those of testscript:
//
//	box start|stop|kill|restart    a yunboxd on $WORK/box, always at the same address $BOX
//	box rescue                     starts it, and waits until it says that its records need a rebuild
//	person NAME                    binds the box to NAME, who accepts the policy; sets no consent
//	proxy PLAN...                  a wire to the box at $WIRE on which things happen: see wire
//	wire-done                      every event of the plan has happened
//	wire-holds, wire-goes          waits until the wire holds; lets it go on
//	bytes FILE N SEED              N bytes that compress badly
//	same-on-box DIR PREFIX         every file below DIR is on the box below PREFIX, byte for byte
//	on-box-soon PATH               waits until the box has that file
//	said-soon FILE PATTERN         waits until a program has written that into the file
//	inbox-soon DIR STATE           waits until the watched folder stands like that
//	gone-soon FILE                 waits until there is no such file
//	odd-names DIR                  files whose names are hard
//	last KEY OP VALUE              compares a number in the last line of stdout, an event in JSON
//	otp NAME JSON STEPS            sets $NAME to what an authenticator shows so many steps from now, with the secret in the file
//	relay                          sets $RELAY to something that answers in the box's place, with a key of its own, and passes all on
//	relay-saw TEXT                 what went through it has TEXT
//	new-soon LABEL                 waits until a box that is reset shows another code than the label in the file
//	field NAME JSON KEY            sets $NAME to a member of a JSON object in a file, the first one of a list
//	sql STATEMENT                  changes the stopped box's database behind its back
//	rewrite SEQ OBJECT             changes an entry of its audit record, and every hash that follows
//	unpack ZIP FILE                all that is in an archive, one after the other
//	flip FILE TEXT                 changes a letter of TEXT wherever the stopped box's FILE has it
//	spoil FILE                     changes one byte of the stored content whose hash FILE holds
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "yunboxd"), "yunbox.local/cmd/yunboxd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build yunboxd: %v\n%s", err, out)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each word of a story takes a second more
			env.Setenv("STATE", filepath.Join(env.WorkDir, "box"))
			env.Values[worldKey{}] = &world{env: env, state: filepath.Join(env.WorkDir, "box")}
			return os.MkdirAll(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"box": cmdBox, "person": cmdPerson, "proxy": cmdProxy, "wire-done": cmdWireDone, "wire-holds": cmdWireHolds, "wire-goes": cmdWireGoes,
			"bytes": cmdBytes, "same-on-box": cmdSameOnBox, "last": cmdLast, "sql": cmdSQL, "rewrite": cmdRewrite, "spoil": cmdSpoil, "flip": cmdFlip, "odd-names": cmdOddNames, "on-box-soon": cmdOnBoxSoon,
			"otp": cmdOTP, "field": cmdField, "inbox-soon": cmdInboxSoon, "gone-soon": cmdGoneSoon, "said-soon": cmdSaidSoon, "unpack": cmdUnpack, "new-soon": cmdNewSoon, "relay": cmdRelay, "relay-saw": cmdRelaySaw,
		},
	})
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"yunboxctl": main})
}

type worldKey struct{}

// world is what one story has around it.
type world struct {
	env   *testscript.Env
	state string

	mu   sync.Mutex
	addr string // of the box once it had one
	box  *exec.Cmd
	wire *wire
	seen bytes.Buffer // by the relay
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func cmdBox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: box start|stop|kill|restart")
	}
	w := worldOf(ts)
	switch args[0] {
	case "start":
		ts.Check(w.startBox())
		ts.Defer(func() { w.stopBox(syscall.SIGKILL) })
		ts.Setenv("BOX", "https://"+w.addr)
	case "rescue":
		ts.Check(w.launch())
		ts.Defer(func() { w.stopBox(syscall.SIGKILL) })
		for {
			out, err := w.ctl("--state", w.state, "wait", "--timeout", "60s")
			if err == nil {
				ts.Fatalf("the box serves as if nothing were wrong")
			} else if bytes.Contains(out, []byte("rebuild")) {
				return
			}
		}
	case "stop":
		ts.Check(w.stopBox(syscall.SIGTERM))
	case "kill":
		ts.Check(w.stopBox(syscall.SIGKILL))
	case "restart":
		ts.Check(w.stopBox(syscall.SIGTERM))
		ts.Check(w.startBox())
	default:
		ts.Fatalf("box: unknown word %q", args[0])
	}
}

// startBox starts the box and waits until it answers on its socket.
func (w *world) startBox() error {
	if err := w.launch(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out, err := w.ctl("--state", w.state, "wait", "--timeout", "60s")
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(w.env.WorkDir, "box.log"))
		return fmt.Errorf("the box does not start: %s%s", out, text)
	}
	if out, err = w.ctl("--state", w.state, "--json", "status"); err != nil {
		return fmt.Errorf("status: %s", out)
	}
	var s boxStatus
	if err := json.Unmarshal(out, &s); err != nil {
		return err
	}
	u, err := url.Parse(s.Addresses[0])
	if err != nil {
		return err
	}
	w.addr = u.Host
	return nil
}

// launch starts the box and does not wait.
func (w *world) launch() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := w.addr
	if addr == "" {
		addr = daemontest.Address(w.env.Defer)
	}
	log, err := os.OpenFile(filepath.Join(w.env.WorkDir, "box.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	w.box = exec.Command("yunboxd", "--state", w.state, "--https", addr, "--mdns=off")
	w.box.Stdout, w.box.Stderr = log, log
	return w.box.Start()
}

func (w *world) stopBox(sig os.Signal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.box == nil {
		return nil
	}
	box := w.box
	w.box = nil
	if err := box.Process.Signal(sig); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- box.Wait() }()
	select {
	case err := <-ended:
		if err != nil && sig == syscall.SIGTERM {
			return fmt.Errorf("the box ended with %w", err)
		}
		return nil
	case <-time.After(3 * time.Minute):
		box.Process.Signal(syscall.SIGQUIT) // the log then says where it hangs
		<-ended
		return fmt.Errorf("the box did not stop on %v", sig)
	}
}

// ctl runs yunboxctl as the story would.
func (w *world) ctl(args ...string) ([]byte, error) {
	c := exec.Command("yunboxctl", args...)
	c.Env, c.Dir = w.env.Vars, w.env.WorkDir
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return append(out, errs.Bytes()...), err
	}
	return out, nil
}

func cmdPerson(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: person NAME")
	}
	w := worldOf(ts)
	out, err := w.ctl("--state", w.state, "--json", "label")
	ts.Check(err)
	var label struct {
		URI string `json:"pair_uri"`
	}
	ts.Check(json.Unmarshal(out, &label))
	c := exec.Command("yunboxctl", "bind", "--box", "https://"+w.addr, "--pair", label.URI, "--username", args[0], "--password-stdin")
	c.Env, c.Dir, c.Stdin = w.env.Vars, w.env.WorkDir, strings.NewReader("correct horse battery staple\n")
	if out, err := c.CombinedOutput(); err != nil {
		ts.Fatalf("bind: %v: %s", err, out)
	}
	if out, err := w.ctl("policy", "accept", "--yes"); err != nil {
		ts.Fatalf("policy accept: %v: %s", err, out)
	}
}

// cmdNewSoon waits until the box shows another code than the label in a file.
func cmdNewSoon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: new-soon LABEL")
	}
	w, old := worldOf(ts), field(ts, args[0], "code")
	for range 2400 {
		var label struct{ Code string }
		if out, err := w.ctl("--state", w.state, "--json", "label"); err == nil && json.Unmarshal(out, &label) == nil && label.Code != "" && label.Code != old {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the box is not new")
}

func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: field NAME JSON KEY")
	}
	ts.Setenv(args[0], field(ts, args[1], args[2]))
}

func field(ts *testscript.TestScript, file, key string) string {
	var doc map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &doc))
	v := doc[key]
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	s, ok := v.(string)
	if !ok {
		ts.Fatalf("%s has no text %s", file, key)
	}
	return s
}

// cmdOTP is RFC 6238 written down once more, without a look at the daemon's.
func cmdOTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: otp NAME JSON STEPS")
	}
	secret, err := base32.StdEncoding.DecodeString(field(ts, args[1], "secret"))
	ts.Check(err)
	steps, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	h := hmac.New(sha1.New, secret)
	ts.Check(binary.Write(h, binary.BigEndian, time.Now().Unix()/30+steps))
	sum := h.Sum(nil)
	code := binary.BigEndian.Uint32(sum[sum[19]&15:]) & (1<<31 - 1) % 1_000_000
	ts.Setenv(args[0], fmt.Sprintf("%06d", code))
}

// A wire carries connections to the box and acts when so many bytes have gone
// towards it in all: "cut@N" breaks every connection, "restart@N" and "crash@N" also
// restart the box, "withdraw:PURPOSE@N" withdraws a consent, "hold@N" stops carrying.
type wire struct {
	w   *world
	ln  net.Listener
	box string // address of the box, the same after each restart

	mu    sync.Mutex
	carry int64 // bytes carried
	plan  []event
	conns map[net.Conn]net.Conn // of the client → of the box
	held  chan struct{}         // closed when the wire holds
	gone  chan struct{}         // closed when it may go on
	errs  []error
}

type event struct {
	what string
	at   int64
}

func cmdProxy(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	var plan []event
	for _, a := range args {
		what, at, _ := strings.Cut(a, "@")
		n, err := strconv.ParseInt(at, 10, 64)
		ts.Check(err)
		plan = append(plan, event{what, n})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	x := &wire{w: w, ln: ln, box: w.addr, plan: plan, conns: make(map[net.Conn]net.Conn), held: make(chan struct{}), gone: make(chan struct{})}
	w.wire = x
	go x.serve()
	ts.Defer(func() { ln.Close(); x.cut() })
	ts.Setenv("WIRE", "https://"+ln.Addr().String())
}

func (x *wire) serve() {
	for {
		c, err := x.ln.Accept()
		if err != nil {
			return
		}
		go x.connect(c)
	}
}

func (x *wire) connect(c net.Conn) {
	defer c.Close()
	box, err := net.Dial("tcp", x.box)
	if err != nil {
		return // restarting: the client sees a cut connection
	}
	defer box.Close()
	x.mu.Lock()
	x.conns[c] = box
	x.mu.Unlock()
	go func() { io.Copy(c, box); c.Close() }()
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			x.carried(int64(n))
			if _, err := box.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			x.mu.Lock()
			delete(x.conns, c)
			x.mu.Unlock()
			return
		}
	}
}

// carried counts bytes and lets happen what is due, one event at a time.
func (x *wire) carried(n int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.carry += n
	if len(x.plan) == 0 || x.carry < x.plan[0].at {
		return
	}
	e := x.plan[0]
	x.plan = x.plan[1:]
	var err error
	what, arg, _ := strings.Cut(e.what, ":")
	switch what {
	case "cut":
		x.cutLocked()
	case "restart":
		x.cutLocked()
		err = x.w.stopBox(syscall.SIGTERM)
		if err == nil {
			err = x.w.startBox()
		}
	case "crash":
		err = x.w.stopBox(syscall.SIGKILL)
		x.cutLocked()
		if err == nil {
			err = x.w.startBox()
		}
	case "withdraw":
		var out []byte
		if out, err = x.w.ctl("consent", "withdraw", arg); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	case "hold":
		close(x.held)
		<-x.gone
	default:
		err = fmt.Errorf("unknown event %q", e.what)
	}
	if err != nil {
		x.errs = append(x.errs, fmt.Errorf("%s: %w", e.what, err))
	}
}

func (x *wire) cut() { x.mu.Lock(); defer x.mu.Unlock(); x.cutLocked() }

func (x *wire) cutLocked() {
	for c, box := range x.conns {
		for _, end := range []net.Conn{c, box} {
			if t, ok := end.(*net.TCPConn); ok {
				t.SetLinger(0) // as a lost network: no goodbye
			}
			end.Close()
		}
	}
	clear(x.conns)
}

func cmdWireDone(ts *testscript.TestScript, neg bool, args []string) {
	x := worldOf(ts).wire
	x.mu.Lock()
	defer x.mu.Unlock()
	if neg {
		if len(x.plan) == 0 {
			ts.Fatalf("everything happened on the wire: %d bytes carried", x.carry)
		}
		return
	}
	if len(x.plan) > 0 || len(x.errs) > 0 {
		ts.Fatalf("not everything happened on the wire: left %v, errors %v, %d bytes carried", x.plan, x.errs, x.carry)
	}
}

func cmdWireHolds(ts *testscript.TestScript, neg bool, args []string) {
	select {
	case <-worldOf(ts).wire.held:
	case <-time.After(3 * time.Minute):
		ts.Fatalf("the wire never got so far")
	}
}

func cmdWireGoes(ts *testscript.TestScript, neg bool, args []string) { close(worldOf(ts).wire.gone) }

func cmdBytes(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: bytes FILE N SEED")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	seed, err := strconv.ParseUint(args[2], 10, 8)
	ts.Check(err)
	name := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
	f, err := os.Create(name)
	ts.Check(err)
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{0: byte(seed)}), n)
	ts.Check(err)
	ts.Check(f.Close())
}

// cmdOddNames makes files whose names are hard, and tells which a box must refuse.
func cmdOddNames(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	for i, name := range []string{
		"云盒 照片.jpg", "e\u0301te\u0301.jpg", "100% safe?#&=+;.jpg", `back\slash.jpg`, "-rf", " leading and trailing ", "#hash/..hidden/x", "שלום.txt", "emoji 👩‍👩‍👧.png", strings.Repeat("n", 255),
	} {
		full := filepath.Join(dir, name)
		ts.Check(os.MkdirAll(filepath.Dir(full), 0o755))
		ts.Check(os.WriteFile(full, []byte(fmt.Sprintf("odd %d", i)), 0o644))
	}
}

func cmdSameOnBox(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: same-on-box DIR [PREFIX]")
	}
	w, root, prefix := worldOf(ts), ts.MkAbs(args[0]), ""
	if len(args) == 2 {
		prefix = args[1] + "/"
	}
	tmp := filepath.Join(w.env.WorkDir, "fetched")
	n := 0
	ts.Check(filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || junk(d.Name()) || strings.HasPrefix(d.Name(), ".yunbox-") {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		os.Remove(tmp)
		if out, err := w.ctl("get", "-o", tmp, "--", prefix+rel); err != nil {
			return fmt.Errorf("get %s: %w: %s", rel, err, out)
		}
		want, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(tmp); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s is not the same on the box (%v)", rel, err)
		}
		n++
		return nil
	}))
	if n == 0 {
		ts.Fatalf("nothing to compare below %s", root)
	}
	ts.Logf("%d files compared", n)
}

func cmdOnBoxSoon(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		out, err := w.ctl("ls", "-r")
		if err == nil && strings.Contains(string(out), args[0]) {
			return
		}
		if time.Since(begin) > 3*time.Minute {
			ts.Fatalf("%s never came: %v: %s", args[0], err, out)
		}
	}
}

func cmdSaidSoon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: said-soon FILE PATTERN")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && pattern.Match(b) {
			return
		}
		if time.Since(begin) > 3*time.Minute {
			ts.Fatalf("%s does not say %s: %v: %s", args[0], args[1], err, b)
		}
	}
}

func cmdInboxSoon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: inbox-soon DIR STATE")
	}
	w := worldOf(ts)
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		out, err := w.ctl("--state", w.state, "--json", "inbox", "list")
		ts.Check(err)
		var list struct{ Inboxes []boxInbox }
		ts.Check(json.Unmarshal(out, &list))
		for _, in := range list.Inboxes {
			if filepath.Base(in.Path) == args[0] && in.State == args[1] {
				return
			}
		}
		if time.Since(begin) > 3*time.Minute {
			ts.Fatalf("%s never stood at %s: %s", args[0], args[1], out)
		}
	}
}

func cmdGoneSoon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone-soon FILE")
	}
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Lstat(ts.MkAbs(args[0])); os.IsNotExist(err) {
			return
		}
		if time.Since(begin) > 3*time.Minute {
			ts.Fatalf("%s is still there", args[0])
		}
	}
}

func cmdLast(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: last KEY =|<|> VALUE")
	}
	var last []byte
	lines := bufio.NewScanner(strings.NewReader(ts.ReadFile("stdout")))
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		last = bytes.Clone(lines.Bytes())
	}
	var e map[string]any
	if err := json.Unmarshal(last, &e); err != nil {
		ts.Fatalf("the last line is no JSON: %s", last)
	}
	got, ok := e[args[0]].(float64)
	want, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	if !ok || !(args[1] == "=" && got == want || args[1] == "<" && got < want || args[1] == ">" && got > want) {
		ts.Fatalf("%s is %v, wanted %s %s, in %s", args[0], e[args[0]], args[1], args[2], last)
	}
}

func cmdSQL(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	db, err := sql.Open("sqlite3", filepath.Join(w.state, "box.db"))
	ts.Check(err)
	defer db.Close()
	for _, s := range args {
		res, err := db.ExecContext(context.Background(), s)
		ts.Check(err)
		n, _ := res.RowsAffected()
		ts.Logf("%d rows", n)
	}
}

// cmdRewrite does what somebody with root and patience can do: it changes an entry of
// the stopped box's audit record and computes every later hash anew, as audit.Chain
// describes it, so that the chain holds.
func cmdRewrite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: rewrite SEQ OBJECT")
	}
	db, err := sql.Open("sqlite3", filepath.Join(worldOf(ts).state, "box.db"))
	ts.Check(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	ctx := context.Background()
	do := func(s string, args ...any) {
		_, err := db.ExecContext(ctx, s, args...)
		ts.Check(err)
	}
	do("DROP TRIGGER audit_no_update")
	do("DROP TRIGGER audit_head_update")
	do("UPDATE audit SET object = ? WHERE seq = ?", args[1], args[0])
	columns := []string{"time", "actor", "action", "subject", "object", "device", "via", "detail"}
	var last int64
	ts.Check(db.QueryRowContext(ctx, "SELECT max(seq) FROM audit").Scan(&last))
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	prev := make([]byte, sha256.Size)
	for seq := int64(1); seq <= last; seq++ {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		ts.Check(db.QueryRowContext(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM audit WHERE seq = ?", seq).Scan(into...))
		b := append([]byte("yunbox chain 1\x00audit\x00"), prev...)
		b = binary.BigEndian.AppendUint64(b, uint64(seq))
		for i, v := range values {
			b = text(b, columns[i])
			switch v := v.(type) {
			case int64:
				b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
			case string:
				b = text(append(b, 't'), v)
			default:
				ts.Fatalf("entry %d has a %T", seq, v)
			}
		}
		sum := sha256.Sum256(b)
		do("UPDATE audit SET prev = ?, hash = ? WHERE seq = ?", prev, sum[:], seq)
		prev = sum[:]
	}
	do("UPDATE audit_head SET hash = ?", prev)
}

func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE TEXT")
	}
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	other := []byte(args[1])
	other[0] ^= 2
	if !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("%s is not in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(name, bytes.ReplaceAll(b, []byte(args[1]), other), 0o600))
}

func cmdSpoil(ts *testscript.TestScript, neg bool, args []string) {
	sum := strings.TrimSpace(ts.ReadFile(args[0]))
	name := filepath.Join(worldOf(ts).state, "blobs", sum[:2], sum)
	ts.Check(os.Chmod(name, 0o600))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	ts.Check(err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 7)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b, 7)
	ts.Check(err)
	ts.Check(f.Close())
	ts.Check(os.Chmod(name, 0o440))
}

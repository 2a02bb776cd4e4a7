package daemon_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// timers is every function of the daemon that arms a timer, and why a box that nobody
// uses does not hear it more often than once a minute. TestAnIdleBoxSleeps of
// cmd/yunboxd looks at the program itself.
//
// DO NOT ADD A LINE TO FIX A TEST: whoever can wait to be told must not ask.
const timers = `
daemon Await                  every minute while the disk is away
daemon announce               when an invitation is over
daemon keepTime               every hour
daemon rescue                 while the records are rebuilt
daemon rest                   every minute, and only where the kernel does not tell of mounts
daemon watchVolume            every minute while the disk takes nothing
daemon/backup Read            while a copy is written
daemon/backup Run             every ten minutes
daemon/backup lookOrLeave     when the box stops
daemon/backup rest            while a copy is verified
daemon/db keeper              once after the start, and after a commit
daemon/duplicates take        while somebody waits for an answer
daemon/erasure Wait           while somebody waits for an answer
daemon/export Run             every hour
daemon/gateway/api Interrupt  while a file comes in whose consent ended
daemon/gateway/api listen     while somebody listens
daemon/gateway/api scrub      while somebody watches the scrub
daemon/gateway/api verify     while somebody waits for an answer
daemon/gateway/ftp Serve      after a connection could not be taken
daemon/gateway/ftp displace   while a camera is connected
daemon/gateway/ftp settle     while a camera is connected
daemon/gateway/ftp shutdown   when the box stops
daemon/gateway/ftp watch      while a file comes in
daemon/gateway/ftp whole      while a file comes in
daemon/gateway/inbox Remove   when a folder is removed
daemon/gateway/inbox Run      when the box stops
daemon/gateway/inbox makeRoom while files are imported
daemon/gateway/inbox quiet    after something changed
daemon/gateway/inbox run      while files are imported
daemon/gateway/inbox wait     once a minute, sooner while a file is being written
daemon/gateway/nextcloud take while a chunk waits for its turn
daemon/guardian Run           every hour
daemon/health Run             every hour, every five minutes while a portion is due
daemon/httpd hangUp           when the box stops
daemon/httpd linger           while a client is connected
daemon/incident wait          while an e-mail waits for the mail server, or a notice for being published
daemon/ingest Run             every hour
daemon/ingest acquire         while somebody waits for an upload
daemon/ingest letEnd          after a consent was withdrawn
daemon/ingest removeEnded     every minute while what is to go cannot be removed
daemon/ingest settle          while an upload is taken over
daemon/tree Rebuild           while somebody watches it
daemon/tree rest              while uploads come
daemon/tree wait              after something changed
daemon/update Run             every second while an update is installed
daemon/update pause           while a new version is on trial
daemon/update/install New     in the updater, a program of its own
discovery Close               when the box stops
discovery receive             after a socket failed
discovery run                 a second, then a minute, while neither way to announce the box can be had
discovery ask                 while somebody asks the network
discovery busOf               while it connects with the system bus
discovery byAvahi             once a minute it looks at the network, as byItself
discovery byItself            once a minute it looks at the network: what the kernel tells may get lost; sooner while it probes or answers
discovery lookForItself       once, a moment after the announcement changed
storage append                once, ten seconds after the last upload
storage removing              once, ten seconds after the last deletion
storage took                  while something is read back
`

func TestNothingTicksInAnIdleBox(t *testing.T) {
	told := map[string]bool{}
	for line := range strings.Lines(timers) {
		if f := strings.Fields(line); len(f) > 2 {
			told[f[0]+" "+f[1]] = true
		} else if len(f) > 0 {
			t.Errorf("%q has no reason", line)
		}
	}
	files, used := 0, map[string]bool{}
	root := os.DirFS("..")
	for _, top := range []string{"daemon", "dedup", "discovery", "storage"} {
		err := fs.WalkDir(root, top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains([]string{"daemontest", "gatewaytest", "mailtest", "vfstest", "testdata", "node_modules"}, d.Name()) {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			files++
			src, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			for _, f := range armsTimers(t, name, src) {
				where := filepath.ToSlash(filepath.Dir(name)) + " " + f
				if !told[where] {
					t.Errorf("%s arms a timer: does it tick while nobody uses the box?", where)
				}
				used[where] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for where := range told {
		if !used[where] {
			t.Errorf("%s arms no timer any more: take its line away", where)
		}
	}
	if files < 100 {
		t.Errorf("%d files were looked at", files)
	}
}

// armsTimers names the functions in a file that arm a timer, "var" for what is outside.
func armsTimers(t *testing.T, name string, src []byte) (list []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		where := "var"
		if f, ok := decl.(*ast.FuncDecl); ok {
			where = f.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"After", "AfterFunc", "NewTimer", "NewTicker", "Sleep", "Tick"}, s.Sel.Name) && !slices.Contains(list, where) {
					list = append(list, where)
				}
			}
			return true
		})
	}
	return list
}

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

// opens is every function outside storage/vfs, or every package (*), that reaches for
// a file by a name of the whole system, and where its name comes from. Whatever a client names goes
// through storage/vfs, or through an os.Root of the folder that it may name things
// in: neither leaves its folder by "..", by a link or by an absolute name. The
// programs that people start themselves (cmd, web/build) read what their caller may
// read, and run with no other rights than theirs.
//
// DO NOT ADD A LINE TO FIX A TEST: a name that came over the network must never get
// to a function that stands here.
const opens = `
daemon refuseEmptyVolume         a fixed name in the state directory
daemon openClock                 fixed names in the state directory
daemon refuseNewRecords          fixed names in the state directory
daemon run                       likewise, while the database is rebuilt
daemon inspect                   likewise
daemon swap                      likewise
daemon syncFolder                likewise
daemon listenLocal               a fixed name in the state directory
daemon listenLongPath            a fixed name in the state directory
daemon resident                  a file of the kernel
daemon LimitMemory               likewise
daemon/health busy                likewise
daemon refuseHalfBack            a fixed name in the state directory
daemon runningRelease            what lies beside the program itself
discovery bound                  a file of the kernel
discovery ourSockets             likewise
daemon/doctor *                  the state directory that root names to yunboxctl, files of the kernel, and smartctl; the daemon calls none of it
daemon refuseHalfRestored        a fixed name in the state directory
daemon authorities               a file that the settings name
daemon openTree                  a fixed name in the state directory
daemon openRights                the settings that the daemon was started with
daemon scour                     a fixed name in the state directory
daemon forgetCopies              a fixed name in the state directory
daemon otherPlaces               likewise
daemon openBackup                the settings that the daemon was started with
daemon/account inBreach          the settings that the daemon was started with
daemon/backup *                  a folder that root named over the unix socket, and fixed names in the state directory
daemon/backup/target *           likewise
daemon/duplicates attached       a file of the kernel
daemon/duplicates below          a folder that root named, or that lies in one which root had watched: it is asked for, nothing is opened
dedup *                          the same folders, opened part by part and never through a link
daemon/httpd HasIdentity         fixed names in the state directory
daemon/db *                      box.db, what SQLite puts beside it and its copies, in the state directory
daemon/gateway/inbox place       a folder that root named over the unix socket
daemon/gateway/inbox ownFolder   the state directory, to keep such a folder out of it
daemon/gateway/inbox ownBelow    the same
daemon/gateway/inbox find        a folder that root named over the unix socket
daemon/gateway/inbox here        a folder that root had added; what is in it goes through an os.Root
daemon/gateway/inbox mark        likewise
daemon/gateway/inbox unmark      likewise
daemon/gateway/inbox open        likewise
`

// named are the functions that take a name in the system's tree. The methods of
// os.Root and of fs.FS stay in their folder and are not among them.
var named = map[string][]string{
	"os": {"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "CreateTemp", "MkdirTemp", "ReadFile", "WriteFile", "ReadDir", "Mkdir", "MkdirAll",
		"Remove", "RemoveAll", "Rename", "Stat", "Lstat", "Link", "Symlink", "Readlink", "Chmod", "Chown", "Lchown", "Chtimes", "Truncate", "DirFS", "CopyFS"},
	"path/filepath":         {"Walk", "WalkDir", "Glob", "EvalSymlinks"},
	"io/ioutil":             {"ReadFile", "WriteFile", "ReadDir", "TempFile", "TempDir"},
	"syscall":               {"Open", "Openat", "Unlink", "Rename", "Link", "Symlink", "Mkdir", "Chmod", "Truncate", "Creat"},
	"golang.org/x/sys/unix": {"Open", "Openat", "Openat2", "Unlink", "Unlinkat", "Rename", "Renameat", "Renameat2", "Link", "Linkat", "Symlink", "Symlinkat", "Mkdir", "Mkdirat", "Chmod", "Truncate", "Creat"},
	"net/http":              {"ServeFile", "ServeFileFS", "Dir", "FileServer"},
	"os/exec":               {"Command", "CommandContext"},
	"plugin":                {"Open"},
}

func TestNamesOfClientsReachNoFile(t *testing.T) { // os.Root everywhere
	want := map[string]bool{}
	for line := range strings.Lines(opens) {
		if f := strings.Fields(line); len(f) > 2 {
			want[f[0]+" "+f[1]] = true
		} else if len(f) > 0 {
			t.Errorf("%q has no reason", line)
		}
	}
	root := os.DirFS("..")
	files := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"cmd", "scripts", "var", "daemon/daemontest", "daemon/gateway/gatewaytest", "daemon/gateway/web", "storage/vfs"}, name) ||
				strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata" || d.Name() == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		for where, calls := range callsByName(t, name, src) {
			if all := filepath.ToSlash(filepath.Dir(name)) + " *"; has(want, all) {
				where = all
			}
			if !has(want, where) {
				t.Errorf("%s calls %s: is the name one that a client could have given?", where, strings.Join(calls, ", "))
			}
			want[where] = false
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, unused := range want {
		if unused {
			t.Errorf("%s opens nothing by name any more: take its line away", where)
		}
	}
	if files < 100 {
		t.Errorf("%d files were looked at", files)
	}
}

func has(m map[string]bool, key string) bool {
	_, ok := m[key]
	return ok
}

// callsByName finds the calls of the functions in named, by "package function".
func callsByName(t *testing.T, name string, src []byte) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string][]string{} // by the name in the file
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if list, ok := named[path]; ok {
			local := path[strings.LastIndex(path, "/")+1:]
			if i.Name != nil {
				local = i.Name.Name
			}
			imported[local] = list
		}
	}
	found := map[string][]string{}
	for _, decl := range file.Decls {
		where := filepath.ToSlash(filepath.Dir(name)) + " "
		if f, ok := decl.(*ast.FuncDecl); ok {
			where += f.Name.Name
		} else {
			where += "variables"
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if p, ok := s.X.(*ast.Ident); ok && slices.Contains(imported[p.Name], s.Sel.Name) {
					found[where] = append(found[where], p.Name+"."+s.Sel.Name)
				}
			}
			return true
		})
	}
	return found
}

// The look-out sees what it is to see.
func TestOpensAreSeen(t *testing.T) {
	src := `package x
import sys "os"
import "path/filepath"
var open = sys.Open
func (x T) f(r *sys.Root) { r.Open("inside"); sys.ReadFile("a"); func() { filepath.Glob("b") }() }`
	got := callsByName(t, "a/b/x.go", []byte(src))
	if len(got) != 2 || !slices.Equal(got["a/b f"], []string{"sys.ReadFile", "filepath.Glob"}) || !slices.Equal(got["a/b variables"], []string{"sys.Open"}) {
		t.Errorf("%v", got)
	}
}

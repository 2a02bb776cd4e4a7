package problem_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"yunbox.local/daemon/problem"
)

// Every kind that the source declares is in Kinds and in each table.
func TestTablesAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Kind" {
				declared[v.Values[0].(*ast.BasicLit).Value] = true
			}
		}
		return true
	})
	listed := map[string]bool{}
	for _, k := range problem.Kinds() {
		listed[fmt.Sprintf("%q", string(k))] = true
		if s := k.Status(); s < 400 || (s == 500 && k != problem.Internal && k != problem.Damaged) {
			t.Errorf("%s has status %d", k, s)
		}
		if k != problem.Internal && k.Title() == problem.Internal.Title() {
			t.Errorf("%s has no title", k)
		}
	}
	for d := range declared {
		if !listed[d] {
			t.Errorf("%s is declared but missing in Kinds", d)
		}
	}
	if len(declared) != len(listed) || len(declared) == 0 {
		t.Errorf("%d kinds declared, %d listed", len(declared), len(listed))
	}
}

func TestForeignErrorsStayInside(t *testing.T) {
	secret := errors.New("open /var/lib/yunbox/alice.jpg: permission denied")
	e := problem.As(fmt.Errorf("reading: %w", secret))
	if e.Kind != problem.Internal || strings.Contains(e.Title+e.Detail+e.Hint, "alice") {
		t.Fatalf("shown outside: %+v", e)
	}
	if !errors.Is(e, secret) || !strings.Contains(e.Error(), "alice") {
		t.Fatal("the log lost the cause")
	}
	if problem.As(context.Canceled).Kind != problem.Canceled || problem.As(nil) != nil {
		t.Fatal("a cancelled context is not a mistake of the box")
	}
}

func TestKindIsFoundThroughWrapping(t *testing.T) {
	err := fmt.Errorf("pushing: %w", &problem.Error{Kind: problem.Full, Detail: "2.0 GB are needed"})
	if !errors.Is(err, &problem.Error{Kind: problem.Full}) || errors.Is(err, &problem.Error{Kind: problem.Quota}) {
		t.Fatal("errors.Is does not compare kinds")
	}
	if problem.ExitCode(err) != problem.ExitFull || problem.ExitCode(nil) != 0 {
		t.Fatal("wrong exit code")
	}
	if got := problem.Sentence(err); got != "The box is full: 2.0 GB are needed" {
		t.Fatal(got)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 84_000_000: "84.0 MB", 1 << 62: "4611.7 PB"} {
		if got := problem.Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

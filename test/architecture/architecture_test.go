// Package architecture holds the code to its map, docs/architecture.md.
package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/mini-kubelet/mini-kubelet/"
	root   = "../.."
)

// wings are the folders of pkg from the bottom up, each with what it may import of those
// before it. Within a wing imports are free, since Go allows no circles.
var wings = []struct{ name, imports string }{
	{"base", ""},
	{"config", ""},
	{"pods", "base"},
	{"journal", "base pods"},
	{"resources", "base pods config/options"},
	{"volume", "base pods journal"},
	{"admission", "base pods"},
	{"source", "base pods admission journal"},
	{"runtime", "base pods config/options journal volume"},
	{"lifecycle", "base pods config/options journal resources admission source volume runtime"},
	{"cluster", "base pods config/options journal resources"},
	{"server", "base pods journal resources"},
	{"dockershim", "base"}, // it talks CRI with the others, and nothing else
	{"agent", "base pods config journal resources volume admission source runtime lifecycle cluster server dockershim"},
}

func wingOf(room string) string {
	wing, _, _ := strings.Cut(room, "/")
	return wing
}

// below reports whether a package is one of the folders or below it.
func below(name string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return name == f || strings.HasPrefix(name, f+"/") })
}

// rooms returns the packages below pkg and what each imports of this module.
func rooms(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./pkg/...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var own []string
		for _, name := range strings.Fields(line) {
			if name, ok := strings.CutPrefix(name, module); ok {
				own = append(own, strings.TrimPrefix(name, "pkg/"))
			}
		}
		all[own[0]] = own[1:]
	}
	return all
}

func TestImportsFollowTheTableOfWings(t *testing.T) {
	may, before := map[string][]string{}, []string{}
	for _, w := range wings {
		may[w.name] = append(strings.Fields(w.imports), w.name)
		before = append(before, w.name)
		for _, imported := range strings.Fields(w.imports) {
			if !slices.Contains(before, wingOf(imported)) {
				t.Errorf("the table lets %s import %s, which comes after it", w.name, imported)
			}
		}
	}
	for room, imports := range rooms(t) {
		if may[wingOf(room)] == nil {
			t.Errorf("pkg/%s is in no wing: add it to the table and to docs/architecture.md", room)
		}
		for _, imported := range imports {
			if !below(imported, may[wingOf(room)]...) {
				t.Errorf("pkg/%s imports %s, but %s may import only %q", room, imported, wingOf(room), may[wingOf(room)])
			}
		}
	}
}

func TestTheMapNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for room := range rooms(t) {
		if !strings.Contains(string(text), "`"+room+"`") {
			t.Errorf("docs/architecture.md does not name `%s`", room)
		}
	}
}

// The composition root grows with every part: it is to stay a list of short stages.
func TestNoFunctionOfTheAgentIsLong(t *testing.T) {
	const most = 60
	files, err := filepath.Glob(root + "/pkg/agent/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("files of pkg/agent: %q, %v", files, err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				from, to := fset.Position(f.Pos()), fset.Position(f.End())
				if lines := to.Line - from.Line + 1; lines > most {
					t.Errorf("%s: %s has %d lines, more than %d", from, f.Name.Name, lines, most)
				}
			}
		}
	}
}

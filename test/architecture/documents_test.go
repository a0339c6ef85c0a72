package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*(/.*)?$`)
	codePath = regexp.MustCompile(`^(pkg|cmd/mini-kubelet|test|docs)/[\w./-]+(:\w+)?$`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// A page is worth nothing if what it names has been renamed or removed.
func TestDocumentsNameOnlyWhatExists(t *testing.T) {
	tests := testsOf(t)
	pages := []string{"README.md", "CONTRIBUTING.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			name, _ := filepath.Rel(root, path)
			pages = append(pages, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named, places := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			switch name := m[1]; {
			case testName.MatchString(name):
				named++
				if name, _, _ := strings.Cut(name, "/"); !tests[name] {
					t.Errorf("%s names the test %s, which does not exist", page, name)
				}
			case codePath.MatchString(name):
				places++
				if what := missing(name); what != "" {
					t.Errorf("%s names %s: %s", page, name, what)
				}
			}
		}
	}
	if named < 100 || places < 50 {
		t.Errorf("the documents name %d tests and %d places of the code: this test does not find them", named, places)
	}
}

// missing says what does not exist of path or path:identifier, "" if all does.
func missing(name string) string {
	path, identifier, _ := strings.Cut(name, ":")
	path = filepath.Join(root, path)
	if _, err := os.Stat(path); err != nil {
		return "no such file"
	}
	if identifier == "" {
		return ""
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err.Error()
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == identifier {
				return ""
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.Name == identifier {
						return ""
					}
				case *ast.ValueSpec:
					if slices.ContainsFunc(spec.Names, func(n *ast.Ident) bool { return n.Name == identifier }) {
						return ""
					}
				}
			}
		}
	}
	return "the file declares no " + identifier
}

func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, dir := range []string{"pkg", "cmd", "test"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			code, err := os.ReadFile(path)
			for _, m := range testFunc.FindAllStringSubmatch(string(code), -1) {
				all[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

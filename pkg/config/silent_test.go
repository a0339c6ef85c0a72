package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// TestNoFieldIsIgnoredInSilence holds every field of the kubelet's type to one of three: a part of the
// agent reads it, or a value that differs from what happens anyway is warned about or refused, or the
// kubelet ignores it as well.
func TestNoFieldIsIgnoredInSilence(t *testing.T) {
	read := selectors(t, "../../pkg", "../../cmd")
	doneAnyway := map[string]bool{
		"kernelMemcgNotification":     true, // the kernel tells wherever it can
		"showHiddenMetricsForVersion": true, // no metric is hidden
	}
	toldElsewhere := map[string]bool{
		"qosReserved": true, // rareWarnings
	}
	for _, f := range fields {
		name := goName(reflect.TypeFor[kubeletconfig.KubeletConfiguration](), strings.Split(f.path, "."))
		switch {
		case f.verdict == honoured && strings.HasPrefix(f.path, "logging."):
			// logsapi.ValidateAndApplyWithOptions takes all of them at once.
			if !read["ValidateAndApplyWithOptions"] {
				t.Errorf("%s: nobody applies logging", f.path)
			}
		case f.verdict == honoured && strings.HasPrefix(f.path, "tracing."):
			if !read["Tracing"] {
				t.Errorf("%s: nobody reads tracing", f.path)
			}
		case f.verdict == honoured && !read[name] && !doneAnyway[f.path]:
			t.Errorf("%s is called honoured, and nothing outside pkg/config's tables reads %s", f.path, name)
		case f.verdict == notHonoured && f.does == "*" && !toldElsewhere[f.path] && !strings.Contains(f.text, "kubelet"):
			t.Errorf("%s: any value is silent, and its text does not say that the kubelet does nothing of it either: %s", f.path, f.text)
		}
	}
}

// goName returns the name of the field of the Go type that a path ends at.
func goName(t reflect.Type, path []string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != path[0] {
			continue
		}
		if len(path) == 1 {
			return f.Name
		}
		return goName(f.Type, path[1:])
	}
	return ""
}

// selectors returns which names are selected (x.Name) in Go files that are no tests. Of pkg/config those
// count that hand fields to others: to describe and check a field is not to act on it.
func selectors(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if slices.Contains([]string{"fields.go", "flagtable.go", "warnings.go", "validate_kubelet.go"}, filepath.Base(path)) {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					names[s.Sel.Name] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

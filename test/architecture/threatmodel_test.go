package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const threatModel = "docs/threat-model.md"

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*(/.*)?$`)
	codePath = regexp.MustCompile(`^(pkg|cmd|test|docs|config)/[\w./-]+(:\w+)?$`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// The page is worth nothing if what it names has been renamed or removed.
func TestTheThreatModelNamesOnlyWhatExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, threatModel))
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOf(t)
	named, places := 0, 0
	for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
		switch name := m[1]; {
		case testName.MatchString(name):
			named++
			if name, _, _ := strings.Cut(name, "/"); !tests[name] {
				t.Errorf("%s names the test %s, which does not exist", threatModel, name)
			}
		case codePath.MatchString(name):
			places++
			if what := missing(name); what != "" {
				t.Errorf("%s names %s: %s", threatModel, name, what)
			}
		}
	}
	if named == 0 || places == 0 {
		t.Errorf("%s names %d tests and %d places of the code: this test does not find them", threatModel, named, places)
	}
}

// missing says what does not exist of path or path:identifier, "" if all does.
func missing(name string) string {
	path, identifier, _ := strings.Cut(name, ":")
	info, err := os.Stat(filepath.Join(root, path))
	if err != nil {
		return "no such file"
	}
	if identifier == "" || info.IsDir() {
		return ""
	}
	code, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return err.Error()
	}
	declared := regexp.MustCompile(`(?m)^\s*(func |func \([^)]*\) |type |var |const |)` + identifier + `\b`)
	if !declared.Match(code) {
		return "the file declares no " + identifier
	}
	return ""
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

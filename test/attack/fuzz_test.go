package attack

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// endOfTime is the whole complaint of the fuzzing engine when its time is over while a worker is
// at work: go.dev/issue/75804, mended in Go 1.27. An input that fails is named. One that hangs is
// found only where a target has more than the engine's 10 s for an input: in a long attack.
var endOfTime = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \(.*\)\n    context deadline exceeded\nFAIL\n`)

// TestFuzz gives every fuzz target of the tree an equal share of the time. An input that
// makes one fail is left in testdata/fuzz beside it, where `go test` tries it from then on.
func TestFuzz(t *testing.T) {
	t.Parallel()
	targets := fuzzTargets(t)
	count := 0
	for _, names := range targets {
		count += len(names)
	}
	if count < 16 {
		t.Errorf("only %d fuzz targets were found: %v", count, targets)
	}
	share := max(duration(t)/time.Duration(count), time.Second)
	for _, dir := range slices.Sorted(maps.Keys(targets)) {
		t.Run(strings.TrimPrefix(dir, root+"/pkg/"), func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "fuzz.test")
			build := []string{"test", "-c", "-o", program}
			if os.Getenv("RACE") == "1" {
				build = append(build, "-race") // as the unit tests were built: nothing is compiled again
			}
			if instrumented() {
				build = append(build, "-fuzz", ".")
			}
			if out, err := command(t, dir, "go", append(build, ".")...).CombinedOutput(); err != nil {
				t.Fatalf("go %s: %v\n%s", strings.Join(build, " "), err, out)
			}
			for _, name := range targets[dir] {
				t.Run(name, func(t *testing.T) {
					// Parallel is the number of the fuzzing engine's processes.
					out, err := command(t, dir, program, "-test.run", "^$", "-test.fuzz", "^"+name+"$", "-test.fuzztime", share.String(),
						"-test.fuzzminimizetime", "2s", "-test.fuzzcachedir", corpus(t, dir), "-test.parallel", "2").CombinedOutput()
					if err != nil && !endOfTime.Match(out) {
						t.Errorf("%v\n%s", err, out)
					}
				})
			}
		})
	}
}

// fuzzTargets finds the names of all fuzz targets by their package's directory.
func fuzzTargets(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(filepath.Join(root, "pkg"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range fuzzTarget.FindAllSubmatch(text, -1) {
			found[filepath.Dir(path)] = append(found[filepath.Dir(path)], string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// command is a program that runs in a directory and is given up after the test's time.
func command(t *testing.T, dir, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// corpus is where a long run keeps the inputs that took the code somewhere new, for the next one.
func corpus(t *testing.T, pkg string) string {
	t.Helper()
	if !instrumented() {
		return t.TempDir()
	}
	cache, err := os.UserCacheDir()
	dir := filepath.Join(cache, "mini-kubelet", "fuzz", strings.TrimPrefix(pkg, root+"/"))
	if err = errors.Join(err, os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Main runs a package's tests and removes what they shared. TestMain calls it with
// testing.M's Run; it returns the exit code. A test's binary is also the program that
// stands in for plug-ins, see StartPlugins.
func Main(runTests func() int) int {
	if code, is := asPlugin(); is {
		return code
	}
	code := runTests()
	if err := bundles.close(os.Stdout); err != nil {
		fmt.Println("FAIL: bundles:", err)
		code = max(code, 1)
	}
	if err := closeRun(); err != nil {
		fmt.Fprintln(os.Stderr, "clean up after the tests:", err)
		return 1
	}
	return code
}

// Root is the top of the source tree.
var Root = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	panic("no go.mod above " + dir)
})

// Binary is the path of the mini-kubelet under test: from the environment variable
// MINI_KUBELET, or else built from this tree.
var Binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("MINI_KUBELET"); path != "" {
		return filepath.Abs(path)
	}
	r, err := run()
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.dir, "mini-kubelet")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/mini-kubelet")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/mini-kubelet: %w\n%s", err, out)
	}
	return path, nil
})

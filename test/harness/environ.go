package harness

import (
	"os"
	"path/filepath"
)

// runVariable names the run directory in the environment of everything that a run starts,
// directly or not: Reap uses it to distinguish a run's own processes from those that only
// look at its files.
const runVariable = "MINI_KUBELET_TEST_RUN"

// inherited are the variables that reach a program of the tests. Others, such as proxies,
// DOCKER_HOST, DOCKER_CONFIG and KUBECONFIG, are for the user's own work on the machine.
var inherited = []string{"PATH", "TZ", "GOCOVERDIR", "GODEBUG", "GORACE", "GOTRACEBACK", runVariable}

// environ is the environment of this run's programs.
func environ() []string {
	r, err := run()
	if err != nil {
		return nil // nothing can be started without a run directory
	}
	return environOf(r.dir)
}

// environOf is the environment for the run with that directory.
func environOf(dir string) []string {
	env := []string{"HOME=" + home(dir)}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func home(dir string) string { return filepath.Join(dir, "home") }

// makeHome makes the home of a run's programs, with a Docker configuration that knows no
// registry: a program that finds it does not look for the machine's.
func makeHome(dir string) error {
	docker := filepath.Join(home(dir), ".docker")
	if err := os.MkdirAll(docker, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docker, "config.json"), []byte("{}"), 0o600)
}

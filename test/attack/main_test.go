// Package attack does to the code and to a running agent what somebody who wants to harm it
// would do. `make attack` does so for as long as TIME says; `make test` for a minute.
//
//   - TestFuzz: every fuzz target of the tree.
//   - TestHostileInputs: manifests, containers, connections and files that are meant to stop an
//     agent, all at once, while it is killed and started again.
//
// What one input is to lead to in detail has its test in test/integration, or beside the code.
package attack

import (
	"os"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// root is the top of the source tree.
const root = "../.."

// duration is how long an attack goes on.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MINI_KUBELET_ATTACK")
	if text == "" {
		return time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("MINI_KUBELET_ATTACK: %v", err)
	}
	return d
}

// instrumented reports whether the fuzzing engine is to see which code an input reaches. To
// build everything for that takes minutes, which only a long attack is worth.
func instrumented() bool { return os.Getenv("MINI_KUBELET_ATTACK") != "" }

// Package integration runs mini-kubelet against real Docker, one test for each
// thing that the project promises. Every test has an agent of its own with its
// own node name, directories and ports; most share one private Docker daemon.
//
// Tests that measure latency run alone, before the parallel ones.
package integration

import (
	"os"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// start starts an agent on the shared daemon for a parallel test.
func start(t *testing.T) *harness.Agent {
	t.Helper()
	t.Parallel()
	return harness.StartAgent(t, harness.AgentConfig{})
}

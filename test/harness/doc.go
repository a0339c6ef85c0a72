// Package harness is what the integration tests and the benchmark stand on. It
// runs the real thing: agent processes of bin/mini-kubelet against a real,
// private Docker daemon, with a proxy between them that can misbehave.
//
//	test ──▶ Agent ──▶ Proxy ──▶ Dockerd (own data root, socket, bridge)
//	  ▲        │ /pods            ▲
//	  └────────┴── watches both ──┘
//
// Everything that it makes lies under one run directory, held by a file lock:
// what a killed run left behind is found by the next one and taken away.
// Every wait has a deadline and, when it passes, shows the pod, the containers
// and the end of the agent's log.
package harness

import (
	"context"
	"time"
)

// T is what the harness needs of *testing.T; the benchmark has its own.
type T interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	Context() context.Context
}

// Patience is how long a wait may take before it fails, unless told otherwise.
// It is far above what anything should take, so that a slow machine is not a
// failure; what must be quick is measured instead.
const Patience = 2 * time.Minute

// Eventually calls cond until it returns nil, at short intervals, and fails the
// test with its last error and the answers of the explain functions when
// patience runs out.
func Eventually(t T, what string, patience time.Duration, cond func() error, explain ...func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			text := ""
			for _, e := range explain {
				text += "\n" + e()
			}
			t.Fatalf("gave up waiting %v until %s: %v%s", patience, what, err, text)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Never fails the test when cond returns an error within d: for what must not
// happen. It looks often, so that a short lapse is seen too.
func Never(t T, what string, d time.Duration, cond func() error, explain ...func() string) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := cond(); err != nil {
			text := ""
			for _, e := range explain {
				text += "\n" + e()
			}
			t.Fatalf("%s: %v%s", what, err, text)
			return
		}
	}
}

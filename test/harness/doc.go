// Package harness is the foundation of the integration tests and the benchmark. It runs the
// real thing: agent processes of bin/mini-kubelet against a real, private Docker daemon,
// with a proxy between them that can misbehave.
//
//	test ──▶ Agent ──▶ Proxy ──▶ Dockerd (own data root, socket, bridge)
//	  ▲        │ /pods            ▲
//	  └────────┴── watches both ──┘
//
// Everything that it makes is below one run directory, held by a file lock: the next run
// finds and removes what a killed one left behind. Every wait has a deadline and, when it
// passes, shows the pod, the containers and the end of the agent's log.
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

// Patience is how long a wait may take before it fails, unless specified otherwise.
// It is far longer than anything should take, so that a slow machine is no failure;
// what must be fast is measured instead.
const Patience = 2 * time.Minute

// Eventually calls cond at short intervals until it returns nil. When patience runs
// out, it fails the test with the last error and the results of the explain
// functions.
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

// Never fails the test if cond returns an error within d: for what must not happen.
// It looks often, so that a short lapse is seen too.
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

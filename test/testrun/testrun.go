// Package testrun runs in tests what the agent runs as long as it lives.
package testrun

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Patience bounds what a busy machine may take.
const Patience = 2 * time.Minute

// Start calls run in a goroutine until stop is called or the test ends, at the
// latest, and fails the test if run returns an error, or does not return. Calling
// stop again does nothing.
func Start(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(Patience):
			t.Errorf("Run has not returned %v after its context ended", Patience)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Eventually waits until ok, and fails the test with what was waited for when that does not
// come.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

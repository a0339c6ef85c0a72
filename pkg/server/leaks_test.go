package server

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// soon bounds what a test may wait for.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func serving() []string {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	return slices.DeleteFunc(strings.Split(string(b), "\n\n"), func(stack string) bool {
		return !strings.Contains(stack, "server.(*longRequests)") && !strings.Contains(stack, "UpgradeAwareHandler") && !strings.Contains(stack, "StreamTranslatorHandler")
	})
}

func eventually(t *testing.T, wrong func() string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		what := wrong()
		if what == "" {
			return
		}
		if time.Now().After(end) {
			t.Error(what)
			return
		}
	}
}

// leavesNothing checks at the test's end that no goroutine was left behind, except
// for those that client-go's WebSocket client leaves for some seconds.
func leavesNothing(t *testing.T) {
	t.Helper()
	all := func() []string {
		b := make([]byte, 1<<20)
		b = b[:runtime.Stack(b, true)]
		return slices.DeleteFunc(strings.Split(string(b), "\n\n"), func(stack string) bool {
			return strings.Contains(stack, "remotecommand.(*heartbeat).start") || strings.Contains(stack, "portforward.(*PortForwarder).handleConnection.func1")
		})
	}
	before := len(all())
	t.Cleanup(func() {
		eventually(t, func() string {
			if now := all(); len(now) > before {
				return fmt.Sprintf("%d goroutines, before %d\n%s", len(now), before, strings.Join(now, "\n\n"))
			}
			return ""
		})
	})
}

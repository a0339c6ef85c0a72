package sdnotify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// systemd listens as systemd does.
func systemd(t *testing.T, watchdog time.Duration) (next func() string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	if watchdog > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	}
	return func() string {
		b := make([]byte, 100)
		_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestSystemdHearsThatTheAgentIsUpAndWell(t *testing.T) {
	next := systemd(t, 20*time.Second)
	clock := testclock.NewFakeClock(time.Now())
	var ill atomic.Bool
	asked := make(chan struct{}, 1)
	n, err := New(Config{Clock: clock, Healthy: func(context.Context) error {
		defer func() { asked <- struct{}{} }() // what is answered does not change any more
		if ill.Load() {
			return errors.New("the sync loop stands still")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := testrun.Start(t, n.Run)
	want := func(state string) {
		t.Helper()
		if got := next(); got != state {
			t.Errorf("systemd hears %q, want %q", got, state)
		}
	}
	want("READY=1")
	<-asked
	want("WATCHDOG=1")
	clock.Step(10 * time.Second)
	<-asked
	want("WATCHDOG=1")
	ill.Store(true)
	clock.Step(10 * time.Second)
	<-asked
	ill.Store(false)
	clock.Step(10 * time.Second)
	<-asked
	want("WATCHDOG=1")
	stop()
	want("STOPPING=1") // and nothing before it: what was ill was not told
}

func TestWithoutSystemdNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := New(Config{Clock: clock.RealClock{}, Healthy: func(context.Context) error { t.Error("asked"); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, n.Run)()
}

func TestAWatchdogThatLeavesNoTimeIsRefused(t *testing.T) {
	systemd(t, time.Second)
	_, err := New(Config{Clock: clock.RealClock{}, Healthy: func(context.Context) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "WatchdogSec is 1s") {
		t.Errorf("New: %v", err)
	}
}

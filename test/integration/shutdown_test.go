package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
	"github.com/mini-kubelet/mini-kubelet/test/logindtest"
)

// TestPodsEndBeforeTheMachineDoes shuts the machine down by a real logind, whose last order
// nobody carries out: the pods end by priority, the critical one last, and come back with
// the next start.
func TestPodsEndBeforeTheMachineDoes(t *testing.T) {
	t.Parallel()
	logind := logindtest.Start(t, 2*time.Minute)
	a := harness.NewAgent(t, harness.AgentConfig{
		Env:    []string{"DBUS_SYSTEM_BUS_ADDRESS=" + logind.Address},
		Config: map[string]any{"shutdownGracePeriod": "60s", "shutdownGracePeriodCriticalPods": "30s"},
	})
	a.Start()
	last := harness.Pod("last", "trap 'exit 0' TERM; while :; do sleep 0.1; done", grace(30), func(p *v1.Pod) {
		p.Spec.Priority, p.Spec.PriorityClassName = new(int32(2_000_001_000)), "system-node-critical"
	})
	first := harness.Pod("first", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done", grace(30))
	a.Write("pods.yaml", first, last)
	a.WaitRunning("first")
	a.WaitRunning("last")
	harness.Eventually(t, "the shutdown is held up", harness.Patience, func() error {
		if who := logind.Inhibitors(); !slices.Contains(who, "kubelet shutdown delay") {
			return fmt.Errorf("held up by %q", who)
		}
		return nil
	}, a.Explain)
	logind.PowerOff()
	a.WaitPod("first", "has ended", terminatedByShutdown)
	a.Write("late.yaml", harness.Pod("late", ""))
	a.WaitPod("late", "is rejected", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "NodeShutdown" })
	ended := a.WaitPod("last", "has ended", terminatedByShutdown)
	select {
	case unit := <-logind.Units:
		if unit != "poweroff.target" {
			t.Errorf("logind has %s started", unit)
		}
	case <-time.After(time.Minute):
		t.Fatal("the machine is held up although no pod runs")
	}
	before, after := finished(a.Pod("first")), finished(ended)
	if before.IsZero() || after.Before(before) {
		t.Errorf("the critical pod ended at %v, the other one at %v", after, before)
	}
	// The machine comes up again.
	a.Kill()
	a.Start()
	for _, pod := range []string{"first", "last", "late"} {
		a.WaitRunning(pod)
	}
}

func terminatedByShutdown(p *v1.Pod) bool {
	return p.Status.Phase == v1.PodFailed && p.Status.Reason == "Terminated" && !finished(p).IsZero() &&
		slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue })
}

// finished is when the pod's container ended, zero if it has not.
func finished(p *v1.Pod) time.Time {
	if len(p.Status.ContainerStatuses) == 1 {
		if s := p.Status.ContainerStatuses[0].State.Terminated; s != nil {
			return s.FinishedAt.Time
		}
	}
	return time.Time{}
}

// TestSystemdIsToldThatTheAgentIsUp is about the unit files' Type=notify and WatchdogSec.
func TestSystemdIsToldThatTheAgentIsUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	a := harness.NewAgent(t, harness.AgentConfig{Env: []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "n"), "WATCHDOG_USEC=4000000"}})
	a.Start()
	hear := func() string {
		t.Helper()
		b := make([]byte, 200)
		_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := socket.Read(b)
		if err != nil {
			t.Fatalf("systemd hears nothing: %v\n%s", err, a.Explain())
		}
		return string(b[:n])
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := hear(); got != want {
			t.Errorf("systemd hears %q, want %q", got, want)
		}
	}
	began := time.Now()
	a.Interrupt()
	if took := time.Since(began); took > 5*time.Second {
		t.Logf("the agent took %v to stop; 5 s are the aim on a machine that has nothing else to do", took)
	}
	for got := ""; !strings.HasPrefix(got, "STOPPING=1"); got = hear() {
	}
}

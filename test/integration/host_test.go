package integration

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/kernelparams"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestProtectKernelDefaultsComparesAndChangesNothing(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{"protectKernelDefaults": true}})
	different, err := kernelparams.Differences(kernelparams.Proc)
	if err != nil {
		t.Skipf("this machine does not show its parameters: %v", err)
	}
	if len(different) == 0 {
		a.Start() // as the kubelet wants them
		return
	}
	a.Launch()
	if err := a.WaitExit(); err == nil {
		t.Error("the agent ended without an error")
	}
	for _, d := range different {
		if !strings.Contains(a.Log(), d.String()) {
			t.Errorf("the log does not say %q\n%s", d, a.Log())
		}
	}
	if now, err := kernelparams.Differences(kernelparams.Proc); err != nil || len(now) != len(different) {
		t.Errorf("different before: %v, now: %v, %v", different, now, err)
	}
}

// The agent gets a network of its own for this, and the machine's tables stay as they are.
func TestTheKubeletsChainsAreMade(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{"makeIPTablesUtilChains": true}})
	skip := make(chan string, 1)
	go func() {
		defer close(skip)
		runtime.LockOSThread() // never unlocked: the thread, and its network, end with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			skip <- "no network namespace can be made here: " + err.Error()
			return
		}
		for _, args := range [][]string{{"ip", "link", "set", "lo", "up"}, {"iptables", "-t", "mangle", "-S"}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				skip <- strings.Join(args, " ") + ": " + err.Error() + " " + string(out)
				return
			}
		}
		a.Launch()
		harness.Eventually(t, "the chains are there", harness.Patience, func() error {
			mangle, err := exec.Command("iptables", "-t", "mangle", "-S").CombinedOutput()
			filter, err2 := exec.Command("iptables", "-t", "filter", "-S").CombinedOutput()
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			if !strings.Contains(string(mangle), "-N KUBE-IPTABLES-HINT") || !strings.Contains(string(filter), "-A INPUT -j KUBE-FIREWALL") {
				return errors.New(string(mangle) + string(filter))
			}
			return nil
		}, a.Explain)
	}()
	if why, ok := <-skip; ok {
		t.Skip(why)
	}
}

func TestSwapIsWhatTheConfigurationSays(t *testing.T) {
	t.Parallel()
	harness.NeedDockerd(t)
	_, on, err := machine.Swap()
	if err != nil {
		t.Skip(err)
	}
	a := harness.NewAgent(t, harness.AgentConfig{Config: map[string]any{"failSwapOn": true, "memorySwap": map[string]string{"swapBehavior": "LimitedSwap"}}})
	if on {
		a.Launch()
		if err := a.WaitExit(); err == nil || !strings.Contains(a.Log(), "running with swap on is not supported") {
			t.Errorf("with swap: %v\n%s", err, a.Log())
		}
		a.SetConfig("failSwapOn", false)
	}
	a.Start()
	limits, v2 := machine.LimitsSwap()
	if warned := strings.Contains(a.Log(), "LimitedSwap needs cgroup v2"); warned == (limits && v2) {
		t.Errorf("limits swap: %v, cgroup v2: %v, warned: %v", limits, v2, warned)
	}
}

package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// onCNI starts an agent whose pods are on a network of real CNI plug-ins, called through a
// proxy.
func onCNI(t *testing.T, config map[string]any) (*harness.Agent, *harness.Proxy) {
	t.Helper()
	t.Parallel()
	a, proxy := harness.NewCNIAgent(t, harness.AgentConfig{Config: config})
	a.Start()
	return a, proxy
}

// waitAttached waits until these pods, and nothing else, have an address and a record of it.
func waitAttached(t *testing.T, a *harness.Agent, pods ...*v1.Pod) {
	t.Helper()
	harness.Eventually(t, "exactly the wanted pods are on the network", harness.Patience, func() error {
		var addresses, sandboxes []string
		for _, p := range pods {
			running, err := a.Running(p.Name)
			if err != nil {
				return err
			}
			sandboxes = append(sandboxes, running[harness.Sandbox].ID)
			if now := a.Pod(p.Name); now != nil {
				addresses = append(addresses, now.Status.PodIP)
			}
		}
		given, err := a.Addresses()
		if err != nil {
			return err
		}
		recorded, err := a.Attachments()
		if err != nil {
			return err
		}
		for _, list := range [][]string{addresses, sandboxes, given, recorded} {
			slices.Sort(list)
		}
		if !slices.Equal(addresses, given) || !slices.Equal(sandboxes, recorded) {
			return fmt.Errorf("pods have %v, %v are given out; sandboxes %.12v, on record %.12v", addresses, given, sandboxes, recorded)
		}
		return nil
	}, a.Explain)
}

// killAtEachCall kills the agent right after the n-th call of a pod's start that changes
// something has been done, and before the agent learns of it, for every n; then of a pod's end.
// The next agent has to bring that to its end each time: write writes the n-th pod, and check
// waits for what these pods, and no others, are to have. starts and ends are how many calls
// there are at least.
func killAtEachCall(t *testing.T, a *harness.Agent, proxy *harness.Proxy, write func(n int64) *v1.Pod, check func(pods ...*v1.Pod), starts, ends int64) {
	t.Helper()
	arm := func(n int64) *pendingKill {
		k := &pendingKill{done: make(chan struct{})}
		var count atomic.Int64
		proxy.On(func(c harness.Call) bool { return c.Changes() && count.Add(1) == n && !k.decided.Swap(true) },
			harness.CutAfter(func() { a.Kill(); close(k.done) }))
		return k
	}
	var pods []*v1.Pod
	for n := int64(1); ; n++ {
		k := arm(n)
		p := write(n)
		pods = append(pods, p)
		was := killedBefore(t, a, k, func(list *v1.PodList) bool { return ready(a, list, p.Name) })
		proxy.Clear()
		if !was {
			if t.Logf("killed after each of the %d calls of a start", n-1); n-1 < starts {
				t.Errorf("only %d kills: the test did not see the calls of a start", n-1)
			}
			break
		}
		a.Start()
		a.WaitRunning(p.Name)
		a.WaitExactly(pods...)
		check(pods...)
	}
	for n := int64(1); len(pods) > 0; n++ {
		p := pods[0]
		pods = pods[1:]
		k := arm(n)
		a.Remove(p.Name + ".yaml")
		was := killedBefore(t, a, k, func(list *v1.PodList) bool {
			of, err := a.ContainersOf(p.Name)
			return err == nil && len(of) == 0 && !listed(a, list, p.Name)
		})
		proxy.Clear()
		if !was {
			if t.Logf("killed after each of the %d calls of an end", n-1); n-1 < ends {
				t.Errorf("only %d kills: the test did not see the calls of an end", n-1)
			}
			break
		}
		a.Start()
		a.WaitGone(p.Name)
		a.WaitExactly(pods...)
		check(pods...)
	}
	check(pods...)
	checkCanStillWork(t, a, pods)
}

func TestAgentKilledAfterEachCallOfANetworkPlugIn(t *testing.T) {
	a, proxy := onCNI(t, nil)
	write := func(n int64) *v1.Pod {
		p := harness.Pod(fmt.Sprintf("p%d", n), "")
		a.Write(p.Name+".yaml", p)
		return p
	}
	// ADD and DEL of loopback, which drops its record, and ADD of the bridge; DEL of that.
	killAtEachCall(t, a, proxy, write, func(pods ...*v1.Pod) { waitAttached(t, a, pods...) }, 3, 1)
}

// TestNetworkPlugInThatLies has the plug-in fail the pod's ADD in all ways: the pod says why
// it does not start, has nothing left of it, and starts at the next try.
func TestNetworkPlugInThatLies(t *testing.T) {
	a, proxy := onCNI(t, nil)
	var pods []*v1.Pod
	nothing := func() {}
	cases := map[string]struct {
		fault harness.Fault
		want  string // in the log and the pod's event
	}{
		"fails":          {harness.Fail(http.StatusInternalServerError, "the pool is empty"), "plug-in bridge, ADD: the pool is empty"},
		"garbage":        {harness.Answer("{garbage"), "invalid character"},
		"says-nothing":   {harness.Answer(""), "unexpected end of JSON input"},
		"no-address":     {harness.Answer(`{"cniVersion":"0.4.0","ips":[]}`), "the plug-ins gave no address"},
		"null":           {harness.Answer("null"), "the plug-ins gave no address"},
		"huge":           {harness.Huge(64 << 20), "plug-in bridge, ADD: more than 1048576 bytes of output"},
		"dies-before":    {harness.CutBefore(nothing), "plug-in bridge, ADD: signal: killed"},
		"dies-afterward": {harness.CutAfter(nothing), "plug-in bridge, ADD: signal: killed"},
	}
	of := func(pod, call string) func(harness.Call) bool {
		return harness.About("K8S_POD_NAME="+a.Name(pod), harness.Path(call, "/bridge"))
	}
	for name, tt := range cases {
		proxy.On(harness.First(of(name, "ADD")), tt.fault)
		pods = append(pods, harness.Pod(name, ""))
	}
	a.Write("pods.yaml", pods...)
	for name, tt := range cases {
		waitLog(t, a, "FailedCreatePodSandBox", tt.want, name)
		a.WaitRunning(name)
	}
	proxy.Clear()
	a.WaitExactly(pods...)
	waitAttached(t, a, pods...)
	for line := range strings.Lines(a.Log()) {
		if len(line) > 64<<10 {
			t.Errorf("a line of the log has %d bytes: %.300s", len(line), line)
		}
	}
	// DEL fails in the same ways. It is asked for until it is done.
	proxy.Forget()
	faults := []harness.Fault{harness.Fail(500, "not now"), harness.Huge(64 << 20), harness.CutBefore(nothing), harness.CutAfter(nothing)}
	for i, p := range pods[:len(faults)] {
		proxy.On(harness.First(of(p.Name, "DEL")), faults[i])
	}
	a.Write("pods.yaml", pods[len(faults):]...)
	for i, p := range pods[:len(faults)] {
		a.WaitGone(p.Name)
		if proxy.Count(of(p.Name, "DEL")) < 2 {
			t.Errorf("fault %d of DEL: it was not asked for again", i)
		}
	}
	waitAttached(t, a, pods[len(faults):]...)
}

// TestNetworkPlugInThatHangsHoldsUpOnlyItsOwnPod has ADD hang, then DEL, then DEL for a sandbox
// that an agent which starts must give back.
func TestNetworkPlugInThatHangsHoldsUpOnlyItsOwnPod(t *testing.T) {
	a, proxy := onCNI(t, map[string]any{"runtimeRequestTimeout": "15s"})
	a.Write("first.yaml", harness.Pod("first", ""))
	first := a.WaitRunning("first")

	hang := func(call string) (hangs <-chan struct{}) {
		begun := make(chan struct{})
		first := harness.First(func(c harness.Call) bool { return c.String() == call })
		proxy.On(func(c harness.Call) bool {
			if !first(c) {
				return false
			}
			close(begun)
			return true
		}, harness.Hang(make(chan struct{})))
		return begun
	}
	await := func(c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(harness.Patience):
			t.Fatalf("the plug-in is not called\n%s", a.Explain())
		}
	}
	hangs := hang("ADD /bridge")
	a.Write("stuck.yaml", harness.Pod("stuck", ""))
	await(hangs)
	a.Write("other.yaml", harness.Pod("other", ""))
	a.WaitRunning("other")
	kill(t, a, "first")
	a.WaitPod("first", "is repaired while ADD hangs", restarted)
	waitLog(t, a, "FailedCreatePodSandBox", "plug-in bridge, ADD: no answer within", "stuck")
	a.WaitRunning("stuck")

	hangs = hang("DEL /bridge")
	a.Remove("stuck.yaml")
	await(hangs)
	a.Write("late.yaml", harness.Pod("late", ""))
	a.WaitRunning("late")
	a.WaitGone("stuck")

	// The sandbox is gone when the next agent looks, and DEL for it hangs.
	a.Kill()
	of, err := a.ContainersOf("late")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range of {
		if err := a.Docker.Client.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	a.Remove("late.yaml")
	hangs = hang("DEL /bridge")
	a.Start()
	await(hangs)
	a.Write("next.yaml", harness.Pod("next", ""))
	a.WaitRunning("next")
	proxy.Clear()
	a.Kill() // a minute is the hanging DEL's
	a.Start()
	now := a.WaitRunning("first")
	if now.Status.PodIP != first.Status.PodIP {
		t.Errorf("the first pod has %s now, had %s", now.Status.PodIP, first.Status.PodIP)
	}
	waitAttached(t, a, harness.Pod("first", ""), harness.Pod("other", ""), harness.Pod("next", ""))
}

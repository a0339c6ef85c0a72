package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestAgentStoppedByCtrlCLeavesPodsRunningAndTheNextAdoptsThem(t *testing.T) {
	a := start(t)
	pods := []*v1.Pod{harness.Pod("one", ""), harness.Pod("two", "", func(p *v1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", ""))
	})}
	a.Write("pods.yaml", pods...)
	a.WaitRunning("one")
	a.WaitRunning("two")
	seen := harness.WatchEvents(a)
	before := runningIDs(t, a)
	a.Interrupt()
	a.CheckExactly(pods...)
	a.Start()
	for _, name := range []string{"one", "two"} {
		p := a.WaitRunning(name)
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount != 0 {
				t.Errorf("container %s of %s has restartCount %d", c.Name, name, c.RestartCount)
			}
		}
	}
	late := harness.Pod("late", "") // when it runs, the agent has looked at all
	a.Write("late.yaml", late)
	a.WaitRunning("late")
	a.CheckExactly(append(pods, late)...)
	checkStillRunning(t, a, before)
	seen.Wait(1, "start", "late", "c", harness.Patience) // told later than the pod is Ready, at times
	if starts := len(seen.Of("start", "", "")); starts != 2 {
		t.Errorf("%d starts since, want only the two of the late pod", starts)
	}
}

func TestAgentKilledAtRandomMoments(t *testing.T) {
	a := start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var pods []*v1.Pod
	survivors := map[string]string{}
	for round := range 8 {
		p := harness.Pod(fmt.Sprintf("p%d", round), "", func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{harness.Container("i", "true")}
			p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", ""))
		})
		pods = append(pods, p)
		a.Write(p.Name+".yaml", p)
		time.Sleep(time.Duration(random.IntN(900)) * time.Millisecond) // the moment is the test
		a.Kill()
		settle(t, a)
		for id, name := range runningIDs(t, a) {
			survivors[id] = name
		}
		a.Launch()
	}
	for _, p := range pods {
		a.WaitRunning(p.Name)
	}
	a.WaitExactly(pods...)
	checkStillRunning(t, a, survivors)
	for _, p := range pods {
		for _, c := range a.Pod(p.Name).Status.ContainerStatuses {
			if c.RestartCount != 0 {
				t.Errorf("container %s of %s has restartCount %d", c.Name, p.Name, c.RestartCount)
			}
		}
	}
	checkCanStillWork(t, a, pods)
}

// settle waits until Docker has finished what a killed agent had asked for, so
// that what runs is known.
func settle(t *testing.T, a *harness.Agent) {
	t.Helper()
	last, same := "", 0
	harness.Eventually(t, "Docker is at rest", harness.Patience, func() error {
		own, err := a.Containers()
		if err != nil {
			return err
		}
		now := ""
		for _, c := range own {
			now += c.ID + c.State
		}
		if now != last {
			last, same = now, 0
		}
		if same++; same < 10 { // 200 ms without a change
			return fmt.Errorf("still changing")
		}
		return nil
	})
}

// runningIDs are the node's running containers by ID, with their names.
func runningIDs(t *testing.T, a *harness.Agent) map[string]string {
	t.Helper()
	own, err := a.Containers()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, c := range own {
		if c.State == container.StateRunning {
			ids[c.ID] = c.Names[0]
		}
	}
	return ids
}

// checkStillRunning fails unless every container of before runs on. Init
// containers, which end by themselves, are let off.
func checkStillRunning(t *testing.T, a *harness.Agent, before map[string]string) {
	t.Helper()
	now := runningIDs(t, a)
	for id, name := range before {
		if n := harness.ParseName(container.Summary{Names: []string{name}}); n.Container == "i" {
			continue
		}
		if _, ok := now[id]; !ok {
			t.Errorf("%s (%s) was running and was not left running\n%s", name, id[:12], a.Explain())
		}
	}
}

// checkCanStillWork proves that the node still starts and ends pods.
func checkCanStillWork(t *testing.T, a *harness.Agent, pods []*v1.Pod) {
	t.Helper()
	fresh := harness.Pod("fresh", "")
	a.Write("fresh.yaml", fresh)
	a.WaitRunning("fresh")
	a.CheckExactly(append(slices.Clone(pods), fresh)...)
	a.Remove("fresh.yaml")
	a.WaitGone("fresh")
}

// TestAgentKilledAfterEachDockerCallThatChangesSomething kills the agent right
// after Docker has carried out the n-th changing call of a pod's start, and
// before the agent learns of it, for every n; then of a pod's end.
func TestAgentKilledAfterEachDockerCallThatChangesSomething(t *testing.T) {
	t.Parallel()
	pod := func(i int) *v1.Pod {
		return harness.Pod(fmt.Sprintf("p%d", i), "", policy(v1.RestartPolicyNever), func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{harness.Container("i", "true")}
			p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", ""))
		})
	}
	proxy := harness.StartProxy(t, harness.Docker(t))
	a := harness.StartAgent(t, harness.AgentConfig{Endpoint: proxy.Endpoint})
	seen := harness.WatchEvents(a)

	// killAt kills the agent after its n-th changing call from now on.
	killAt := func(n int64) *pendingKill {
		k := &pendingKill{done: make(chan struct{})}
		var count atomic.Int64
		proxy.On(func(c harness.Call) bool { return c.Changes() && count.Add(1) == n && !k.decided.Swap(true) },
			harness.CutAfter(func() { a.Kill(); close(k.done) }))
		return k
	}
	var pods []*v1.Pod
	kills := 0
	for n := int64(1); ; n++ {
		p := pod(int(n))
		k := killAt(n)
		a.Write(p.Name+".yaml", p)
		pods = append(pods, p)
		was := killedBefore(t, a, k, func(list *v1.PodList) bool { return ready(a, list, p.Name) })
		proxy.Clear()
		if !was {
			break // the whole start takes fewer than n calls
		}
		kills++
		before := runningIDs(t, a)
		a.Start()
		a.WaitRunning(p.Name)
		a.WaitExactly(pods...)
		checkStillRunning(t, a, before)
		for _, c := range a.Pod(p.Name).Status.ContainerStatuses {
			if c.RestartCount != 0 {
				t.Errorf("killed after call %d: container %s has restartCount %d", n, c.Name, c.RestartCount)
			}
		}
		for _, c := range []string{"i", "c", "other"} {
			seen.Wait(1, "start", p.Name, c, harness.Patience)
			if starts := len(seen.Of("start", p.Name, c)); starts != 1 {
				t.Errorf("killed after call %d: container %s was started %d times", n, c, starts)
			}
		}
	}
	t.Logf("killed after each of the %d changing calls of a start", kills)
	if kills < 8 { // sandbox, init and two containers: each is created and started
		t.Errorf("only %d kills: the test did not see the calls of a start", kills)
	}

	kills = 0
	for n := int64(1); len(pods) > 0; n++ {
		p := pods[0]
		pods = pods[1:]
		k := killAt(n)
		a.Remove(p.Name + ".yaml")
		was := killedBefore(t, a, k, func(list *v1.PodList) bool {
			of, err := a.ContainersOf(p.Name)
			return err == nil && len(of) == 0 && !listed(a, list, p.Name)
		})
		proxy.Clear()
		if !was {
			break
		}
		kills++
		a.Start()
		a.WaitGone(p.Name)
		a.WaitExactly(pods...)
	}
	t.Logf("killed after each of the %d changing calls of an end", kills)
	if kills < 3 {
		t.Errorf("only %d kills: the test did not see the calls of an end", kills)
	}
	checkCanStillWork(t, a, pods)
}

// pendingKill is a kill that may come: once decided, it either comes or never will.
type pendingKill struct {
	decided atomic.Bool
	done    chan struct{} // closed after it
}

// killedBefore waits for the kill or for done, and reports whether it was the kill.
// A call under way when done is seen still kills; a later one does not.
func killedBefore(t *testing.T, a *harness.Agent, k *pendingKill, done func(*v1.PodList) bool) bool {
	t.Helper()
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if isClosed(k.done) {
			return true
		}
		if list, err := a.Pods(); err == nil && done(list) {
			if !k.decided.Swap(true) {
				return false
			}
			<-k.done
			return true
		}
	}
	t.Fatalf("neither killed nor done\n%s", a.Explain())
	return false
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func ready(a *harness.Agent, list *v1.PodList, pod string) bool {
	for i := range list.Items {
		if list.Items[i].Name == a.Name(pod) {
			return harness.Ready(&list.Items[i])
		}
	}
	return false
}

func listed(a *harness.Agent, list *v1.PodList, pod string) bool {
	return slices.ContainsFunc(list.Items, func(p v1.Pod) bool { return p.Name == a.Name(pod) })
}

func TestAgentKilledDuringTerminationEndsItAfterwards(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	a.Write("slow.yaml", harness.Pod("slow", slowToStop(4), grace(120), harness.ReadyOnceTouched))
	a.WaitRunning("slow")
	a.Remove("slow.yaml")
	seen.Wait(1, "kill", "slow", "c", harness.Patience)
	a.Kill()
	a.Start()
	a.WaitGone("slow")
	if died := seen.Wait(1, "die", "slow", "c", harness.Patience)[0]; died.ExitCode != "0" {
		t.Errorf("the container ended with %s, want 0: its grace period holds over the restart", died.ExitCode)
	}
}

func TestManifestRemovedWhileNoAgentRanEndsThePod(t *testing.T) {
	a := start(t)
	keep := harness.Pod("keep", "")
	a.Write("keep.yaml", keep)
	a.Write("drop.yaml", harness.Pod("drop", ""))
	a.WaitRunning("keep")
	a.WaitRunning("drop")
	a.Kill()
	a.Remove("drop.yaml")
	a.Start()
	a.WaitGone("drop")
	a.CheckExactly(keep)
}

func TestContainerThatDiesWhileNoAgentRunsIsRestarted(t *testing.T) {
	a := start(t)
	a.Write("web.yaml", harness.Pod("web", ""))
	a.WaitRunning("web")
	a.Kill()
	running, err := a.Running("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), running["c"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	a.Start()
	p := a.WaitPod("web", "runs again", func(p *v1.Pod) bool { return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1 })
	if last := harness.Status(p, "c").LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("last state %+v, want 137", last)
	}
}

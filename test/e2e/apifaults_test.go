package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// through starts a node of the shared cluster that reaches the API server through a proxy.
func through(t *testing.T, cfg harness.AgentConfig) (*harness.Node, *harness.Proxy, string) {
	t.Helper()
	t.Parallel()
	c := harness.SharedCluster(t)
	proxy := harness.StartAPIProxy(t, c)
	n := harness.NewNodeThrough(t, c, proxy, cfg)
	n.Start()
	n.WaitReady()
	return n, proxy, n.Namespace()
}

func isWatch(c harness.Call) bool { return strings.Contains(c.Query, "watch=true") }

// TestFaultsOfTheAPIServer has the API server do everything that it should not, each for another
// node. What runs goes on, nobody asks in a hot loop, and once it is over, what has happened
// meanwhile comes to the API server.
func TestFaultsOfTheAPIServer(t *testing.T) {
	t.Parallel()
	all := harness.Path("", "")
	changes := func(c harness.Call) bool { return c.Changes() }
	plain := func(f harness.Fault) func(<-chan struct{}) harness.Fault {
		return func(<-chan struct{}) harness.Fault { return f }
	}
	for name, tt := range map[string]struct {
		match func(harness.Call) bool
		fault func(release <-chan struct{}) harness.Fault
		cut   bool // the watches that are open
	}{
		"it wants to be left alone":       {all, plain(harness.Busy(1)), true},
		"it fails":                        {all, plain(harness.Fail(http.StatusInternalServerError, "etcdserver: no leader")), true},
		"conflicts":                       {changes, plain(harness.Fail(http.StatusConflict, "the object has been modified")), false},
		"garbage":                         {all, plain(harness.Answer("{garbage")), true},
		"nothing":                         {all, plain(harness.Answer("")), true},
		"watches that are too old":        {isWatch, plain(harness.Fail(http.StatusGone, "too old resource version")), true},
		"watches that say so in an event": {isWatch, plain(harness.Answer(`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}` + "\n")), true},
		"watches that are garbage":        {isWatch, plain(harness.Answer("{garbage")), true},
		"watches that end at once":        {isWatch, plain(harness.CutBefore(func() {})), true},
		"watches that are silent":         {isWatch, harness.Silence, true},
		"answers that take longer than anybody waits": {all, harness.Hang, true},
		"answers that are lost":                       {harness.Path("POST PUT PATCH DELETE", ""), plain(harness.CutAfter(func() {})), false},
	} {
		t.Run(name, func(t *testing.T) {
			n, proxy, ns := through(t, harness.AgentConfig{Config: map[string]any{
				"nodeStatusUpdateFrequency": "4s", "crashLoopBackOff": map[string]any{"maxContainerRestartPeriod": "1s"},
			}})
			release := make(chan struct{})
			disturb(t, n, proxy, ns, func() (restore func()) {
				remove := proxy.On(tt.match, tt.fault(release))
				if tt.cut {
					proxy.CutEvents()
				}
				return func() {
					remove()
					close(release)
					proxy.CutEvents() // those that were silent have lost what was in between
				}
			})
		})
	}
}

// disturb runs pods on the node while something is wrong, and requires that they come through
// it, and that the API server is told afterwards.
func disturb(t *testing.T, n *harness.Node, proxy *harness.Proxy, ns string, begin func() (restore func())) {
	t.Helper()
	const long, most = 4 * time.Second, 100 // requests in that time; it is some 15 if all is well
	n.Create(ns, harness.Pod("steady", "sleep 100000", quick))
	n.Create(ns, harness.Pod("crashing", "sleep 1; exit 1", quick))
	steady := n.AwaitReady(ns, "steady")
	restarts := func(p *v1.Pod) int32 { return harness.Status(p, "c").RestartCount }
	n.Await(ns, "crashing", "has crashed", func(p *v1.Pod) bool { return restarts(p) > 0 })

	proxy.Forget()
	restore := begin()
	before := restarts(n.Await(ns, "crashing", "is there", func(*v1.Pod) bool { return true })) // what the API server knew when it began
	began := time.Now()
	harness.Never(t, "what runs is stopped", long, func() error {
		running, err := n.Running("steady")
		if err == nil && running["c"].ID != harness.ID(harness.Status(steady, "c").ContainerID) {
			err = fmt.Errorf("steady runs in %q, was %s", running["c"].ID, harness.Status(steady, "c").ContainerID)
		}
		return err
	}, n.Explain)
	calls, took := proxy.Calls(), time.Since(began)
	restore()
	if len(calls) > most*int(1+took/long) {
		count := map[string]int{}
		for _, c := range calls {
			count[c.String()]++
		}
		t.Errorf("%d requests in %v: %v", len(calls), took, count)
	}
	t.Logf("%d requests in %v", len(calls), took.Round(time.Millisecond))

	n.Await(ns, "crashing", "is told to have crashed again", func(p *v1.Pod) bool { return restarts(p) > before })
	n.Create(ns, harness.Pod("later", "", quick))
	n.AwaitReady(ns, "later")
	n.MustKubectl(ns, "delete", "pod", "later", "--wait=false")
	n.AwaitGone(ns, "later")
	if now := n.AwaitReady(ns, "steady"); restarts(now) != 0 {
		t.Errorf("steady was restarted %d times", restarts(now))
	}
	n.WaitReady()
	onePodEach(t, n, ns, "steady", "crashing")
}

// onePodEach waits until the API server has exactly these pods of the node, and the node no
// containers of others.
func onePodEach(t *testing.T, n *harness.Node, ns string, names ...string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("exactly the pods %v are there", names), harness.Patience, func() error {
		list, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		got := map[string]bool{}
		for _, p := range list.Items {
			got[p.Name] = true
		}
		own, err := n.Containers()
		if err != nil {
			return err
		}
		for _, c := range own {
			got[harness.ParseName(c).Pod] = true
		}
		for _, name := range names {
			if !got[name] {
				return fmt.Errorf("%s is missing in %v", name, got)
			}
		}
		if len(got) != len(names) {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	}, n.Explain)
}

// TestAgentKilledAfterEachCallOfTheAPIServerThatChangesSomething kills the agent right after
// the API server has done a call, and before the agent learns of it: the requests for
// certificates and the node, what a pod writes of itself until it is removed, and the mirror
// of a static pod.
func TestAgentKilledAfterEachCallOfTheAPIServerThatChangesSomething(t *testing.T) {
	t.Parallel()
	c := harness.SharedCluster(t)
	proxy := harness.StartAPIProxy(t, c)
	n := harness.NewNodeThrough(t, c, proxy, harness.AgentConfig{})
	// dies kills the agent at the n-th call that match accepts, once do has been called, and
	// starts another. It reports whether there was such a call before done.
	dies := func(what string, nth int64, match func(harness.Call) bool, do func(), done func() bool) bool {
		t.Helper()
		var count atomic.Int64
		var decided atomic.Bool
		var doing sync.Mutex
		killed := make(chan struct{})
		proxy.On(func(c harness.Call) bool {
			return c.Changes() && match(c) && count.Add(1) == nth && !decided.Swap(true)
		},
			harness.CutAfter(func() {
				doing.Lock()
				defer doing.Unlock()
				n.Kill()
				close(killed)
			}))
		defer proxy.Clear()
		doing.Lock()
		do()
		doing.Unlock()
		for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			select {
			case <-killed:
				t.Logf("killed after call %d of %s", nth, what)
				n.Start()
				return true
			default:
			}
			if done() && !decided.Swap(true) {
				return false
			}
		}
		t.Fatalf("%s: neither killed nor done\n%s", what, n.Explain())
		return false
	}
	never := func() bool { return false }

	dies("the certificate's request", 1, harness.Path("POST", "/certificatesigningrequests"), n.Launch, never)
	n.WaitReady()
	n.Kill()
	if err := c.Client.CoreV1().Nodes().Delete(t.Context(), n.Node(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	dies("the node", 1, harness.Path("POST", "/api/v1/nodes"), n.Launch, never)
	n.WaitReady()
	n.Kill()
	if err := c.Client.CoordinationV1().Leases(v1.NamespaceNodeLease).Delete(t.Context(), n.Node(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	dies("the lease", 1, harness.Path("POST", "/leases"), n.Launch, never)
	n.WaitReady()
	dies("the renewed lease", 1, harness.Path("PUT PATCH", "/leases"), func() {}, never)
	n.WaitReady()
	ns := n.Namespace()
	ofPods := func(c harness.Call) bool { return strings.Contains(c.Path, "/namespaces/"+ns+"/pods") }

	// A pod's start and end, call by call.
	kills := 0
	for nth, more := int64(1), true; more; nth++ {
		name := fmt.Sprintf("p%d", nth)
		more = dies("the pod's start", nth, ofPods, func() { n.Create(ns, harness.Pod(name, "", quick)) }, func() bool {
			p, err := c.Client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
			return err == nil && harness.Ready(p)
		})
		p := n.AwaitReady(ns, name)
		if r := harness.Status(p, "c").RestartCount; r != 0 {
			t.Errorf("%s has been restarted %d times", name, r)
		}
		if more {
			kills++
		}
		n.MustKubectl(ns, "delete", "pod", name, "--wait=false")
		n.AwaitGone(ns, name)
	}
	if kills < 1 {
		t.Error("the test did not see the calls of a start")
	}
	kills = 0
	for nth, more := int64(1), true; more; nth++ {
		name := fmt.Sprintf("q%d", nth)
		n.Create(ns, harness.Pod(name, "")) // with a grace period: the agent has to remove it
		n.AwaitReady(ns, name)
		more = dies("the pod's end", nth, ofPods, func() { n.MustKubectl(ns, "delete", "pod", name, "--wait=false") }, func() bool {
			_, err := c.Client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
			return err != nil
		})
		if more {
			kills++
		}
		n.AwaitGone(ns, name)
	}
	if kills < 1 { // the last status and DELETE, or DELETE alone
		t.Error("the test did not see the calls of an end")
	}

	// The mirror of a static pod is made, changed and removed.
	static := harness.Pod("s", "", quick)
	static.Namespace = ns
	dies("the mirror's creation", 1, harness.Path("POST", "/pods"), func() { n.Write("s.yaml", static) }, never)
	n.AwaitReady(ns, n.Name("s"))
	onePodEach(t, n, ns, n.Name("s"))
	dies("the old mirror's removal", 1, harness.Path("DELETE", "/pods/"), func() {
		changed := static.DeepCopy()
		changed.Labels = map[string]string{"changed": "yes"}
		n.Write("s.yaml", changed)
	}, never)
	n.Await(ns, n.Name("s"), "is the changed one", func(p *v1.Pod) bool { return p.Labels["changed"] == "yes" && harness.Ready(p) })
	onePodEach(t, n, ns, n.Name("s"))
	dies("the mirror's removal", 1, harness.Path("DELETE", "/pods/"), func() { n.Remove("s.yaml") }, never)
	n.AwaitGone(ns, n.Name("s"))
	onePodEach(t, n, ns)
	n.WaitReady()
}

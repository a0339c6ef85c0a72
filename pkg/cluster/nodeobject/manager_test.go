package nodeobject

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/testapi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// house is a Manager with an API server and everything else that it looks at.
type house struct {
	*Manager
	*Watch
	api *testapi.Server

	mu        sync.Mutex
	silent    error // the runtime's answer
	noNetwork bool
	problems  []string
	images    []*cri.Image
	listings  int
	events    []string
}

func (h *house) Status(context.Context) (*cri.StatusResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := readyRuntime()
	if h.noNetwork {
		r.Status.Conditions[1] = &cri.RuntimeCondition{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "none"}
	}
	return r, h.silent
}

func readyRuntime() *cri.StatusResponse {
	return &cri.StatusResponse{
		Status:          &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}}},
		RuntimeHandlers: []*cri.RuntimeHandler{{Name: ""}}, Features: &cri.RuntimeFeatures{},
	}
}

func (h *house) Images(context.Context) ([]*cri.Image, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listings++
	return h.images, nil
}

func (h *house) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *house) said(event string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.events, event)
}

// live runs a Manager until the test ends; it fails if a goroutine is left.
func live(t *testing.T, api *testapi.Server, change func(*Config)) *house {
	h := &house{api: api}
	cfg := Config{
		Name: "n1", Hostname: "n1", Watch: NewWatch(api.Client(t), "n1"), Heartbeat: api.Client(t), Runtime: h, Machine: testMachine,
		IPs: func() []string { return []string{"192.0.2.1"} }, Register: true, MaxImages: 50,
		Period: 10 * time.Second, Report: 5 * time.Minute, LeaseDuration: 40 * time.Second,
		Healthy: func() []string {
			h.mu.Lock()
			defer h.mu.Unlock()
			return slices.Clone(h.problems)
		},
		Event: func(_, reason, _ string) { h.set(func() { h.events = append(h.events, reason) }) },
	}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Manager, h.Watch = m, cfg.Watch
	testrun.Start(t, m.Run)
	return h
}

func (h *house) reports() int { return len(h.api.Requests(http.MethodPatch, "/nodes/n1/status")) }

func TestNodeRegistersAndRenewsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		h := live(t, api, func(c *Config) {
			c.Labels = map[string]string{"zone": "a"}
			c.Taints = []v1.Taint{{Key: "new", Effect: v1.TaintEffectNoSchedule}}
		})
		synctest.Wait()
		<-h.Synced()
		n := api.Node("n1")
		if n == nil || n.Labels["zone"] != "a" || n.Labels[v1.LabelHostname] != "n1" || len(n.Spec.Taints) != 1 || n.Annotations[attachAnnotation] != "true" {
			t.Fatalf("node = %+v", n)
		}
		if conditionOfType(n.Status, v1.NodeReady).Status != v1.ConditionTrue || !h.said("Starting") {
			t.Errorf("conditions = %v, events = %v", n.Status.Conditions, h.events)
		}
		if h.Node() == nil || h.Node().UID != n.UID {
			t.Errorf("Node() = %v", h.Node())
		}
		time.Sleep(2 * time.Minute)
		leases := api.Requests(http.MethodPut, "/namespaces/kube-node-lease/leases/n1")
		if len(leases) < 10 || len(leases) > 14 {
			t.Errorf("%d renewals in two minutes, want one each ten seconds", len(leases))
		}
		if made := api.Requests(http.MethodPost, "/leases"); len(made) != 1 || !strings.Contains(made[0].Body, `"leaseDurationSeconds":40`) || !strings.Contains(made[0].Body, string(n.UID)) {
			t.Errorf("lease = %v, want one of 40 s that the node owns", made)
		}
	})
}

func TestANetworkThatHasBecomeReadyIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		changed, metrics := make(chan struct{}, 1), prometheus.NewPedanticRegistry()
		h := live(t, api, func(c *Config) {
			c.Changed, c.Metrics = changed, metrics
			c.Booted, c.Started = time.Now().Add(-time.Minute), time.Now().Add(-20*time.Second)
			c.Runtime.(*house).noNetwork = true // from the beginning
		})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		ready := conditionOfType(api.Node("n1").Status, v1.NodeReady)
		if ready.Reason != "KubeletNotReady" || ready.Message != "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:none" {
			t.Errorf("%s: %s", ready.Reason, ready.Message)
		}
		h.set(func() { h.noNetwork = false })
		changed <- struct{}{}
		synctest.Wait()
		if ready := conditionOfType(api.Node("n1").Status, v1.NodeReady); ready.Status != v1.ConditionTrue {
			t.Errorf("%s: %s", ready.Reason, ready.Message)
		}
		if got, want := durations(t, metrics), "pre_kubelet 40, pre_registration 20, registration 0, post_registration 10, all 70"; got != want {
			t.Errorf("start of the node: %s, want %s", got, want)
		}
	})
}

func TestStatusIsSentOnChangeOrWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live(t, testapi.New(), nil)
		synctest.Wait()
		time.Sleep(4*time.Minute + 55*time.Second)
		if n := h.reports(); n != 0 {
			t.Fatalf("%d reports though nothing changed", n)
		}
		time.Sleep(10 * time.Second)
		if n := h.reports(); n != 1 {
			t.Fatalf("%d reports after the report period, want 1", n)
		}
		h.set(func() { h.problems = []string{"PLEG is not healthy"} })
		time.Sleep(10 * time.Second)
		if n := h.reports(); n != 2 || !h.said("NodeNotReady") {
			t.Fatalf("%d reports, events %v after a change, want one more and the event", n, h.events)
		}
		if c := conditionOfType(h.api.Node("n1").Status, v1.NodeReady); c.Status != v1.ConditionFalse || c.Message != "PLEG is not healthy" {
			t.Errorf("Ready = %+v", c)
		}
		time.Sleep(2 * time.Second)
		h.set(func() { h.problems = nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := h.reports(); n != 3 || !h.said("NodeReady") {
			t.Errorf("%d reports after the next period, want one more", n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := h.reports(); n != 3 {
			t.Errorf("%d reports after a period in which nothing changed, want none more", n)
		}
	})
}

func TestImagesAreListedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live(t, testapi.New(), nil)
		synctest.Wait()
		h.set(func() { h.images = []*cri.Image{{Id: "i", RepoTags: []string{"busybox:1"}, Size: 7}} })
		time.Sleep(5 * time.Minute)
		h.mu.Lock()
		listings := h.listings
		h.mu.Unlock()
		if listings < 5 || listings > 6 {
			t.Errorf("%d listings in five minutes", listings)
		}
		if got := h.api.Node("n1").Status.Images; len(got) != 1 || got[0].Names[0] != "busybox:1" {
			t.Errorf("images = %v", got)
		}
	})
}

func TestSilentRuntimeIsForgivenForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live(t, testapi.New(), nil)
		synctest.Wait()
		h.set(func() { h.silent = errors.New("no answer") })
		time.Sleep(25 * time.Second)
		if n := h.reports(); n != 0 {
			t.Fatalf("%d reports while the runtime was silent for less than %v", n, runtimePatience)
		}
		time.Sleep(10 * time.Second)
		n := h.api.Node("n1")
		if c := conditionOfType(n.Status, v1.NodeReady); c.Status != v1.ConditionFalse || c.Message != "container runtime is down" {
			t.Errorf("Ready = %+v", c)
		}
		if len(n.Status.RuntimeHandlers) != 1 || n.Status.Features == nil {
			t.Errorf("handlers %v, features %v: want what the runtime had said before", n.Status.RuntimeHandlers, n.Status.Features)
		}
		h.set(func() { h.silent = nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if c := conditionOfType(h.api.Node("n1").Status, v1.NodeReady); c.Status != v1.ConditionTrue {
			t.Errorf("Ready = %+v after the runtime came back", c)
		}
	})
}

func TestNodeThatWasRegisteredBeforeKeepsWhatOthersSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New(&v1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"team": "blue", v1.LabelHostname: "other"}},
			Spec:       v1.NodeSpec{Unschedulable: true, Taints: []v1.Taint{{Key: "maintenance", Effect: v1.TaintEffectNoExecute}}, PodCIDR: "10.1.0.0/24"},
			Status:     v1.NodeStatus{Capacity: resources("example.com/gpu", "2"), NodeInfo: v1.NodeSystemInfo{BootID: "before"}},
		})
		h := live(t, api, func(c *Config) {
			c.Labels = map[string]string{"team": "red"}
			c.Taints = []v1.Taint{{Key: "new", Effect: v1.TaintEffectNoSchedule}}
		})
		synctest.Wait()
		n := api.Node("n1")
		if !n.Spec.Unschedulable || len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != "maintenance" || n.Spec.PodCIDR != "10.1.0.0/24" {
			t.Errorf("spec = %+v, want it untouched", n.Spec)
		}
		if n.Labels["team"] != "blue" || n.Labels[v1.LabelHostname] != "n1" || n.Annotations[attachAnnotation] != "true" {
			t.Errorf("labels %v, annotations %v", n.Labels, n.Annotations)
		}
		if q := n.Status.Capacity["example.com/gpu"]; q.Value() != 2 || n.Status.Capacity.Cpu().Value() != 2 {
			t.Errorf("capacity = %v", n.Status.Capacity)
		}
		if !h.said("Rebooted") || !h.said("NodeNotSchedulable") || h.reports() != 1 {
			t.Errorf("events %v, %d reports; want Rebooted, NodeNotSchedulable and one", h.events, h.reports())
		}
		n.Spec.Unschedulable = false
		api.Put(n)
		time.Sleep(21 * time.Second)
		h.set(func() {
			if got := len(h.events); got == 0 || h.events[got-1] != "NodeSchedulable" {
				t.Errorf("events %v; want NodeSchedulable as the last", h.events)
			}
		})
	})
}

func TestReconcile(t *testing.T) {
	wanted := &v1.Node{ObjectMeta: metav1.ObjectMeta{Labels: DefaultLabels("n1", testMachine().Info, nil), Annotations: map[string]string{attachAnnotation: "true"}}}
	had := wanted.DeepCopy()
	had.Labels["team"], had.Annotations["example.com/a"] = "blue", "b"
	if patch, err := reconcile(had, wanted); patch != nil || err != nil {
		t.Errorf("of a node that is up to date: %s, %v; want no patch", patch, err)
	}
	for name, have := range map[string]*v1.Node{
		"bare":          {},
		"another name":  {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1.LabelHostname: "x", "team": "blue"}}},
		"no annotation": {ObjectMeta: metav1.ObjectMeta{Labels: had.Labels}},
	} {
		before := have.DeepCopy()
		patch, err := reconcile(have, wanted)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]map[string]map[string]any
		if err := json.Unmarshal(patch, &got); err != nil {
			t.Fatalf("%s: patch %s: %v", name, patch, err)
		}
		if len(got) != 1 || got["metadata"]["annotations"][attachAnnotation] != "true" {
			t.Errorf("%s: patch = %s, want metadata only, with the annotation", name, patch)
		}
		if _, touched := got["metadata"]["labels"]["team"]; touched {
			t.Errorf("%s: patch = %s, want the foreign label left alone", name, patch)
		}
		if len(have.Labels) != len(before.Labels) {
			t.Errorf("%s: the node was modified", name)
		}
	}
}

func TestLabelsOfAPlaceAreBroughtUpToDate(t *testing.T) {
	wanted := &v1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1.LabelTopologyZone: "b", v1.LabelInstanceTypeStable: "large", v1.LabelTopologyRegion: ""}}}
	have := &v1.Node{ObjectMeta: metav1.ObjectMeta{
		Labels:      map[string]string{v1.LabelTopologyZone: "a", v1.LabelTopologyRegion: "r", "team": "blue", v1.LabelFailureDomainBetaZone: "a"},
		Annotations: map[string]string{providedIPAnnotation: "192.0.2.1"},
	}}
	patch, err := reconcile(have, wanted)
	want := `{"metadata":{"annotations":null,"labels":{"node.kubernetes.io/instance-type":"large","topology.kubernetes.io/region":null,"topology.kubernetes.io/zone":"b"}}}`
	if err != nil || string(patch) != want {
		t.Errorf("%s, %v; want %s", patch, err, want)
	}
}

func TestACloudControllerSetsTheAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		live(t, api, func(c *Config) {
			c.ExternalCloud, c.NodeIPSet, c.GivenIPs = true, true, []string{"192.0.2.9"}
			c.IPs = func() []string { return c.GivenIPs }
		})
		time.Sleep(time.Second)
		n := api.Node("n1")
		if len(n.Spec.Taints) != 1 || n.Spec.Taints[0] != uninitialized || n.Annotations[providedIPAnnotation] != "192.0.2.9" {
			t.Errorf("taints %v, annotations %v", n.Spec.Taints, n.Annotations)
		}
		if want := Addresses([]string{"192.0.2.9"}, "n1"); !slices.Equal(n.Status.Addresses, want) {
			t.Errorf("addresses %v before the cloud has set any, want %v", n.Status.Addresses, want)
		}
		of := []v1.NodeAddress{{Type: v1.NodeExternalIP, Address: "198.51.100.1"}, {Type: v1.NodeInternalIP, Address: "10.0.0.1"}}
		n = n.DeepCopy()
		n.Status.Addresses = of
		api.Put(n)
		time.Sleep(time.Minute)
		if n := api.Node("n1"); !slices.Equal(n.Status.Addresses, of) {
			t.Errorf("addresses %v, want those of the cloud", n.Status.Addresses)
		}
		if got := HostIPs(api.Node("n1")); !slices.Equal(got, []string{"10.0.0.1"}) {
			t.Errorf("pods' host has %v", got)
		}
	})
}

func TestRegistrationIsTriedUntilItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		begun := time.Now()
		api.Before = func(r *http.Request) *metav1.Status {
			if time.Since(begun) < time.Minute && r.Method != http.MethodGet {
				return testapi.Failure(http.StatusServiceUnavailable, "starting")
			}
			return nil
		}
		live(t, api, nil)
		time.Sleep(59 * time.Second)
		if n := len(api.Requests(http.MethodPost, "/nodes")); n < 7 || n > 40 {
			t.Errorf("%d attempts in a minute", n)
		}
		time.Sleep(20 * time.Second)
		if api.Node("n1") == nil {
			t.Error("the node is not registered though the API server works again")
		}
	})
}

// The API server may have made the node and be too slow to say so: its events are told all the same.
func TestARegistrationWhoseAnswerIsLostIsTold(t *testing.T) {
	for name, before := range map[string]bool{"made": false, "of an earlier agent": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := testapi.New()
				api.Before = func(r *http.Request) *metav1.Status {
					if r.Method != http.MethodPost || api.Node("n1") != nil || !strings.HasSuffix(r.URL.Path, "/nodes") {
						return nil
					}
					made := metav1.Now()
					if before {
						made = metav1.NewTime(made.Add(-time.Hour))
					}
					api.Put(&v1.Node{
						ObjectMeta: metav1.ObjectMeta{Name: "n1", CreationTimestamp: made},
						Status:     v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}}},
					})
					return testapi.Failure(http.StatusGatewayTimeout, "too slow")
				}
				h := live(t, api, nil)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if h.said("NodeReady") == before {
					t.Errorf("events %v", h.events)
				}
			})
		})
	}
}

func TestNodeThatMayNotRegisterItselfUsesWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		h := live(t, api, func(c *Config) { c.Register = false })
		time.Sleep(time.Minute)
		if n := len(api.Requests(http.MethodPost, "/nodes")); n != 0 || h.Node() != nil {
			t.Fatalf("%d attempts to register", n)
		}
		select {
		case <-h.Synced():
			t.Fatal("synced without a node object")
		default:
		}
		api.Put(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if conditionOfType(api.Node("n1").Status, v1.NodeReady).Status != v1.ConditionTrue || h.Node() == nil {
			t.Errorf("status = %+v", api.Node("n1").Status)
		}
	})
}

func TestReportOverwritesWhatTheControllerSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live(t, testapi.New(), nil)
		synctest.Wait()
		n := h.api.Node("n1")
		for i := range n.Status.Conditions {
			n.Status.Conditions[i].Status = v1.ConditionUnknown // set by the node controller after an outage
		}
		h.api.Put(n)
		time.Sleep(11 * time.Second)
		if c := conditionOfType(h.api.Node("n1").Status, v1.NodeReady); c.Status != v1.ConditionTrue {
			t.Errorf("Ready = %+v, want the node's own word within one period", c)
		}
	})
}

func TestRuntimeProblems(t *testing.T) {
	conditions := func(c ...*cri.RuntimeCondition) *cri.StatusResponse {
		return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: c}}
	}
	ready := &cri.RuntimeCondition{Type: "RuntimeReady", Status: true}
	network := &cri.RuntimeCondition{Type: "NetworkReady", Status: true}
	tests := []struct {
		name   string
		r      *cri.StatusResponse
		err    error
		silent time.Duration
		want   []string
	}{
		{"ready", conditions(ready, network), nil, 0, nil},
		{"silent for a moment", nil, errors.New("x"), runtimePatience - 1, nil},
		{"silent", nil, errors.New("x"), runtimePatience, []string{"container runtime is down"}},
		{"no network", conditions(ready, &cri.RuntimeCondition{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "cni config uninitialized"}), nil, 0,
			[]string{"container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni config uninitialized"}},
		{"not ready", conditions(&cri.RuntimeCondition{Type: "RuntimeReady", Reason: "DockerDaemonNotReady", Message: "docker: no"}, network), nil, 0,
			[]string{"container runtime not ready: RuntimeReady=false reason:DockerDaemonNotReady message:docker: no"}},
		{"says nothing", conditions(), nil, 0,
			[]string{"container runtime status check may not have completed yet", "container runtime network not ready: network condition missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := runtimeProblems(tt.r, tt.err, tt.silent); !slices.Equal(got, tt.want) {
				t.Errorf("runtimeProblems() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOlder(t *testing.T) {
	of := func(uid, version string) *v1.Node {
		n := &v1.Node{}
		n.UID, n.ResourceVersion = "1", version
		if uid != "" {
			n.UID = "2"
		}
		return n
	}
	tests := []struct {
		name string
		a, b *v1.Node
		want bool
	}{
		{"older", of("", "9"), of("", "10"), true}, {"same", of("", "9"), of("", "9"), false}, {"newer", of("", "10"), of("", "9"), false},
		{"another node", of("2", "1"), of("", "9"), false}, {"cannot be compared", of("", "x"), of("", "9"), false},
	}
	for _, tt := range tests {
		if got := older(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: older() = %v", tt.name, got)
		}
	}
}

func TestRunEndsAtOnceWhileTheAPIServerIsAway(t *testing.T) {
	// client-go's handler sleeps according to the time of its last error, which is
	// outside of the bubble: for decades.
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil
	defer func() { utilruntime.ErrorHandlers = handlers }()
	for name, registered := range map[string]bool{"before it is registered": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := testapi.New()
				var down atomic.Bool
				down.Store(!registered)
				api.Before = func(*http.Request) *metav1.Status {
					if down.Load() {
						return testapi.Failure(http.StatusServiceUnavailable, "down")
					}
					return nil
				}
				var begun time.Time
				t.Cleanup(func() { // after live's
					if took := time.Since(begun); took != 0 {
						t.Errorf("the end took %v", took)
					}
				})
				live(t, api, nil)
				synctest.Wait()
				down.Store(true)
				api.CutWatches()
				time.Sleep(10*time.Minute + 123*time.Millisecond)
				begun = time.Now()
			})
		})
	}
}

func TestDeletedNodeIsNotMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := testapi.New()
		h := live(t, api, nil)
		synctest.Wait()
		first := api.Node("n1")
		api.Drop(first)
		synctest.Wait()
		if h.Node() != nil {
			t.Errorf("Node() = %v after its deletion", h.Node())
		}
		before := h.reports()
		h.set(func() { h.problems = []string{"news"} })
		time.Sleep(time.Minute)
		if api.Node("n1") != nil || h.reports() != before {
			t.Errorf("node = %v, %d reports of one that was deleted", api.Node("n1"), h.reports()-before)
		}
		api.Put(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		time.Sleep(11 * time.Second)
		n := api.Node("n1")
		if h.Node() == nil || h.Node().UID != n.UID || n.UID == first.UID || conditionOfType(n.Status, v1.NodeReady).Status == "" {
			t.Errorf("a node that another made: %+v", n)
		}
	})
}

func TestANodeIsReportedOnceItIsKnownWhatKeepsItFromBeingReady(t *testing.T) {
	for name, tc := range map[string]struct {
		settle time.Duration // when it is known
		first  time.Duration // when the first status is sent, at the latest
	}{
		"soon": {time.Second, time.Second}, "the API server does not answer": {time.Hour, settlePatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, settled := testapi.New(), make(chan struct{})
				api.Put(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: Status(Input{Machine: testMachine(), Now: time.Now()})})
				h := live(t, api, func(c *Config) { c.Settled = settled })
				h.set(func() { h.problems = []string{"not yet"} })
				time.Sleep(tc.first - time.Millisecond)
				synctest.Wait()
				if n := h.reports(); n != 0 {
					t.Errorf("%d statuses before it is known", n)
				}
				if tc.settle == tc.first {
					h.set(func() { h.problems = nil })
					close(settled)
				}
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
				ready := conditionOfType(api.Node("n1").Status, v1.NodeReady).Status
				if want := tc.settle == tc.first; (ready == v1.ConditionTrue) != want || h.reports() != 1 {
					t.Errorf("ready: %v, after %d statuses", ready, h.reports())
				}
			})
		})
	}
}

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestNodeObject(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{
		Args: []string{"--node-labels", "example.com/a=b,node.kubernetes.io/c=d", "--register-with-taints", "example.com/t=v:NoSchedule"},
		Config: map[string]any{
			"systemReserved": map[string]string{"cpu": "100m", "memory": "100Mi"}, "nodeLeaseDurationSeconds": 4, "providerID": "test://x",
		},
	})
	node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"example.com/a": "b", "node.kubernetes.io/c": "d", v1.LabelHostname: n.Node(), v1.LabelOSStable: "linux", v1.LabelArchStable: "amd64"} {
		if node.Labels[k] != v {
			t.Errorf("label %s=%q, want %q", k, node.Labels[k], v)
		}
	}
	tainted := false
	for _, taint := range node.Spec.Taints {
		tainted = tainted || taint.Key == "example.com/t" && taint.Value == "v" && taint.Effect == v1.TaintEffectNoSchedule
	}
	if !tainted || node.Spec.ProviderID != "test://x" {
		t.Errorf("spec: %+v", node.Spec)
	}
	s := node.Status
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourcePods, v1.ResourceEphemeralStorage} {
		have, may := s.Capacity[name], s.Allocatable[name]
		if have.IsZero() || may.Cmp(have) > 0 {
			t.Errorf("%s: capacity %s, allocatable %s", name, have.String(), may.String())
		}
	}
	if d := s.Capacity.Cpu().MilliValue() - s.Allocatable.Cpu().MilliValue(); d != 100 {
		t.Errorf("%d millicores are kept, want the 100 of systemReserved", d)
	}
	if s.NodeInfo.KubeletVersion != "v1.37.2" || s.NodeInfo.BootID == "" || s.NodeInfo.KernelVersion == "" || s.NodeInfo.OSImage == "" {
		t.Errorf("nodeInfo: %+v", s.NodeInfo)
	}
	if s.DaemonEndpoints.KubeletEndpoint.Port != int32(n.Port) || len(s.Images) == 0 || len(s.Addresses) < 2 {
		t.Errorf("endpoint %+v, %d images, addresses %v", s.DaemonEndpoints, len(s.Images), s.Addresses)
	}
	reasons := map[v1.NodeConditionType]string{
		v1.NodeReady: "KubeletReady", v1.NodeMemoryPressure: "KubeletHasSufficientMemory", v1.NodeDiskPressure: "KubeletHasNoDiskPressure", v1.NodePIDPressure: "KubeletHasSufficientPID",
	}
	for _, c := range s.Conditions {
		if want, ours := reasons[c.Type]; ours && c.Reason != want {
			t.Errorf("%s: %s %s, want %s", c.Type, c.Status, c.Reason, want)
		}
		delete(reasons, c.Type)
	}
	if len(reasons) > 0 {
		t.Errorf("conditions missing: %v", reasons)
	}

	leases := n.Cluster.Client.CoordinationV1().Leases(v1.NamespaceNodeLease)
	var first time.Time
	harness.Eventually(t, "the lease is renewed", harness.Patience, func() error {
		l, err := leases.Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if first.IsZero() {
			first = l.Spec.RenewTime.Time
		}
		if *l.Spec.LeaseDurationSeconds != 4 || len(l.OwnerReferences) != 1 || !l.Spec.RenewTime.After(first) {
			return fmt.Errorf("lease %+v", l.Spec)
		}
		return nil
	}, n.Explain)
	now, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Other tests change what the machine has meanwhile: huge pages, images.
	if before, after := withoutHeartbeat(s), withoutHeartbeat(now.Status); equality.Semantic.DeepEqual(before, after) && !equality.Semantic.DeepEqual(s, now.Status) {
		t.Errorf("the node's status was written though nothing had changed: %v, %v", s.Conditions, now.Status.Conditions)
	}
}

// withoutHeartbeat is the status without the times at which it was sent.
func withoutHeartbeat(s v1.NodeStatus) *v1.NodeStatus {
	out := s.DeepCopy()
	for i := range out.Conditions {
		out.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return out
}

func TestTheNodeTellsWhatItHasBecome(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{"nodeStatusUpdateFrequency": "1s"}})
	told := func(reason string) {
		t.Helper()
		harness.Eventually(t, "the node tells "+reason, harness.Patience, func() error {
			if out := n.MustKubectl("default", "get", "events", "--field-selector", "involvedObject.kind=Node,involvedObject.name="+n.Node()); !strings.Contains(out, reason+" ") {
				return errors.New(out)
			}
			return nil
		}, n.Explain)
	}
	for _, reason := range []string{"Starting", "NodeReady", "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeAllocatableEnforced"} {
		told(reason)
	}
	n.MustKubectl("", "cordon", n.Node())
	told("NodeNotSchedulable")
	n.MustKubectl("", "uncordon", n.Node())
	told("NodeSchedulable")
}

func TestNodeIsNotReadyWithoutItsRuntime(t *testing.T) {
	t.Parallel()
	docker := harness.StartDockerd(t, harness.DockerdConfig{})
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Docker: docker, Config: map[string]any{"nodeStatusUpdateFrequency": "1s"}})
	docker.Kill()
	harness.Eventually(t, "the node is not Ready", 2*harness.Patience, func() error { return nodeSays(t, n, v1.ConditionFalse, "") }, n.Explain)
	if err := docker.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the node is Ready again", harness.Patience, func() error { return nodeSays(t, n, v1.ConditionTrue, "") }, n.Explain)
}

// nodeSays returns nil if the node's condition Ready is that, with a message that has the text.
func nodeSays(t *testing.T, n *harness.Node, want v1.ConditionStatus, text string) error {
	node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1.NodeReady && (c.Status != want || !strings.Contains(c.Message, text)) {
			return fmt.Errorf("Ready is %s: %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return nil
}

// TestPodsThatFollowALabelAtOnceAreAdmitted labels the node and binds a pod that needs the label in
// the same moment: the watch of pods is ahead of the node's at times.
func TestPodsThatFollowALabelAtOnceAreAdmitted(t *testing.T) {
	n, ns := join(t)
	for i := range 20 {
		label := fmt.Sprintf("example.com/l%d", i)
		if _, err := n.Cluster.Client.CoreV1().Nodes().Patch(t.Context(), n.Node(), types.MergePatchType,
			fmt.Appendf(nil, `{"metadata":{"labels":{%q:"yes"}}}`, label), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		n.Create(ns, harness.Pod(fmt.Sprintf("p%d", i), "exit 0", func(p *v1.Pod) {
			p.Spec.NodeSelector, p.Spec.RestartPolicy = map[string]string{label: "yes"}, v1.RestartPolicyNever
		}))
	}
	n.Create(ns, harness.Pod("never", "", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"example.com/none": "yes"} }))
	for i := range 20 {
		n.Await(ns, fmt.Sprintf("p%d", i), "has run", func(p *v1.Pod) bool {
			if p.Status.Reason == "NodeAffinity" {
				t.Fatalf("%s was rejected: %s", p.Name, p.Status.Message)
			}
			return p.Status.Phase == v1.PodSucceeded
		})
	}
	n.Await(ns, "never", "is rejected", func(p *v1.Pod) bool { return p.Status.Reason == "NodeAffinity" })
}

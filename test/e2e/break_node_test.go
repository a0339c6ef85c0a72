package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestNodeObjectIsDeleted takes the node object away under a running agent. Like the
// kubelet, the agent does not create it again, says so, and leaves no lease behind; a
// restarted agent registers.
func TestNodeObjectIsDeleted(t *testing.T) {
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{Config: map[string]any{
		"nodeLeaseDurationSeconds": 4, "nodeStatusUpdateFrequency": "1s",
	}})
	ns := n.Namespace()
	n.Create(ns, harness.Pod("p", "", quick))
	n.AwaitReady(ns, "p")
	nodes := n.Cluster.Client.CoreV1().Nodes()
	leases := n.Cluster.Client.CoordinationV1().Leases(v1.NamespaceNodeLease)
	if err := nodes.Delete(t.Context(), n.Node(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the log says that the node is gone", harness.Patience, func() error {
		if log := n.Log(); !strings.Contains(log, "The node object was deleted") {
			return errors.New("not yet")
		}
		return nil
	}, n.Explain)
	harness.Eventually(t, "the lease goes with its node", harness.Patience, func() error {
		if _, err := leases.Get(t.Context(), n.Node(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("lease: %v", err)
		}
		return nil
	})
	harness.Never(t, "nothing is made for a node that was deleted", 5*time.Second, func() error {
		_, err := leases.Get(t.Context(), n.Node(), metav1.GetOptions{})
		_, nodeErr := nodes.Get(t.Context(), n.Node(), metav1.GetOptions{})
		if !apierrors.IsNotFound(err) || !apierrors.IsNotFound(nodeErr) {
			return fmt.Errorf("lease: %v, node: %v", err, nodeErr)
		}
		return nil
	}, n.Explain)
	n.Kill()
	n.Start()
	n.WaitReady()
	n.Create(ns, harness.Pod("q", "", quick))
	n.AwaitReady(ns, "q")

	// Somebody else may create it again: then it comes back to life.
	if err := nodes.Delete(t.Context(), n.Node(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	made, err := nodes.Create(t.Context(), &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Node(), Labels: map[string]string{"made": "by-hand"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.WaitReady()
	harness.Eventually(t, "the lease is the new node's", harness.Patience, func() error {
		l, err := leases.Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(l.OwnerReferences) != 1 || l.OwnerReferences[0].UID != made.UID {
			return fmt.Errorf("it is owned by %v, want %s", l.OwnerReferences, made.UID)
		}
		return nil
	}, n.Explain)
}

// TestNodeObjectOfAnother starts an agent that finds a node object with its name
// that others have marked.
func TestNodeObjectOfAnother(t *testing.T) {
	t.Parallel()
	n := harness.NewNode(t, harness.SharedCluster(t), harness.AgentConfig{})
	nodes := n.Cluster.Client.CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Node(), Labels: map[string]string{"foreign": "label", v1.LabelHostname: "wrong"}, Annotations: map[string]string{"foreign": "note"}},
		Spec:       v1.NodeSpec{Unschedulable: true, Taints: []v1.Taint{{Key: "foreign", Effect: v1.TaintEffectNoExecute}}, PodCIDR: "10.244.77.0/24", PodCIDRs: []string{"10.244.77.0/24"}},
		Status:     v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: "Foreign", Status: v1.ConditionTrue}}, Capacity: v1.ResourceList{"example.com/gpu": quantity("2")}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.WaitReady()
	node, err := nodes.Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if node.Labels["foreign"] != "label" || node.Labels[v1.LabelHostname] != n.Node() || node.Annotations["foreign"] != "note" {
		t.Errorf("labels %v, annotations %v", node.Labels, node.Annotations)
	}
	tainted := false
	for _, taint := range node.Spec.Taints {
		tainted = tainted || taint.Key == "foreign"
	}
	if !tainted || !node.Spec.Unschedulable || node.Spec.PodCIDR != "10.244.77.0/24" {
		t.Errorf("spec: %+v", node.Spec)
	}
	foreign := false
	for _, c := range node.Status.Conditions {
		foreign = foreign || c.Type == "Foreign" && c.Status == v1.ConditionTrue
	}
	if !foreign {
		t.Errorf("conditions: %v", node.Status.Conditions)
	}
	// A pod that does not tolerate the taint is turned away with the kubelet's reason.
	ns := n.Namespace()
	n.Create(ns, harness.Pod("p", "", quick))
	harness.Eventually(t, "a pod that does not tolerate the taint does not run", harness.Patience, func() error {
		p, err := n.Cluster.Client.CoreV1().Pods(ns).Get(t.Context(), "p", metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && (p.DeletionTimestamp != nil || p.Status.Phase == v1.PodFailed) {
			return nil
		}
		return fmt.Errorf("%v: %v", p.Status.Phase, err)
	}, n.Explain)
}

// Package e2e runs mini-kubelet as a node of a real control plane: upstream's
// kube-apiserver, controllers, scheduler, kubeadm and kubectl, with real Docker. A
// test has an agent and a namespace of its own; most share one control plane.
package e2e

import (
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m.Run)) }

// join starts a node of the shared cluster for a parallel test, with a namespace.
func join(t *testing.T) (*harness.Node, string) {
	t.Helper()
	t.Parallel()
	n := harness.StartNode(t, harness.SharedCluster(t), harness.AgentConfig{})
	return n, n.Namespace()
}

// quick is a change for harness.Pod: the pod stops at once.
func quick(p *v1.Pod) {
	zero := int64(0)
	p.Spec.TerminationGracePeriodSeconds = &zero
}

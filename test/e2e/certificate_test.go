package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestCertificatesAreRenewed lets certificates live so shortly that several are
// used up while the test looks.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, controlplane.Config{
		// They are renewed when a tenth to three tenths of that are left, in which the control plane has to
		// sign the next one, on a busy machine, too.
		SigningDuration: 100 * time.Second,
	})
	n := harness.StartNode(t, c, harness.AgentConfig{})
	ns := n.Namespace()
	n.Create(ns, harness.Pod("p", "sleep 1000", quick))
	n.AwaitReady(ns, "p")
	serials := map[string]bool{}
	pid := n.PID()
	note := func() {
		text, err := os.ReadFile(n.ClientPair())
		if err != nil {
			return
		}
		certs, err := certutil.ParseCertsPEM(text)
		if err == nil && len(certs) > 0 {
			serials[certs[0].SerialNumber.String()] = true
		}
	}
	begin := time.Now()
	harness.Eventually(t, "three certificates were used one after another", 4*harness.Patience, func() error {
		note()
		if len(serials) < 3 {
			return fmt.Errorf("%d so far, after %v", len(serials), time.Since(begin).Round(time.Second))
		}
		return nil
	}, n.Explain)
	// The first has expired by now; the node works as before, in the same process.
	n.Create(ns, harness.Pod("q", "sleep 1000", quick))
	n.AwaitReady(ns, "q")
	if n.PID() != pid {
		t.Error("the agent was restarted")
	}
	node, err := c.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type == v1.NodeReady && (cond.Status != v1.ConditionTrue || cond.LastTransitionTime.After(begin.Add(time.Second))) {
			t.Errorf("the node was not Ready all the time: %+v", cond)
		}
	}
	// A dropped watch is started again, and that is logged.
	if log := n.Log(); strings.Count(log, `"Warning: event bookmark expired"`) > 0 || strings.Contains(log, "Unauthorized") {
		t.Errorf("a request was refused on the way:\n%s", n.Explain())
	}
}

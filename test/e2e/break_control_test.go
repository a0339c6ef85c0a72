package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

const nodesAudit = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  userGroups: ["system:nodes"]
- level: None
`

// auditLine is what is read of a line of the API server's audit log.
type auditLine struct {
	Verb                     string
	ObjectRef                struct{ Resource, Subresource, Name string }
	ResponseStatus           struct{ Code int }
	RequestReceivedTimestamp time.Time
}

// TestControlPlaneStallsAndRestarts stops the API server in mid-flight, and then
// restarts it again and again. Nothing that runs is touched, the node stays Ready, the
// agent rests meanwhile, and afterwards writes what is new and no more.
func TestControlPlaneStallsAndRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, audit := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(nodesAudit), 0o600); err != nil {
		t.Fatal(err)
	}
	c := harness.StartCluster(t, controlplane.Config{APIServerArgs: []string{
		"--audit-policy-file=" + policy, "--audit-log-path=" + audit, "--audit-log-mode=blocking",
	}, ControllerManagerArgs: []string{patientWithNodes}})
	n := harness.StartNode(t, c, harness.AgentConfig{})
	ns := n.Namespace()
	before := map[string]*v1.Pod{}
	for i := range 5 {
		n.Create(ns, harness.Pod(fmt.Sprintf("steady-%d", i), "", quick))
	}
	for i := range 5 {
		name := fmt.Sprintf("steady-%d", i)
		before[name] = n.AwaitReady(ns, name)
	}
	nodeBefore := nodeReady(t, n)
	pid := c.APIServerPID()
	if pid == 0 {
		t.Fatal("no API server runs")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	n.Write("s.yaml", harness.Pod("s", "", quick)) // something to say meanwhile
	n.WaitRunning("s")
	used, err := harness.Millicores(n.PID(), 18*time.Second)
	if contErr := syscall.Kill(pid, syscall.SIGCONT); err != nil || contErr != nil {
		t.Fatal(err, contErr)
	}
	t.Logf("%.1f millicores while the API server was stalled", used)
	if used > 200 {
		t.Errorf("the agent used %.0f millicores while the API server was stalled", used)
	}
	n.AwaitReady("default", n.Name("s"))
	leaseIsRenewed(t, n)

	for range 2 {
		if err := c.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	leaseIsRenewed(t, n)
	n.Create(ns, harness.Pod("new", "", quick))
	n.AwaitReady(ns, "new")
	for name, was := range before {
		now := n.AwaitReady(ns, name)
		if a, b := harness.Status(was, "c"), harness.Status(now, "c"); a.ContainerID != b.ContainerID || b.RestartCount != 0 {
			t.Errorf("%s was restarted", name)
		}
		if podCondition(was, v1.PodReady) != podCondition(now, v1.PodReady) {
			t.Errorf("%s: condition Ready was %v, is %v", name, podCondition(was, v1.PodReady), podCondition(now, v1.PodReady))
		}
	}
	if now := nodeReady(t, n); !now.LastTransitionTime.Equal(&nodeBefore.LastTransitionTime) {
		t.Errorf("the node was not Ready meanwhile: %+v", now)
	}
	events, err := c.Client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int32{}
	for _, e := range events.Items {
		if e.Source.Component == "kubelet" {
			times[e.InvolvedObject.Name+" "+e.Reason] += max(1, e.Count)
		}
	}
	for what, many := range times {
		if many > 1 {
			t.Errorf("%d events %q", many, what)
		}
	}

	// When all is told, an idle node says that it is alive and nothing else. Watches that
	// the restarts have cut are begun anew after a back-off of up to a minute, with a list.
	const quiet = 37 * time.Second
	harness.Eventually(t, "the node is quiet", 3*time.Minute, func() error {
		from := time.Now().Add(-quiet)
		idle, renewed := map[string]int{}, 0
		for _, l := range readAudit(t, audit) {
			switch what := l.Verb + " " + l.ObjectRef.Resource + "/" + l.ObjectRef.Subresource; {
			case l.RequestReceivedTimestamp.Before(from), l.Verb == "watch": // written when it ends
			case what == "update leases/":
				renewed++
			default:
				idle[what]++
			}
		}
		if len(idle) > 0 || renewed > 5 {
			return fmt.Errorf("in %v of idleness the lease was renewed %d times, and there was %v", quiet, renewed, idle)
		}
		return nil
	}, n.Explain)

	// Watches of what pods refer to end with them.
	if err := c.Client.CoreV1().Pods(ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	for name := range before {
		n.AwaitGone(ns, name)
	}
	n.AwaitGone(ns, "new")
	harness.Eventually(t, "the watch of the namespace's ConfigMap has ended", harness.Patience, func() error {
		var began, ended int
		for _, l := range readAudit(t, audit) {
			// A watch is written when it ends.
			if l.Verb == "watch" && l.ObjectRef.Resource == "configmaps" && l.ObjectRef.Name == "kube-root-ca.crt" {
				ended++
			}
			if (l.Verb == "list" || l.Verb == "get") && l.ObjectRef.Resource == "configmaps" {
				began++
			}
		}
		if ended == 0 || strings.Count(n.Log(), "Starting reflector") == 0 {
			return fmt.Errorf("%d lists, %d watches ended", began, ended)
		}
		if started, stopped := strings.Count(n.Log(), `"Starting reflector" type="*v1.ConfigMap"`), strings.Count(n.Log(), `"Stopping reflector" type="*v1.ConfigMap"`); started != stopped {
			return fmt.Errorf("%d reflectors of ConfigMaps were started, %d stopped", started, stopped)
		}
		return nil
	}, n.Explain)
}

func readAudit(t *testing.T, path string) []auditLine {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []auditLine
	for _, line := range strings.Split(string(text), "\n") {
		var l auditLine
		if json.Unmarshal([]byte(line), &l) == nil { // the last may be half written
			lines = append(lines, l)
		}
	}
	return lines
}

func nodeReady(t *testing.T, n *harness.Node) v1.NodeCondition {
	t.Helper()
	node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1.NodeReady && c.Status == v1.ConditionTrue {
			return c
		}
	}
	t.Errorf("the node is not Ready: %v", node.Status.Conditions)
	return v1.NodeCondition{}
}

// leaseIsRenewed waits for the lease to be renewed from now on.
func leaseIsRenewed(t *testing.T, n *harness.Node) {
	t.Helper()
	now := time.Now()
	harness.Eventually(t, "the lease is renewed", harness.Patience, func() error {
		l, err := n.Cluster.Client.CoordinationV1().Leases(v1.NamespaceNodeLease).Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if l.Spec.RenewTime.Before(&metav1.MicroTime{Time: now}) {
			return errors.New("not yet")
		}
		return nil
	}, n.Explain)
}

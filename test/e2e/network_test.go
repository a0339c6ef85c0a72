package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

const networkNotReady = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:"

// awaitReady waits until the node's Ready condition has this status, and its message begins with these words.
func awaitReady(t *testing.T, n *harness.Node, want v1.ConditionStatus, words string) {
	t.Helper()
	harness.Eventually(t, "the node's Ready is "+string(want), harness.Patience, func() error {
		node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == v1.NodeReady && c.Status == want && strings.HasPrefix(c.Message, words) {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", node.Status.Conditions)
	}, n.Explain)
}

// waitsForNetwork waits until the pod's event says so, and fails if anything of it has been made.
func waitsForNetwork(t *testing.T, n *harness.Node, ns, pod string) {
	t.Helper()
	harness.Eventually(t, pod+" waits for the network", harness.Patience, func() error {
		events, err := n.Cluster.Client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod + ",reason=NetworkNotReady"})
		if err != nil {
			return err
		}
		if len(events.Items) == 0 || !strings.HasPrefix(events.Items[0].Message, "network is not ready: "+networkNotReady) {
			return fmt.Errorf("events %v", events.Items)
		}
		return nil
	}, n.Explain)
	if made, err := n.Running(pod); err != nil || len(made) > 0 {
		t.Errorf("%s has %v (%v) without a network", pod, made, err)
	}
}

// TestANetworkThatComesLater is a node as kubeadm joins it: no network plug-in is named, and the
// configuration is written once the node is there, by a pod on the host's network.
func TestANetworkThatComesLater(t *testing.T) {
	t.Parallel()
	n := harness.NewNode(t, harness.SharedCluster(t), harness.AgentConfig{
		Args:   []string{"--network-plugin=", "--cni-bin-dir", harness.CNIBinDir(t)},
		Config: map[string]any{"nodeStatusUpdateFrequency": "1s"}, // becoming worse is told with the next period
	})
	n.Start()
	ns := n.Namespace()
	awaitReady(t, n, v1.ConditionFalse, networkNotReady+"network plug-in cni: ")
	n.Create(ns, harness.Pod("installer", "", quick, func(p *v1.Pod) { p.Spec.HostNetwork = true }))
	n.Create(ns, harness.Pod("early", "", quick))
	n.Write("static.yaml", harness.Pod("static", "", quick))
	n.AwaitReady(ns, "installer")
	waitsForNetwork(t, n, ns, "early")
	waitsForNetwork(t, n, "default", "static-"+n.Node())

	conf := n.WriteCNI()
	early := n.AwaitReady(ns, "early")
	n.AwaitReady("default", "static-"+n.Node())
	awaitReady(t, n, v1.ConditionTrue, "")
	given, err := n.Addresses()
	if err != nil || len(given) != 2 || early.Status.PodIP != given[0] && early.Status.PodIP != given[1] {
		t.Errorf("the pod has %q, the network has given out %v (%v)", early.Status.PodIP, given, err)
	}

	// It is gone for a while, as when its DaemonSet is replaced: what runs runs on.
	away := conf + ".away"
	if err := os.Rename(conf, away); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, n, v1.ConditionFalse, networkNotReady)
	n.Create(ns, harness.Pod("late", "", quick))
	waitsForNetwork(t, n, ns, "late")
	running, err := n.Running("early")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Docker.Client.ContainerKill(t.Context(), running["c"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	n.Await(ns, "early", "is restarted without a new sandbox", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1 && p.Status.PodIP == early.Status.PodIP
	})
	if err := os.Rename(away, conf); err != nil {
		t.Fatal(err)
	}
	n.AwaitReady(ns, "late")
	awaitReady(t, n, v1.ConditionTrue, "")
}

// TestKubenetInACluster has the controller manager give the node its addresses for pods.
func TestKubenetInACluster(t *testing.T) {
	t.Parallel()
	n := harness.NewNode(t, harness.SharedCluster(t), harness.AgentConfig{})
	n.UseKubenet()
	n.Start()
	n.WaitReady()
	ns := n.Namespace()
	node, err := n.Cluster.Client.CoreV1().Nodes().Get(t.Context(), n.Node(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	subnet, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil {
		t.Fatalf("the node is Ready without addresses for pods: %v", err)
	}
	n.Create(ns, harness.Pod("server", "mkdir -p /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www", quick))
	server := n.AwaitReady(ns, "server")
	n.Create(ns, harness.Pod("client", fmt.Sprintf("until wget -q -O - http://%s:8080/ | grep hello; do sleep 0.1; done", server.Status.PodIP), quick,
		func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }))
	client := n.Await(ns, "client", "reaches the server", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded })
	for _, p := range []*v1.Pod{server, client} {
		if !contains(subnet, p.Status.PodIP) {
			t.Errorf("pod %s has the address %q, which is not of %s", p.Name, p.Status.PodIP, subnet)
		}
	}

	// At a start without the API server the addresses are known all the same.
	n.Kill()
	config, err := os.ReadFile(n.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	nobody := strings.Replace(string(config), n.Cluster.Endpoint(), "127.0.0.1:1", 1)
	if nobody == string(config) {
		t.Fatalf("%s is not in %s", n.Cluster.Endpoint(), config)
	}
	if err := os.WriteFile(n.Kubeconfig(), []byte(nobody), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Write("static.yaml", harness.Pod("static", "", quick))
	n.Start()
	if ip := n.WaitRunning("static").Status.PodIP; !contains(subnet, ip) {
		t.Errorf("the static pod has the address %q, which is not of %s", ip, subnet)
	}
	n.Kill()
	if err := os.WriteFile(n.Kubeconfig(), config, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.AwaitReady("default", "static-"+n.Node())
}

func contains(subnet netip.Prefix, ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && subnet.Contains(a)
}

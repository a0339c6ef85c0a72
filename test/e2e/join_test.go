package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestKubeadmJoin runs the real kubeadm with the agent as the kubelet. It uses the
// machine's own Docker and the places that kubeadm knows, so it needs a machine
// that is no node, and leaves it as it was: the next run does when this one is killed.
func TestKubeadmJoin(t *testing.T) {
	docker := harness.MachineDocker(t)
	if err := (controlplane.Machine{}).Occupied(); err != nil {
		t.Skip(err)
	}
	c := harness.SharedCluster(t)
	busybox := docker.Own(t, "test.local/busybox")
	docker.LoadBusybox(t, busybox)
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := harness.Dir(t, "j")
	m := controlplane.Machine{Agent: binary, Dir: dir, Name: "joined-by-kubeadm", Args: []string{
		"--docker-endpoint", docker.Endpoint, "--cgroup-root", harness.CgroupRoot(t),
		"--network-plugin", "docker", "--cni-conf-dir", filepath.Join(dir, "cni"), // not the machine's
		"--image-gc-high-threshold", "100",
	}}
	// Whatever happens, the machine is left as it was.
	t.Cleanup(func() {
		var out strings.Builder
		if err := c.Leave(context.Background(), m, &out); err != nil {
			t.Errorf("leave: %v\n%s", err, out.String())
		}
		for _, path := range []string{"/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml", "/var/lib/kubelet/pods"} {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s is left", path)
			}
		}
	})
	var out strings.Builder
	if err := c.Join(t.Context(), m, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "This node has joined the cluster") {
		t.Errorf("kubeadm says:\n%s", out.String())
	}
	node, err := c.Client.CoreV1().Nodes().Get(t.Context(), m.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if node.Annotations["kubeadm.alpha.kubernetes.io/cri-socket"] == "" && node.Labels[v1.LabelHostname] == "" {
		t.Errorf("the node object: labels %v, annotations %v", node.Labels, node.Annotations)
	}
	pod := harness.Pod("p", "echo hello; sleep 1000", quick)
	pod.Spec.Containers[0].Image = busybox
	pod.Namespace, pod.Spec.NodeName = "default", m.Name
	if _, err := c.Client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "a pod on the joined node is Ready", harness.Patience, func() error {
		_, _, err := c.Kubectl(t.Context(), nil, "wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
		return err
	}, func() string { text, _ := os.ReadFile(m.Dir + "/logs/kubelet.log"); return string(text) })
	harness.Eventually(t, "its log is there", harness.Patience, func() error {
		logs, _, err := c.Kubectl(t.Context(), nil, "logs", "p")
		if err == nil && string(logs) != "hello\n" {
			err = fmt.Errorf("it is %q", logs)
		}
		return err
	})
	if _, _, err := c.Kubectl(t.Context(), nil, "delete", "pod", "p", patiently); err != nil {
		t.Error(err)
	}
}

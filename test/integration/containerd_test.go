package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestPodsRunOnContainerd runs the agent on another runtime: nothing above CRI
// knows Docker.
func TestPodsRunOnContainerd(t *testing.T) {
	t.Parallel()
	r := harness.StartContainerd(t)
	a := harness.NewAgent(t, harness.AgentConfig{})
	a.SetConfig("containerRuntimeEndpoint", r.Endpoint)
	a.Start()
	web := harness.Pod("web", "echo to be seen; trap 'exit 0' TERM; while :; do sleep 0.1; done", func(p *v1.Pod) {
		p.Spec.InitContainers = []v1.Container{harness.Container("first", "true")}
		p.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "d", MountPath: "/d"}}
	})
	a.Write("web.yaml", web)
	before := a.WaitRunning("web")
	status := harness.Status(before, "c")
	if !strings.HasPrefix(status.ContainerID, "containerd://") || before.Status.PodIP == "" {
		t.Errorf("container %s, IP %q", status.ContainerID, before.Status.PodIP)
	}

	// What it uses comes from its cgroups, as on Docker.
	harness.Eventually(t, "there are metrics of the pod", harness.Patience, func() error {
		page, err := scrape(a, "/metrics/cadvisor")
		if err != nil {
			return err
		}
		for _, q := range []queried{
			{"", "container_memory_working_set_bytes", []string{"id", "image", "container", "pod", "namespace"}}, {"", "container_network_receive_bytes_total", []string{"interface", "pod", "namespace"}},
		} {
			if !slices.ContainsFunc(page[q.metric].GetMetric(), func(m *dto.Metric) bool { return q.answers(m, before) }) {
				return fmt.Errorf("no %s of the pod: %v", q.metric, page[q.metric])
			}
		}
		return nil
	}, a.Explain)

	// After a kill the new agent takes over what runs.
	a.Kill()
	a.Start()
	if after := harness.Status(a.WaitRunning("web"), "c"); after.ContainerID != status.ContainerID {
		t.Errorf("container %s, was %s", after.ContainerID, status.ContainerID)
	}

	// A container's end is found by relisting: this containerd sends no events.
	id := strings.TrimPrefix(status.ContainerID, "containerd://")
	if _, err := r.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
		t.Fatal(err)
	}
	a.WaitPod("web", "has restarted its container", func(p *v1.Pod) bool { return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1 })

	a.Remove("web.yaml")
	a.WaitGone("web")
	harness.Eventually(t, "nothing of the pod is left in containerd", harness.Patience, func() error {
		list, err := r.ListPodSandbox(context.Background(), &cri.ListPodSandboxRequest{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d sandboxes are left", len(list.Items))
		}
		return err
	}, a.Explain)
}

// TestContainerdMakesItsNetworkOfThePodCIDR has containerd write its CNI configuration once it is told the pod CIDR.
func TestContainerdMakesItsNetworkOfThePodCIDR(t *testing.T) {
	t.Parallel()
	r := harness.StartContainerd(t)
	conf := filepath.Join(r.Dir, "cni", "10.conflist")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	subnet := regexp.MustCompile(`"subnet": "([^"]+)"`).FindSubmatch(text)
	template := strings.Replace(string(text), string(subnet[1]), "{{.PodCIDR}}", 1)
	if err := errors.Join(os.WriteFile(filepath.Join(r.Dir, "cni.template"), []byte(template), 0o644), os.Remove(conf)); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "containerd has no network", harness.Patience, func() error {
		s, err := r.Status(t.Context(), &cri.StatusRequest{})
		for _, c := range s.GetStatus().GetConditions() {
			if c.Type == cri.NetworkReady && c.Status {
				return errors.New("it has")
			}
		}
		return err
	})
	a := harness.NewAgent(t, harness.AgentConfig{})
	a.SetConfig("containerRuntimeEndpoint", r.Endpoint)
	a.SetConfig("podCIDR", string(subnet[1]))
	a.Start()
	a.Write("p.yaml", harness.Pod("p", ""))
	a.WaitRunning("p")
	if made, err := filepath.Glob(filepath.Join(r.Dir, "cni", "*")); err != nil || len(made) != 1 {
		t.Errorf("%v, %v", made, err)
	}
	a.Remove("p.yaml")
	a.WaitGone("p")
	harness.Eventually(t, "its sandbox is removed", harness.Patience, func() error {
		list, err := r.ListPodSandbox(context.Background(), &cri.ListPodSandboxRequest{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d sandboxes are left", len(list.Items))
		}
		return err
	}, a.Explain)
}

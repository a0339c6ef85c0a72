package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// manager is package kuberuntime over the agent's CRI socket: the test tells it
// what only the API server, not a manifest, could tell an agent.
func manager(t *testing.T, a *harness.Agent) *kuberuntime.Manager {
	t.Helper()
	client, err := criclient.New(criclient.Config{Endpoint: "unix://" + a.CRISocket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	files, err := volume.New(volume.Config{Root: filepath.Join(a.Dir, "root")})
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.New(image.Config{Images: client})
	if err != nil {
		t.Fatal(err)
	}
	m, err := kuberuntime.New(kuberuntime.Config{
		CRI: client, Images: images, Files: files, Clock: clock.RealClock{}, Name: "docker",
		Node:     criconfig.NodeConfig{Name: a.Node, PodLogsRoot: filepath.Join(a.Dir, "logs")},
		LinksDir: filepath.Join(a.Dir, "links"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEphemeralContainerSeesTheProcessesOfItsTarget(t *testing.T) {
	a := start(t)
	give, read := diary(t, a)
	a.Write("web.yaml", harness.Pod("web", "", give, grace(5)))
	pod := a.WaitRunning("web").DeepCopy()
	m := manager(t, a)
	debug := func(name, target, script string) {
		c := v1.EphemeralContainerCommon(harness.Container(name, script))
		c.ImagePullPolicy, c.VolumeMounts = v1.PullNever, pod.Spec.Containers[0].VolumeMounts
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, v1.EphemeralContainer{EphemeralContainerCommon: c, TargetContainerName: target})
	}
	look := func() *actual.PodStatus {
		t.Helper()
		p, err := m.GetPod(t.Context(), pod.UID)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := m.GetPodStatus(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	debug("debug", "c", "readlink /proc/self/ns/pid >> /diary/log; readlink /proc/self/ns/net >> /diary/log")
	debug("alone", "", "test \"$(readlink /proc/self/ns/pid)\" != \"$(head -n 1 /diary/log)\"")
	debug("lost", "nobody", "true")
	r := m.SyncPod(t.Context(), pod, look())
	if w := r.Waiting["lost"]; w.Reason != "CreateContainerConfigError" || !strings.Contains(w.Message, "nobody") || len(r.Waiting) != 1 {
		t.Errorf("waiting %+v, want the one without its target", r.Waiting)
	}
	// What the kernel says of the target is what the process inside has written.
	info, err := a.Docker.Client.ContainerInspect(t.Context(), harness.ID(harness.Status(pod, "c").ContainerID))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, ns := range []string{"pid", "net"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", info.State.Pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, link)
	}
	wrote(t, a, read, strings.Join(want, " "))

	var s v1.PodStatus
	harness.Eventually(t, "both have ended", harness.Patience, func() error {
		s = podstatus.Generate(podstatus.Input{Pod: pod, Observed: look(), Old: pod.Status, Now: time.Now()})
		for _, c := range s.EphemeralContainerStatuses[:2] {
			if c.State.Terminated == nil {
				return fmt.Errorf("%s: %+v", c.Name, c.State)
			}
		}
		return nil
	}, a.Explain)
	if len(s.EphemeralContainerStatuses) != 3 || s.Phase != v1.PodRunning {
		t.Errorf("phase %s, statuses %+v", s.Phase, s.EphemeralContainerStatuses)
	}
	for _, c := range s.EphemeralContainerStatuses[:2] {
		if c.State.Terminated.ExitCode != 0 || c.Ready || c.RestartCount != 0 {
			t.Errorf("%+v", c)
		}
	}
	pod.Spec.EphemeralContainers = pod.Spec.EphemeralContainers[:2]
	if r := m.SyncPod(t.Context(), pod, look()); r.Err != nil || len(r.Waiting) > 0 {
		t.Errorf("%+v", r)
	}
	if got := read(); got != strings.Join(want, " ") {
		t.Errorf("it ran again: %q", got)
	}

	// One that runs goes with its pod, though the agent knows nothing of it.
	debug("stays", "c", "")
	if r := m.SyncPod(context.WithoutCancel(t.Context()), pod, look()); r.Err != nil {
		t.Fatal(r.Err)
	}
	a.Remove("web.yaml")
	a.WaitGone("web")
}

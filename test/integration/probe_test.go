package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// probed returns a pod that serves files of the host's directory dir over HTTP. It
// has started when it serves, is ready as long as dir holds "ready", and lives as
// long as it does not hold "dead", which a new container removes.
func probed(name, dir string) *v1.Pod {
	return harness.Pod(name, "rm -f /state/dead; exec httpd -f -p 8080 -h /state", func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		p.Spec.Volumes = []v1.Volume{{Name: "state", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}}}
		c.VolumeMounts = []v1.VolumeMount{{Name: "state", MountPath: "/state"}}
		c.Ports = []v1.ContainerPort{{Name: "web", ContainerPort: 8080}}
		grace := int64(2)
		c.StartupProbe = &v1.Probe{
			ProbeHandler:  v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromString("web")}},
			PeriodSeconds: 1, FailureThreshold: 60,
		}
		c.ReadinessProbe = &v1.Probe{
			ProbeHandler:  v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("web")}},
			PeriodSeconds: 1, TimeoutSeconds: 120, FailureThreshold: 1,
		}
		c.LivenessProbe = &v1.Probe{
			ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"/bin/sh", "-c", "test ! -e /state/dead || { echo I am dead; exit 1; }"}}},
			PeriodSeconds: 1, TimeoutSeconds: 120, FailureThreshold: 2, TerminationGracePeriodSeconds: &grace,
		}
	})
}

func TestProbes(t *testing.T) {
	a := start(t)
	seen := harness.WatchEvents(a)
	dir := filepath.Join(a.Dir, "state")
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a.Write("web.yaml", probed("web", dir))

	started := a.WaitPod("web", "has started", func(p *v1.Pod) bool {
		s := harness.Status(p, "c").Started
		return s != nil && *s
	})
	if harness.Ready(started) || harness.Status(started, "c").Ready {
		t.Errorf("ready though it does not serve /ready: %+v", started.Status)
	}
	touch("ready")
	first := a.WaitPod("web", "is ready", harness.Ready)
	if err := os.Remove(filepath.Join(dir, "ready")); err != nil {
		t.Fatal(err)
	}
	a.WaitPod("web", "is not ready any more", func(p *v1.Pod) bool { return !harness.Ready(p) && !harness.Status(p, "c").Ready })
	touch("ready")
	a.WaitPod("web", "is ready again", harness.Ready)

	// A restarted agent never takes it out of service.
	a.Kill()
	a.Launch()
	over := time.Now().Add(5 * time.Second)
	harness.Eventually(t, "the pod was ready for 5 s", harness.Patience, func() error {
		list, err := a.Pods()
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			if p.Name == a.Name("web") && len(p.Status.ContainerStatuses) > 0 && !harness.Ready(&p) {
				t.Fatalf("not ready after the agent's restart: %+v", p.Status)
			}
		}
		if time.Now().Before(over) {
			return errors.New("not over yet")
		}
		return nil
	})
	now := a.WaitPod("web", "is ready", harness.Ready)
	if got, want := harness.Status(now, "c"), harness.Status(first, "c"); got.ContainerID != want.ContainerID || got.RestartCount != 0 {
		t.Fatalf("container %s with %d restarts, want %s still", got.ContainerID, got.RestartCount, want.ContainerID)
	}

	touch("dead")
	again := a.WaitPod("web", "was restarted and is ready", func(p *v1.Pod) bool {
		return harness.Status(p, "c").RestartCount == 1 && harness.Ready(p)
	})
	if last := harness.Status(again, "c").LastTerminationState.Terminated; last == nil || "docker://"+harness.ID(last.ContainerID) != harness.Status(first, "c").ContainerID {
		t.Errorf("last state %+v, want the end of %s", last, harness.Status(first, "c").ContainerID)
	}
	log := a.Log()
	for _, want := range []string{"Liveness probe failed: I am dead", "Container c failed liveness probe, will be restarted", "Readiness probe failed: HTTP probe failed with statuscode: 404"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if n := len(seen.Wait(2, "start", "web", "c", harness.Patience)); n != 2 {
		t.Errorf("%d starts, want 2", n)
	}
	a.Remove("web.yaml")
	a.WaitGone("web")
}

func TestAPodWaitsForItsSidecarToStart(t *testing.T) {
	a := start(t)
	dir := filepath.Join(a.Dir, "state")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a.Write("pair.yaml", harness.Pod("pair", "", func(p *v1.Pod) {
		always := v1.ContainerRestartPolicyAlways
		side := harness.Container("side", "")
		side.RestartPolicy = &always
		side.VolumeMounts = []v1.VolumeMount{{Name: "state", MountPath: "/state"}}
		side.StartupProbe = &v1.Probe{
			ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"test", "-e", "/state/up"}}},
			PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: 1000,
		}
		p.Spec.Volumes = []v1.Volume{{Name: "state", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: dir}}}}
		p.Spec.InitContainers = []v1.Container{side}
	}))
	waits := a.WaitPod("pair", "runs its sidecar", func(p *v1.Pod) bool { return harness.Status(p, "side").State.Running != nil })
	if s := harness.Status(waits, "c"); s.State.Waiting == nil || s.State.Waiting.Reason != "PodInitializing" {
		t.Errorf("the container is %+v, want it to wait", s.State)
	}
	if err := os.WriteFile(filepath.Join(dir, "up"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a.WaitPod("pair", "is ready", harness.Ready)
}

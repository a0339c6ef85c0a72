package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestRestartedAgentHasNothingNewToSay starts an agent anew over pods of every kind:
// none of them is written, because nothing of them has changed.
func TestRestartedAgentHasNothingNewToSay(t *testing.T) {
	n, ns := join(t)
	n.MustKubectl(ns, "create", "configmap", "cm", "--from-literal=key=one")
	probe := func(command string) *v1.Probe {
		return &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"sh", "-c", command}}}, PeriodSeconds: 1, TimeoutSeconds: 60}
	}
	never := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
	ends := func(phase v1.PodPhase) func(*v1.Pod) bool {
		return func(p *v1.Pod) bool { return p.Status.Phase == phase }
	}
	kinds := []struct {
		pod  *v1.Pod
		done func(*v1.Pod) bool
	}{
		{harness.Pod("plain", ""), isReady},
		{harness.Pod("probed", "", func(p *v1.Pod) {
			c := &p.Spec.Containers[0]
			c.ReadinessProbe, c.StartupProbe, c.LivenessProbe = probe("true"), probe("true"), probe("true")
		}), isReady},
		{harness.Pod("unready", "", func(p *v1.Pod) { p.Spec.Containers[0].ReadinessProbe = probe("false") }), ends(v1.PodRunning)},
		{harness.Pod("init", "", func(p *v1.Pod) {
			side := harness.Container("side", "")
			side.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
			side.StartupProbe = probe("true")
			p.Spec.InitContainers = []v1.Container{harness.Container("first", "exit 0"), side}
		}), isReady},
		{harness.Pod("restarted", "test -e /cm/key && sleep 2; test $(cat /proc/uptime | cut -d. -f1) -gt 1 && exec sleep 100000", func(p *v1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "cm", MountPath: "/cm"}}
			p.Spec.Volumes = []v1.Volume{{Name: "cm", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}}}}
		}), isReady},
		{harness.Pod("succeeded", "echo bye > /dev/termination-log", never), ends(v1.PodSucceeded)},
		{harness.Pod("failed", "exit 3", never), ends(v1.PodFailed)},
		{harness.Pod("overdue", "", func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](3) }), ends(v1.PodFailed)},
		{harness.Pod("evicted", "dd if=/dev/zero of=/v/file bs=1M count=3; exec sleep 100000", func(p *v1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: ptr.To(quantity("1Mi"))}}}}
		}), ends(v1.PodFailed)},
		{harness.Pod("half", "exit 0", never, func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, harness.Container("other", "")) }), func(p *v1.Pod) bool {
			return harness.Status(p, "c").State.Terminated != nil && harness.Status(p, "other").State.Running != nil
		}},
		{harness.Pod("refused", "", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"none": "such"} }), ends(v1.PodFailed)},
		{harness.Pod("host", "", func(p *v1.Pod) { p.Spec.HostNetwork = true }), isReady},
		{harness.Pod("no-image", "", func(p *v1.Pod) {
			p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "none.invalid/none", v1.PullNever
		}), func(p *v1.Pod) bool {
			w := harness.Status(p, "c").State.Waiting
			return w != nil && w.Reason == "ErrImageNeverPull"
		}},
	}
	for _, k := range kinds {
		n.Create(ns, k.pod)
	}
	static := harness.Pod("static", "")
	static.Namespace = ns
	n.Write("static.yaml", static)
	for _, k := range kinds {
		n.Await(ns, k.pod.Name, "is as it will stay", k.done)
	}
	n.AwaitReady(ns, n.Name("static"))
	all := func() map[string]v1.Pod {
		list, err := n.Cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]v1.Pod{}
		for _, p := range list.Items {
			m[p.Name] = p
		}
		return m
	}
	// What follows from that has been told when nothing has been written for a while.
	last, since := all(), time.Now()
	harness.Eventually(t, "all is told", harness.Patience, func() error {
		now := all()
		for name, p := range now {
			if last[name].ResourceVersion != p.ResourceVersion {
				last, since = now, time.Now()
				return fmt.Errorf("%s was just written", name)
			}
		}
		if quiet := time.Since(since); quiet < 4*time.Second {
			return fmt.Errorf("quiet for %v only", quiet)
		}
		return nil
	}, n.Explain)
	for _, how := range []func(){n.Kill, n.Interrupt} {
		before := all()
		how()
		n.Start()
		n.WaitRunning("static")
		time.Sleep(5 * time.Second)
		for name, now := range all() {
			if was := before[name]; was.ResourceVersion != now.ResourceVersion {
				a, _ := json.Marshal(was.Status)
				b, _ := json.Marshal(now.Status)
				t.Errorf("%s was written by an agent that was started anew:\n%s\n%s", name, a, b)
			}
		}
	}
}

package kuberuntime

import (
	"encoding/json"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// replays checks that a decision comes out the same from what is written down of it.
func replays(t *testing.T, pod *v1.Pod, observed *actual.PodStatus, v verdicts) {
	t.Helper()
	v, answers := v.recorded()
	d := &decided{pod, observed, answers, computeActions(pod, observed, v)}
	text, err := json.Marshal(d.Input(journal.NewHider()))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ReplayActions(text); err != nil || again != d.Output() {
		t.Errorf("replayed it is %q, %v; want %q\n%s", again, err, d.Output(), text)
	}
}

func TestADecisionOfOtherCircumstancesDiffers(t *testing.T) {
	pod := testPod(plain)
	v, answers := verdicts{failed: func(id actual.ContainerID) actual.FailedProbe {
		if id.ID == "c1" {
			return actual.FailedLiveness
		}
		return ""
	}}.recorded()
	observed := observed(one(0, true), "c1=running", "c2=running")
	d := &decided{pod, observed, answers, computeActions(pod, observed, v)}
	text, err := json.Marshal(d.Input(journal.NewHider()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.Output(), "kill c1 c1 (Container c1 failed liveness probe, will be restarted)") {
		t.Fatal(d.Output())
	}
	for _, change := range [][2]string{{`"failed":"liveness"`, `"failed":""`}, {`"ready":true`, `"ready":false`}, {`"state":"running"`, `"state":"created"`}, {`"name":"c2"`, `"name":"c3"`}} {
		mutated := strings.Replace(string(text), change[0], change[1], 1)
		if mutated == string(text) {
			t.Fatalf("%s is not in %s", change[0], text)
		}
		if again, err := ReplayActions([]byte(mutated)); err != nil || again == d.Output() {
			t.Errorf("with %s: %q, %v", change[1], again, err)
		}
	}
	for _, garbage := range []string{"", "null", "{}", "[]", `{"pod":1}`} {
		if again, err := ReplayActions([]byte(garbage)); err == nil {
			t.Errorf("%q: %q", garbage, again)
		}
	}
}

// Nothing of what may hold a secret is written down, wherever in the pod it is.
func TestADecisionHoldsNoSecrets(t *testing.T) {
	const secret = "hunter2"
	exec := &v1.Probe{ProbeHandler: v1.ProbeHandler{
		Exec: &v1.ExecAction{Command: []string{secret}}, HTTPGet: &v1.HTTPGetAction{Path: "/" + secret, HTTPHeaders: []v1.HTTPHeader{{Name: "X", Value: secret}}},
	}, PeriodSeconds: 7}
	pod := testPod(func(p *v1.Pod) {
		p.Annotations, p.Labels = map[string]string{"note": secret}, map[string]string{"l": secret}
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{VolumeAttributes: map[string]string{"a": secret}}}}}
		for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				c := &list[i]
				c.Command, c.Args, c.WorkingDir = []string{secret}, []string{"--password=" + secret}, "/"+secret
				c.Env = []v1.EnvVar{{Name: "PASSWORD", Value: secret}, {Name: "AGAIN", Value: secret}}
				c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = exec, exec, exec
				c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: exec.Exec}}
				c.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/" + secret}}
				c.Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}
			}
		}
		p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e1", Env: p.Spec.Containers[0].Env}}}
		p.Status.Message = secret
		p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c1", State: v1.ContainerState{
			Terminated: &v1.ContainerStateTerminated{Message: secret}, Waiting: &v1.ContainerStateWaiting{Message: secret},
		}}}
	})
	observed := observed(one(0, true), "c1=exited:1", "c2=running")
	for _, c := range observed.Containers {
		c.Message, c.LogPath = secret, secret
	}
	d := &decided{pod, observed, nil, computeActions(pod, observed, verdicts{})}
	text, err := json.Marshal(d.Input(journal.NewHider()))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text)+d.Output(), secret) {
		t.Errorf("%s", text)
	}
	for _, want := range []string{`"name":"PASSWORD"`, "hidden:7:", `"periodSeconds":7`, `"memory":"1Gi"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if size := d.Size(); size < len(text)/2 || size > 2*len(text) {
		t.Errorf("said to have %d bytes, has %d", size, len(text))
	}
	replays(t, pod, observed, verdicts{})
}

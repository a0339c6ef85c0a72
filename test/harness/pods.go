package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Pod returns a pod with one busybox container "c" that runs the shell script; an
// empty one sleeps for ever and ends at once on SIGTERM. Its grace period is one
// second, so that tests end soon.
func Pod(name, script string, change ...func(*v1.Pod)) *v1.Pod {
	grace := int64(1)
	p := &v1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []v1.Container{Container("c", script)},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// Container returns a busybox container that runs the shell script, as in Pod.
func Container(name, script string) v1.Container {
	if script == "" {
		// A shell that waits in the foreground would handle SIGTERM only afterwards.
		script = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
	}
	return v1.Container{Name: name, Image: Busybox, Command: []string{"/bin/sh", "-c", script}}
}

// Manifest renders pods as one YAML file with several documents.
func Manifest(pods ...*v1.Pod) string {
	var docs []string
	for _, p := range pods {
		b, err := yaml.Marshal(p)
		if err != nil {
			panic(err) // a pod can always be written as YAML
		}
		docs = append(docs, string(b))
	}
	return strings.Join(docs, "---\n")
}

// ReadyOnceTouched makes a pod Ready once its first container has made /tmp/ready, for
// scripts that have to be prepared before they get a signal.
func ReadyOnceTouched(p *v1.Pod) {
	p.Spec.Containers[0].ReadinessProbe = &v1.Probe{
		ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"test", "-e", "/tmp/ready"}}},
		PeriodSeconds: 1, TimeoutSeconds: 60,
	}
}

// Write writes pods to a manifest file, atomically as a careful user does.
func (a *Agent) Write(file string, pods ...*v1.Pod) {
	a.t.Helper()
	a.WriteText(file, Manifest(pods...))
}

// WriteText writes text to a manifest file, atomically.
func (a *Agent) WriteText(file, text string) {
	a.t.Helper()
	tmp := filepath.Join(a.Manifests, "."+file+".tmp")
	err := os.WriteFile(tmp, []byte(text), 0o644)
	if err = errors.Join(err, os.Rename(tmp, filepath.Join(a.Manifests, file))); err != nil {
		a.t.Fatalf("write manifest: %v", err)
	}
}

// Remove deletes a manifest file.
func (a *Agent) Remove(file string) {
	a.t.Helper()
	if err := os.Remove(filepath.Join(a.Manifests, file)); err != nil {
		a.t.Fatalf("remove manifest: %v", err)
	}
}

// Name is the name of a static pod on this node.
func (a *Agent) Name(pod string) string { return pod + "-" + a.Node }

// find returns the pod with that manifest name from a list, or nil.
func (a *Agent) find(list *v1.PodList, pod string) *v1.Pod {
	for i := range list.Items {
		if list.Items[i].Name == a.Name(pod) {
			return &list.Items[i]
		}
	}
	return nil
}

// Pod returns the pod with that manifest name as /pods shows it now, or nil.
func (a *Agent) Pod(pod string) *v1.Pod {
	a.t.Helper()
	var found *v1.Pod
	Eventually(a.t, "the agent tells its pods", Patience, func() error {
		list, err := a.Pods()
		if err == nil {
			found = a.find(list, pod)
		}
		return err
	}, a.Explain)
	return found
}

// WaitPod waits until cond accepts the pod as /pods shows it, and returns it.
func (a *Agent) WaitPod(pod, what string, cond func(*v1.Pod) bool) *v1.Pod {
	a.t.Helper()
	return a.WaitPodFor(Patience, pod, what, cond)
}

// WaitPodFor is WaitPod with a deadline of its own.
func (a *Agent) WaitPodFor(patience time.Duration, pod, what string, cond func(*v1.Pod) bool) *v1.Pod {
	a.t.Helper()
	var found *v1.Pod
	Eventually(a.t, fmt.Sprintf("pod %s %s", pod, what), patience, func() error {
		list, err := a.Pods()
		if err != nil {
			return err
		}
		p := a.find(list, pod)
		if p == nil {
			return fmt.Errorf("the pod is not in /pods")
		}
		if !cond(p) {
			return fmt.Errorf("it is %s", describeStatus(&p.Status))
		}
		found = p
		return nil
	}, a.Explain)
	return found
}

// WaitRunning waits until the pod is Running with all its containers ready.
func (a *Agent) WaitRunning(pod string) *v1.Pod {
	a.t.Helper()
	return a.WaitPod(pod, "is Running and Ready", Ready)
}

// Ready reports whether the pod is Running with all its containers ready.
func Ready(p *v1.Pod) bool {
	if p.Status.Phase != v1.PodRunning || len(p.Status.ContainerStatuses) != len(p.Spec.Containers) {
		return false
	}
	for _, c := range p.Status.ContainerStatuses {
		if !c.Ready {
			return false
		}
	}
	return true
}

// WaitPhase waits until the pod has the phase.
func (a *Agent) WaitPhase(pod string, phase v1.PodPhase) *v1.Pod {
	a.t.Helper()
	return a.WaitPod(pod, "is "+string(phase), func(p *v1.Pod) bool { return p.Status.Phase == phase })
}

// WaitGone waits until neither /pods nor Docker knows the pod any more.
func (a *Agent) WaitGone(pod string) {
	a.t.Helper()
	Eventually(a.t, "pod "+pod+" is gone", Patience, func() error {
		list, err := a.Pods()
		if err != nil {
			return err
		}
		if a.find(list, pod) != nil {
			return errors.New("it is still in /pods")
		}
		left, err := a.ContainersOf(pod)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("%d of its containers are left", len(left))
		}
		return nil
	}, a.Explain)
}

// Status returns the status of a container (init or not) by name, or an empty one.
func Status(p *v1.Pod, container string) v1.ContainerStatus {
	for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses) {
		if c.Name == container {
			return c
		}
	}
	return v1.ContainerStatus{}
}

// ID is the Docker ID in a "docker://..." container ID.
func ID(containerID string) string { return strings.TrimPrefix(containerID, "docker://") }

// ContainersOf lists the pod's Docker containers, including sandboxes and dead
// ones, newest first.
func (a *Agent) ContainersOf(pod string) ([]container.Summary, error) {
	own, err := a.Containers()
	if err != nil {
		return nil, err
	}
	var of []container.Summary
	for _, c := range own {
		if name := ParseName(c).Pod; name == a.Name(pod) || name == pod && pod != "" {
			of = append(of, c)
		}
	}
	return of, nil
}

// ContainerName is the information in a Docker container's name.
type ContainerName struct {
	Container, Pod, Namespace, UID, Attempt string
}

// ParseName reads the name k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT.
func ParseName(c container.Summary) ContainerName {
	for _, n := range c.Names {
		if f := strings.Split(strings.TrimPrefix(n, "/"), "_"); len(f) >= 6 && f[0] == "k8s" {
			return ContainerName{f[1], f[2], f[3], f[4], f[5]}
		}
	}
	return ContainerName{}
}

// Sandbox is the name of a pod's sandbox among its containers.
const Sandbox = "POD"

// Running returns the pod's running containers by name, including the sandbox, and
// an error if two have one name.
func (a *Agent) Running(pod string) (map[string]container.Summary, error) {
	of, err := a.ContainersOf(pod)
	if err != nil {
		return nil, err
	}
	running := map[string]container.Summary{}
	for _, c := range of {
		if c.State != container.StateRunning {
			continue
		}
		name := ParseName(c).Container
		if other, twice := running[name]; twice {
			return nil, fmt.Errorf("container %s of pod %s runs twice: %s and %s", name, pod, other.ID[:12], c.ID[:12])
		}
		running[name] = c
	}
	return running, nil
}

// CheckExactly fails the test unless exactly these pods run on the node, each with
// one sandbox and one of each of its containers, and every running container
// belongs to one of them: no orphans, no duplicates.
func (a *Agent) CheckExactly(pods ...*v1.Pod) {
	a.t.Helper()
	if err := a.exactly(pods...); err != nil {
		a.t.Fatalf("%v\n%s", err, a.Explain())
	}
}

// WaitExactly waits until CheckExactly would pass.
func (a *Agent) WaitExactly(pods ...*v1.Pod) {
	a.t.Helper()
	Eventually(a.t, "exactly the wanted containers run", Patience, func() error { return a.exactly(pods...) }, a.Explain)
}

func (a *Agent) exactly(pods ...*v1.Pod) error {
	own, err := a.Containers()
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, p := range pods {
		want[a.Name(p.Name)+"/"+Sandbox] = true
		for _, c := range p.Spec.Containers {
			want[a.Name(p.Name)+"/"+c.Name] = true
		}
	}
	got := map[string]int{}
	for _, c := range own {
		n := ParseName(c)
		key := n.Pod + "/" + n.Container
		if c.State == container.StateRunning {
			got[key]++
		}
		if !want[key] && c.State == container.StateRunning {
			return fmt.Errorf("orphaned: %s runs and nobody wants it", key)
		}
	}
	for key := range want {
		if got[key] != 1 {
			return fmt.Errorf("%s runs %d times, want once", key, got[key])
		}
	}
	return nil
}

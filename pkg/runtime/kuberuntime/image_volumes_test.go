package kuberuntime

import (
	"errors"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// backedOff is an error like that of a pull in its back-off.
type backedOff struct{ error }

func (backedOff) Reason() string            { return "ImagePullBackOff" }
func (backedOff) RetryAfter() time.Duration { return time.Minute }

func TestImagesOfVolumesArePulledOnceAPassAndHandedToTheRuntime(t *testing.T) {
	c := &creator{dir: t.TempDir()}
	now := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	m, err := New(Config{CRI: c, Images: c, Files: c, Clock: now, Name: "docker", LinksDir: c.dir, Journal: journal.New(time.Now, c)})
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{}
	pod.Name, pod.Namespace, pod.UID = "p", "ns", "uid"
	pod.Spec.Volumes = []v1.Volume{
		{Name: "model", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "model:1", PullPolicy: v1.PullNever}}},
		{Name: "unused", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "unused:1"}}},
	}
	mount := v1.VolumeMount{Name: "model", MountPath: "/model", SubPath: "weights"}
	pod.Spec.Containers = []v1.Container{
		{Name: "a", Image: "there", VolumeMounts: []v1.VolumeMount{mount}}, {Name: "b", Image: "there", VolumeMounts: []v1.VolumeMount{mount}}, {Name: "c", Image: "there"},
	}
	start := func() *pass {
		p := &pass{m: m, pod: pod, observed: &actual.PodStatus{}, sandboxID: "sandbox", sandbox: &cri.PodSandboxConfig{LogDirectory: c.dir}}
		for i := range pod.Spec.Containers {
			c.created = nil
			p.startContainer(t.Context(), &pod.Spec.Containers[i], "")
		}
		return p
	}

	c.missing = backedOff{errors.New("Back-off pulling image \"model:1\"")}
	p := start()
	for _, name := range []string{"a", "b"} {
		if got, want := p.result.Waiting[name], (actual.Waiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "model:1"`}); got != want {
			t.Errorf("container %s waits for %v, want %v", name, got, want)
		}
	}
	if p.result.RetryAfter != startBackOff || p.result.Err != nil || c.created == nil {
		t.Errorf("retry after %v, error %v, c created: %v", p.result.RetryAfter, p.result.Err, c.created != nil)
	}
	if want := []string{"model:1 Never", "there "}; !slices.Equal(c.ensured, want) {
		t.Errorf("pulled %q, want %q", c.ensured, want)
	}

	c.missing = nil
	now.SetTime(now.Now().Add(time.Minute))
	pod.Spec.Containers = pod.Spec.Containers[:1]
	if p = start(); p.result.Err != nil || c.created == nil {
		t.Fatalf("error %v, created %v", p.result.Err, c.created)
	}
	got := c.created.Mounts[0]
	if got.Image.GetImage() != "image" || got.Image.GetUserSpecifiedImage() != "model:1" || got.ImageSubPath != "weights" || got.HostPath != "" || got.ContainerPath != "/model" {
		t.Errorf("mounts %v", got)
	}
}

package integration

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// ofImageVolume mounts an image at /image, or a part of it.
func ofImageVolume(reference, subPath string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Volumes = []v1.Volume{{Name: "image", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: reference}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "image", MountPath: "/image", SubPath: subPath}}
	}
}

func TestAnImageIsMountedAsAVolume(t *testing.T) {
	registry := harness.StartRegistry(t)
	a := start(t)
	ref := registry.Push(t, "test/volume", "1")
	const look = `{ ls /image; touch /image/x 2>&1 || echo read-only; } >/dev/termination-log`
	a.Write("whole.yaml", harness.Pod("whole", look, ofImageVolume(ref, "")))
	a.Write("part.yaml", harness.Pod("part", look, ofImageVolume(ref, "bin")))
	for name, want := range map[string][]string{"whole": {"bin", "read-only"}, "part": {"busybox", "read-only"}} {
		p := a.WaitPhase(name, v1.PodSucceeded)
		said := strings.Fields(harness.Status(p, "c").State.Terminated.Message)
		for _, w := range want {
			if !strings.Contains(" "+strings.Join(said, " ")+" ", " "+w+" ") {
				t.Errorf("pod %s saw %q, want %s among it", name, said, w)
			}
		}
	}

	// For an image that cannot be had, the container waits as for its own.
	a.Write("late.yaml", harness.Pod("late", look, ofImageVolume(registry.Host+"/test/late:1", "")))
	a.WaitPod("late", "waits with ImagePullBackOff", waitingFor("ImagePullBackOff"))
	registry.Push(t, "test/late", "1")
	a.WaitPhase("late", v1.PodSucceeded)
}

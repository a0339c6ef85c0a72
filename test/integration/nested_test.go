package integration

import (
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

const mapForMounts = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: net\ndata:\n  cni.json: cni\n  net.json: old\n"

// TestMountsWithinVolumesThatAreReadOnly: a file over a key of a ConfigMap's directory
// (kubernetes#61545), which stays there when the ConfigMap changes, and a volume below an emptyDir
// that is mounted read-only (kubernetes#121294). An init container finds that emptyDir empty,
// as git wants it.
func TestMountsWithinVolumesThatAreReadOnly(t *testing.T) {
	a := start(t)
	seen := t.TempDir()
	a.WriteText("map.yaml", mapForMounts)
	volumes := []v1.Volume{
		{Name: "map", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "net"}}}},
		{Name: "shared", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		{Name: "seen", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: seen}}},
	}
	a.Write("over.yaml", harness.Pod("over", "while :; do cat /etc/net/net.json /etc/net/cni.json >/seen/.new; mv /seen/.new /seen/over; sleep 1; done", func(p *v1.Pod) {
		p.Spec.Volumes = volumes
		prepare := p.Spec.Containers[0].DeepCopy()
		prepare.Name, prepare.Command = "prepare", []string{"sh", "-c", "echo generated >/shared/net.json"}
		prepare.VolumeMounts = []v1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
		p.Spec.InitContainers = []v1.Container{*prepare}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{
			{Name: "map", MountPath: "/etc/net"}, {Name: "shared", MountPath: "/etc/net/net.json", SubPath: "net.json"}, {Name: "seen", MountPath: "/seen"},
		}
	}))
	a.Write("below.yaml", harness.Pod("below", "cat /settings/conf.d/cni.json >/seen/.b; mv /seen/.b /seen/below; sleep 1000", func(p *v1.Pod) {
		p.Spec.Volumes = volumes
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{
			{Name: "shared", MountPath: "/settings", ReadOnly: true}, {Name: "map", MountPath: "/settings/conf.d", ReadOnly: true}, {Name: "seen", MountPath: "/seen"},
		}
	}))
	a.Write("cloned.yaml", harness.Pod("cloned", "cat /repo/conf.d/cni.json /repo/file >/seen/.c; mv /seen/.c /seen/cloned; sleep 1000", func(p *v1.Pod) {
		p.Spec.Volumes = volumes
		clone := p.Spec.Containers[0].DeepCopy()
		clone.Name, clone.Command = "clone", []string{"sh", "-c", "test -z \"$(ls -A /repo)\" && echo cloned >/repo/file"}
		clone.VolumeMounts = []v1.VolumeMount{{Name: "shared", MountPath: "/repo"}}
		p.Spec.InitContainers = []v1.Container{*clone}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{
			{Name: "shared", MountPath: "/repo", ReadOnly: true}, {Name: "map", MountPath: "/repo/conf.d", ReadOnly: true}, {Name: "seen", MountPath: "/seen"},
		}
	}))
	a.WaitRunning("over")
	a.WaitRunning("below")
	a.WaitRunning("cloned")
	waitContent(t, a, filepath.Join(seen, "cloned"), "cnicloned\n")
	waitContent(t, a, filepath.Join(seen, "below"), "cni")
	waitContent(t, a, filepath.Join(seen, "over"), "generated\ncni")
	a.WriteText("map.yaml", strings.NewReplacer("cni.json: cni", "cni.json: changed", "old", "new").Replace(mapForMounts))
	waitContent(t, a, filepath.Join(seen, "over"), "generated\nchanged")
}

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// persistentVolume is a manifest of a volume that is a directory of the host.
func persistentVolume(name, size, dir string) string {
	return volumeOf(name, size, fmt.Sprintf("local: {path: %q}\n  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}]}}", dir))
}

func volumeOf(name, size, source string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: %s\nspec:\n  capacity: {storage: %s}\n  accessModes: [ReadWriteOnce]\n  %s\n", name, size, source)
}

// claimFor returns a manifest of a claim for 1 GiB.
func claimFor(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: %s\nspec:\n  accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n", name)
}

// usesClaim is a pod that notes each start of its container in the claim's volume.
func usesClaim(name, claim string) *v1.Pod {
	return harness.Pod(name, "echo "+name+" >>/data/starts; sleep 1000", func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/data"}}
	})
}

func TestPodsUseClaimsOfManifests(t *testing.T) {
	a := start(t)
	large, small := t.TempDir(), t.TempDir()
	starts := filepath.Join(large, "starts")

	// The pod waits, and says for what, until the last document is there.
	a.Write("web.yaml", usesClaim("web", "data"))
	waitLog(t, a, "FailedMount", `error processing PVC default/data: persistentvolumeclaims \"data\" not found`)
	a.WriteText("claim.yaml", claimFor("data"))
	waitLog(t, a, "FailedMount", "error processing PVC default/data: PVC is not bound: no persistent volumes available for this claim and no storage class is set")
	a.WriteText("volume.yaml", persistentVolume("large", "9Gi", large))
	a.WaitRunning("web")
	waitContent(t, a, starts, "web\n")

	// What is bound stays bound: when a better volume appears, for another pod, and for a
	// restarted agent.
	a.WriteText("small.yaml", persistentVolume("small", "1Gi", small))
	a.WriteText("other.yaml", claimFor("other"))
	a.Write("other-pod.yaml", usesClaim("other", "other"))
	a.WaitRunning("other")
	waitContent(t, a, filepath.Join(small, "starts"), "other\n")
	a.Remove("other-pod.yaml")
	a.Remove("other.yaml")
	a.WaitGone("other")
	a.Kill()
	a.Remove("web.yaml")
	a.Start()
	a.WaitGone("web")
	a.Write("web.yaml", usesClaim("again", "data"))
	before := a.WaitRunning("again")
	waitContent(t, a, starts, "web\nagain\n")
	// A volume with data in it is not given to another claim either.
	a.WriteText("third.yaml", claimFor("third"))
	a.Write("third-pod.yaml", usesClaim("third", "third"))
	waitLog(t, a, "FailedMount", "error processing PVC default/third: PVC is not bound")
	a.Remove("third-pod.yaml")
	a.WaitGone("third")

	// A change of what must not change is refused, and the pod goes on.
	a.WriteText("volume.yaml", persistentVolume("large", "9Gi", small))
	waitLog(t, a, "volume.yaml: document 1 (line 8): spec.local: Forbidden: spec.persistentvolumesource is immutable after creation")

	// A pod keeps its volume when the documents are removed, also under a restarted
	// agent.
	a.Remove("volume.yaml")
	a.Remove("claim.yaml")
	waitLog(t, a, "Manifest removed", "/claim.yaml")
	a.Write("late.yaml", usesClaim("late", "data"))
	waitLog(t, a, "FailedMount", `error processing PVC default/data: persistentvolumeclaims \"data\" not found`, "late")
	a.Kill()
	a.Start()
	again := a.WaitRunning("again")
	if harness.Status(before, "c").ContainerID != harness.Status(again, "c").ContainerID {
		t.Error("the container was restarted")
	}
	if err := a.Docker.Client.ContainerKill(t.Context(), harness.ID(harness.Status(again, "c").ContainerID), "KILL"); err != nil {
		t.Fatal(err)
	}
	a.WaitPod("again", "has restarted its container", func(p *v1.Pod) bool {
		return harness.Ready(p) && harness.Status(p, "c").RestartCount == 1
	})
	waitContent(t, a, starts, "web\nagain\nagain\n")
	a.Remove("web.yaml")
	a.WaitGone("again")
	if text, err := os.ReadFile("/proc/mounts"); err != nil || strings.Contains(string(text), filepath.Join(a.Dir, "root", "pods", string(again.UID))) {
		t.Errorf("mounts of the pod are left (%v)", err)
	}
	waitContent(t, a, starts, "web\nagain\nagain\n")
}

func TestACSIDriverServesClaimsOfManifests(t *testing.T) {
	a := start(t)
	a.WriteText("storage.yaml", claimFor("data")+"---\n"+volumeOf("disk", "1Gi", fmt.Sprintf("csi: {driver: %s.csi.example, volumeHandle: vol-1}", a.Node)))
	a.Write("web.yaml", usesClaim("web", "data"))
	waitLog(t, a, "FailedMount", fmt.Sprintf(`MountVolume.SetUp failed for volume \"data\" : driver name %s.csi.example not found in the list of registered CSI drivers`, a.Node))
	d, err := csidriver.Start(csidriver.Config{Name: a.Node + ".csi.example", Root: filepath.Join(a.Dir, "root"), Data: filepath.Join(a.Dir, "csi")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	a.WaitRunning("web")
	waitContent(t, a, filepath.Join(d.Volume("vol-1"), "starts"), "web\n")
	a.Remove("web.yaml")
	a.WaitGone("web")
	if calls := strings.Join(d.Calls(), " "); calls != "NodeStageVolume NodePublishVolume NodeUnpublishVolume NodeUnstageVolume" {
		t.Errorf("the driver was called: %s", calls)
	}
}

package kuberuntime

import (
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Which attempt is the newest decides what is killed and what is started. Times alone do not
// tell: a clock is set back.
func TestContainersAreInTheOrderOfTheirAttempts(t *testing.T) {
	of := func(name string) map[string]string {
		return map[string]string{pods.LabelPodUID: "u", pods.LabelPodName: "p", pods.LabelPodNamespace: "n", pods.LabelContainerName: name}
	}
	sandbox := func(id string, created int64, attempt uint32) *cri.PodSandbox {
		return &cri.PodSandbox{Id: id, CreatedAt: created, Labels: of(""), Metadata: &cri.PodSandboxMetadata{Attempt: attempt}}
	}
	container := func(id, sandbox string, created int64, attempt uint32) *cri.Container {
		return &cri.Container{Id: id, PodSandboxId: sandbox, CreatedAt: created, Labels: of("c"), Metadata: &cri.ContainerMetadata{Attempt: attempt}}
	}
	got := group(
		[]*cri.PodSandbox{sandbox("s0", 70, 0), sandbox("s1", 50, 1)},
		[]*cri.Container{
			container("before", "s0", 11, 0), container("first", "s1", 60, 1), container("after the clock was set back", "s1", 20, 2),
			container("last", "s1", 30, 3), container("of a sandbox that is gone", "s?", 40, 0),
		})
	if got[0].Sandboxes[0].ID != "s1" {
		t.Errorf("sandboxes %v", got[0].Sandboxes)
	}
	var ids []string
	for _, c := range got[0].Containers {
		ids = append(ids, c.ID)
	}
	if want := []string{"last", "after the clock was set back", "first", "before", "of a sandbox that is gone"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
}

// A container that ended in what is the future by now waits no longer than any other.
func TestAClockThatIsSetBackProlongsNoBackOff(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	c := &v1.Container{Name: "c"}
	b := newBackOffs(time.Minute)
	ended := &actual.ContainerStatus{State: actual.StateExited, FinishedAt: now.Add(90 * time.Second), Hash: hashContainer(c)}
	if left := b.left("k", c, ended, now); left != 0 {
		t.Errorf("the first restart waits %v", left)
	}
	b.restarted("k", c, ended, now)
	if left := b.left("k", c, ended, now); left != firstBackOff {
		t.Errorf("the second restart waits %v", left)
	}
}

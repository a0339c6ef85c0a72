package kuberuntime

import (
	"slices"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
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
		[]*cri.PodSandbox{sandbox("s0", 10, 0), sandbox("s1", 50, 1)},
		[]*cri.Container{
			container("before", "s0", 11, 0), container("first", "s1", 60, 1), container("after the clock was set back", "s1", 20, 2),
			container("last", "s1", 30, 3), container("of a sandbox that is gone", "s?", 40, 0),
		})
	var ids []string
	for _, c := range got[0].Containers {
		ids = append(ids, c.ID)
	}
	if want := []string{"last", "after the clock was set back", "first", "before", "of a sandbox that is gone"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
}

package kuberuntime

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// mover is a creator during whose start of a container the shared CPUs change.
type mover struct {
	creator
	cpus, after string
	updated     []*cri.UpdateContainerResourcesRequest
}

func (m *mover) StartContainer(context.Context, *cri.StartContainerRequest, ...grpc.CallOption) (*cri.StartContainerResponse, error) {
	m.cpus = m.after
	return &cri.StartContainerResponse{}, nil
}

func (m *mover) UpdateContainerResources(_ context.Context, r *cri.UpdateContainerResourcesRequest, _ ...grpc.CallOption) (*cri.UpdateContainerResourcesResponse, error) {
	m.updated = append(m.updated, r)
	return &cri.UpdateContainerResourcesResponse{}, nil
}

func TestAContainerFollowsCPUsThatChangeWhileItStarts(t *testing.T) {
	for after, moves := range map[string]bool{"0-1": false, "0": true} {
		c := &mover{creator: creator{dir: t.TempDir()}, cpus: "0-1", after: after}
		m, err := New(Config{
			CRI: c, Images: c, Files: c, Clock: clock.RealClock{}, Name: "docker", LinksDir: c.dir, Journal: journal.New(time.Now, c),
			Node: criconfig.NodeConfig{CPUs: func(types.UID, string) (string, bool) { return c.cpus, false }},
		})
		if err != nil {
			t.Fatal(err)
		}
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
		pod.Name, pod.Namespace, pod.UID = "p", "ns", "uid"
		p := &pass{m: m, pod: pod, observed: &actual.PodStatus{}, sandboxID: "sandbox", sandbox: &cri.PodSandboxConfig{LogDirectory: c.dir}}
		p.startContainer(t.Context(), &pod.Spec.Containers[0], "")
		if p.result.Err != nil || c.created.GetLinux().GetResources().GetCpusetCpus() != "0-1" {
			t.Fatalf("made with %v, %v", c.created, p.result.Err)
		}
		if len(c.updated) > 0 != moves || moves && (c.updated[0].ContainerId != "id" || c.updated[0].Linux.String() != (&cri.LinuxContainerResources{CpusetCpus: after}).String()) {
			t.Errorf("with CPUs %s after the start it was given %v", after, c.updated)
		}
	}
}

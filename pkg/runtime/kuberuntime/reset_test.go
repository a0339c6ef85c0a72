package kuberuntime

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// resetter is a stopper that lists containers of the pod and removes them.
type resetter struct {
	stopper
	ids []string // of container c1 at the runtime, newest first
}

func (r *resetter) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest, ...grpc.CallOption) (*cri.ListPodSandboxResponse, error) {
	return &cri.ListPodSandboxResponse{}, nil
}

func (r *resetter) ListContainers(context.Context, *cri.ListContainersRequest, ...grpc.CallOption) (*cri.ListContainersResponse, error) {
	out := &cri.ListContainersResponse{}
	for i, id := range r.ids {
		out.Containers = append(out.Containers, &cri.Container{
			Id: id, Metadata: &cri.ContainerMetadata{Name: "c1"}, State: cri.ContainerState_CONTAINER_EXITED, CreatedAt: int64(len(r.ids) - i),
			Labels: map[string]string{pods.LabelPodName: "p", pods.LabelPodNamespace: "n", pods.LabelPodUID: "u", pods.LabelContainerName: "c1"},
		})
	}
	return out, nil
}

func (r *resetter) RemoveContainer(_ context.Context, req *cri.RemoveContainerRequest, _ ...grpc.CallOption) (*cri.RemoveContainerResponse, error) {
	r.note("remove %s", req.ContainerId)
	return &cri.RemoveContainerResponse{}, nil
}

func TestAllContainersAreRemovedTheCauseAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resetter{ids: []string{"c1", "older"}}
		m := r.manager(t)
		m.cfg.CRI = r
		seen := observed(one(0, true), "c2=running", "c1=exited:42")
		result := m.SyncPod(t.Context(), testPod(policy(v1.RestartPolicyNever, plain, restartingAll("c1", 42))), seen)
		want := []string{" 0s remove older", " 0s stop c2 within 0", " 0s remove c2", " 0s remove c1"}
		if !slices.Equal(r.log, want) || !result.Reset || result.Err != nil {
			t.Errorf("did %q, reset %t, %v; want %q", r.log, result.Reset, result.Err, want)
		}
	})
}

func TestLogsCountTheAttemptsOfWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	if got := logged(filepath.Join(dir, "new")); got != 0 {
		t.Errorf("a new container's attempt is %d", got)
	}
	for _, name := range []string{"0.log", "2.log", "10.log.20260102-030405.gz", "x.log", "7"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := logged(dir); got != 11 {
		t.Errorf("the next attempt is %d, want 11", got)
	}
}

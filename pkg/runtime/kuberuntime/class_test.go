package kuberuntime

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// sandboxes is a runtime that knows the handlers "" and "gvisor".
type sandboxes struct {
	creator
	asked []string // handlers
}

func (s *sandboxes) RunPodSandbox(_ context.Context, r *cri.RunPodSandboxRequest, _ ...grpc.CallOption) (*cri.RunPodSandboxResponse, error) {
	s.asked = append(s.asked, r.RuntimeHandler)
	if r.RuntimeHandler != "" && r.RuntimeHandler != "gvisor" {
		return nil, status.Errorf(codes.InvalidArgument, "no runtime for %q is configured", r.RuntimeHandler)
	}
	return &cri.RunPodSandboxResponse{PodSandboxId: "sandbox"}, nil
}

func (s *sandboxes) PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest, ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error) {
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Id: "sandbox"}}, nil
}

func TestTheSandboxHasTheHandlerOfThePodsClass(t *testing.T) {
	classes := func(_ context.Context, class string) (string, error) {
		h, ok := map[string]string{"strict": "gvisor", "default": "", "elsewhere": "kata"}[class]
		if !ok {
			return "", errors.New(`runtimeclass.node.k8s.io "` + class + `" not found`)
		}
		return h, nil
	}
	for name, tt := range map[string]struct {
		class   *string
		handler func(context.Context, string) (string, error)
		asked   []string
		event   string
	}{
		"no class":                          {nil, classes, []string{""}, ""},
		"no class, and no classes at all":   {nil, nil, []string{""}, ""},
		"an empty name":                     {new(""), nil, []string{""}, ""},
		"a class":                           {new("strict"), classes, []string{"gvisor"}, ""},
		"a class of the default":            {new("default"), classes, []string{""}, ""},
		"a handler that the node has not":   {new("elsewhere"), classes, []string{"kata"}, `FailedCreatePodSandBox: Failed to create pod sandbox: no runtime for "kata" is configured`},
		"a missing class":                   {new("none"), classes, nil, `FailedCreatePodSandBox: Failed to create pod sandbox: runtimeclass.node.k8s.io "none" not found`},
		"a class on a node that knows none": {new("strict"), nil, nil, `FailedCreatePodSandBox: Failed to create pod sandbox: RuntimeClass "strict": this node knows no RuntimeClasses`},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sandboxes{creator: creator{dir: t.TempDir()}}
			m, err := New(Config{CRI: s, Images: s, Files: s, Handler: tt.handler, Clock: clock.RealClock{}, Name: "docker", LinksDir: s.dir,
				Journal: journal.New(time.Now, s), Node: criconfig.NodeConfig{PodLogsRoot: t.TempDir()}})
			if err != nil {
				t.Fatal(err)
			}
			pod := &v1.Pod{}
			pod.Name, pod.Namespace, pod.UID = "p", "ns", "uid"
			pod.Spec.RuntimeClassName = tt.class
			pod.Spec.Containers = []v1.Container{{Name: "c", Image: "there"}}
			result := m.SyncPod(t.Context(), pod, &actual.PodStatus{UID: "uid"})
			if !slices.Equal(s.asked, tt.asked) {
				t.Errorf("asked for %q, want %q", s.asked, tt.asked)
			}
			if started := s.created != nil; started != (tt.event == "") || (result.Err == nil) != started {
				t.Errorf("container made: %t, error %v", started, result.Err)
			}
			if tt.event != "" && !slices.Equal(s.events, []string{tt.event}) {
				t.Errorf("events %q, want %q", s.events, tt.event)
			}
		})
	}
}

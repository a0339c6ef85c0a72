package kuberuntime

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// creator is a runtime that starts every container, a node with every file and
// image, and an API server with some ConfigMaps.
type creator struct {
	CRI
	dir     string
	maps    map[string]*v1.ConfigMap
	created *cri.ContainerConfig
	events  []string
	missing error    // why there are no images but "there"
	ensured []string // images that were asked for, with their policies
}

func (c *creator) CreateContainer(_ context.Context, r *cri.CreateContainerRequest, _ ...grpc.CallOption) (*cri.CreateContainerResponse, error) {
	c.created = r.Config
	return &cri.CreateContainerResponse{ContainerId: "id"}, nil
}

func (c *creator) StartContainer(context.Context, *cri.StartContainerRequest, ...grpc.CallOption) (*cri.StartContainerResponse, error) {
	return &cri.StartContainerResponse{}, nil
}

func (c *creator) Ensure(_ context.Context, _ *v1.Pod, of *v1.Container, _ *cri.PodSandboxConfig) (string, error) {
	c.ensured = append(c.ensured, of.Image+" "+string(of.ImagePullPolicy))
	if of.Image != "" && of.Image != "there" && c.missing != nil {
		return "", c.missing
	}
	return "image", nil
}

func (c *creator) Image(context.Context, string) (*cri.Image, error) { return &cri.Image{}, nil }

func (c *creator) Path(*v1.Pod, string) (volume.Path, error) { return volume.Path{}, nil }

func (c *creator) SubPath(context.Context, *v1.Pod, string, int, string, string) (string, error) {
	return "", nil
}

func (c *creator) MountPoints(context.Context, *v1.Pod, *v1.Container) error { return nil }

func (*creator) Groups(*v1.Pod) []int64 { return nil }

func (c *creator) ReadFile(context.Context, *v1.Pod, string, string, int64) ([]byte, error) {
	return nil, fs.ErrNotExist
}

func (c *creator) HostsFile(types.UID, []byte) (string, error) { return c.dir + "/hosts", nil }

func (c *creator) TerminationLog(types.UID, string, uint32) (string, error) { return "", nil }

func (c *creator) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	if m := c.maps[name]; m != nil {
		return m, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (c *creator) Secret(context.Context, string, string) (*v1.Secret, error) { return nil, nil }

func (c *creator) Record(e journal.Entry) { c.events = append(c.events, e.Reason+": "+e.Message) }

func TestAContainerWaitsForTheConfigMapOfItsEnvironment(t *testing.T) {
	c := &creator{dir: t.TempDir(), maps: map[string]*v1.ConfigMap{}}
	m, err := New(Config{CRI: c, Images: c, Files: c, Objects: c, Clock: clock.RealClock{}, Name: "docker", LinksDir: c.dir, Journal: journal.New(time.Now, c)})
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{}
	pod.Name, pod.Namespace, pod.UID = "p", "ns", "uid"
	pod.Spec.Containers = []v1.Container{{Name: "c", EnvFrom: []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}}}}
	start := func() *pass {
		p := &pass{m: m, pod: pod, observed: &actual.PodStatus{}, sandboxID: "sandbox", sandbox: &cri.PodSandboxConfig{LogDirectory: c.dir}}
		p.startContainer(t.Context(), &pod.Spec.Containers[0], "")
		return p
	}

	p := start()
	if want := (actual.Waiting{Reason: "CreateContainerConfigError", Message: `configmap "settings" not found`}); p.result.Waiting["c"] != want || p.result.Err == nil || c.created != nil {
		t.Errorf("waiting %+v, error %v, created %v; want %+v", p.result.Waiting["c"], p.result.Err, c.created, want)
	}
	if len(c.events) != 1 || c.events[0] != `Failed: Error: configmap "settings" not found` {
		t.Errorf("events %q", c.events)
	}
	c.maps["settings"] = &v1.ConfigMap{Data: map[string]string{"COLOUR": "green"}}
	p = start()
	if p.result.Err != nil || c.created == nil || len(c.created.Envs) != 1 || string(c.created.Envs[0].Value) != "green" {
		t.Errorf("error %v, created %v", p.result.Err, c.created)
	}
}

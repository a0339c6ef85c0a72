package devicemanager

import (
	"fmt"
	"strings"
	"testing"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

func TestWhatAPlugInSaysOfItselfIsChecked(t *testing.T) {
	for _, good := range []string{"example.com/gpu", "nvidia.com/mig-1g.5gb"} {
		if err := checkName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "gpu", "kubernetes.io/gpu", "requests.example.com/gpu", "example.com/", "example.com/a/b", "a b/c", strings.Repeat("x", 5000) + "/y"} {
		if err := checkName(bad); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.20q: %.300v", bad, err)
		}
	}
	if checkEndpoint("gpu.sock") != nil || checkEndpoint("below/gpu.sock") != nil {
		t.Error("a socket is refused")
	}
	for _, bad := range []string{"", "/run/docker.sock", "../plugins/x.sock", strings.Repeat("x", 200)} {
		if checkEndpoint(bad) == nil {
			t.Errorf("endpoint %q is accepted", bad)
		}
	}
	if checkVersions("v1alpha1", "v1beta1") != nil || checkVersions("v2") == nil || checkVersions() == nil {
		t.Error("versions")
	}
}

func TestListsOfDevicesAreChecked(t *testing.T) {
	many := make([]*api.Device, maxDevices+1)
	for i := range many {
		many[i] = &api.Device{ID: fmt.Sprint(i)}
	}
	for what, list := range map[string][]*api.Device{
		"no ID": {{}}, "nothing": {nil}, "a long ID": {{ID: strings.Repeat("x", 5000)}}, "one twice": {{ID: "a"}, {ID: "a"}}, "too many": many,
	} {
		if _, err := devicesOf(list); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %.300v", what, err)
		}
	}
	got, err := devicesOf([]*api.Device{
		{ID: "a", Health: api.Healthy, Topology: &api.TopologyInfo{Nodes: []*api.NUMANode{{ID: 1}, {ID: -1}, {ID: 1 << 40}, nil}}}, {ID: "b", Health: "so so"},
	})
	if err != nil || !got["a"].healthy || got["a"].nodes.String() != "0-1" || got["b"].healthy {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnswersToAllocateAreChecked(t *testing.T) {
	good := &api.ContainerAllocateResponse{
		Envs: map[string]string{"A": "b"}, Annotations: map[string]string{"a": ""},
		Mounts:     []*api.Mount{{HostPath: "/a", ContainerPath: "/b"}},
		Devices:    []*api.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/x", Permissions: "mrw"}, {HostPath: "/dev/null", ContainerPath: "/dev/y"}},
		CdiDevices: []*api.CDIDevice{{Name: "example.com/gpu=0"}},
	}
	of := func(c ...*api.ContainerAllocateResponse) *api.AllocateResponse {
		return &api.AllocateResponse{ContainerResponses: c}
	}
	if _, err := checkResponse(of(good)); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("x", 100000)
	for what, bad := range map[string]*api.AllocateResponse{
		"nothing": nil, "no container": of(), "two containers": of(good, good), "a container that is nothing": of(nil),
		"a long variable":         of(&api.ContainerAllocateResponse{Envs: map[string]string{"A": long}}),
		"a variable with no name": of(&api.ContainerAllocateResponse{Envs: map[string]string{"": "a"}}),
		"an annotation":           of(&api.ContainerAllocateResponse{Annotations: map[string]string{long: ""}}),
		"a relative mount":        of(&api.ContainerAllocateResponse{Mounts: []*api.Mount{{HostPath: "a", ContainerPath: "/b"}}}),
		"a mount that is nothing": of(&api.ContainerAllocateResponse{Mounts: []*api.Mount{nil}}),
		"a long path":             of(&api.ContainerAllocateResponse{Devices: []*api.DeviceSpec{{HostPath: "/" + long, ContainerPath: "/b"}}}),
		"permissions":             of(&api.ContainerAllocateResponse{Devices: []*api.DeviceSpec{{HostPath: "/a", ContainerPath: "/b", Permissions: "rwx"}}}),
		"CDI":                     of(&api.ContainerAllocateResponse{CdiDevices: []*api.CDIDevice{{Name: "gpu0"}}}),
		"too many":                of(&api.ContainerAllocateResponse{CdiDevices: make([]*api.CDIDevice, maxItems+1)}),
	} {
		if _, err := checkResponse(bad); err == nil || len(err.Error()) > 500 {
			t.Errorf("%s: %.300v", what, err)
		}
	}
}

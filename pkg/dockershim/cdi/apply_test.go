package cdi

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"google.golang.org/grpc/codes"
	"k8s.io/utils/ptr"
	"tags.cncf.io/container-device-interface/specs-go"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// testPlatform has one device, /dev/gpu0, which is c 195:7 of root:44 with mode 0660.
func testPlatform() Platform {
	return Platform{
		Node: func(path string) (Node, error) {
			if path != "/dev/gpu0" {
				return Node{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
			}
			return Node{Type: "c", Major: 195, Minor: 7, Mode: 0o660, GID: 44}, nil
		},
		RealPath: func(path string) (string, error) {
			if path == "/missing" {
				return "", errors.New("lstat /missing: no such file or directory")
			}
			return "/real" + path, nil
		},
	}
}

func given() *docker.ContainerSpec {
	return &docker.ContainerSpec{
		Config: &container.Config{Env: []string{"PATH=/bin", "GPU=none"}},
		Host: &container.HostConfig{
			GroupAdd:  []string{"44"},
			Binds:     []string{"/a:/lib/gpu:ro,Z", "/b:/other:Z"},
			Mounts:    []mount.Mount{{Source: "/c", Target: "/lib/gpu/"}, {Source: "/d", Target: "/data"}},
			Resources: container.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/gpu0"}, {PathOnHost: "/dev/zero", PathInContainer: "/dev/zero"}}},
		},
	}
}

func TestApplyGivesAllThatDockerHasWordsFor(t *testing.T) {
	got := given()
	err := Apply(got, []Edits{
		{"v.com/gpu=0", specs.ContainerEdits{
			Env:         []string{"GPU=all", "NEW=1"},
			DeviceNodes: []*specs.DeviceNode{{Path: "/dev/gpu0", Permissions: "rw"}, {Path: "/dev/x", HostPath: "/dev/gpu0", Type: "u", Major: 195, Minor: 7, FileMode: ptr.To(os.FileMode(0o660)), GID: ptr.To[uint32](44)}},
			Mounts:      []*specs.Mount{{HostPath: "/lib/gpu", ContainerPath: "/lib/gpu", Options: []string{"rbind", "ro", "rprivate"}, Type: "bind"}},
		}},
		{"v.com/gpu=1", specs.ContainerEdits{AdditionalGIDs: []uint32{0, 44, 45}, Env: []string{"GPU=both"}, Mounts: []*specs.Mount{{HostPath: "/tool", ContainerPath: "/tool", Options: []string{"bind"}}}}},
	}, testPlatform())
	if err != nil {
		t.Fatal(err)
	}
	want := &docker.ContainerSpec{
		Config: &container.Config{Env: []string{"PATH=/bin", "GPU=both", "NEW=1"}},
		Host: &container.HostConfig{
			GroupAdd: []string{"44", "45"},
			Binds:    []string{"/b:/other:Z"},
			Mounts: []mount.Mount{
				{Source: "/d", Target: "/data"},
				{Type: mount.TypeBind, Source: "/real/lib/gpu", Target: "/lib/gpu", ReadOnly: true, BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate}},
				{Type: mount.TypeBind, Source: "/real/tool", Target: "/tool", BindOptions: &mount.BindOptions{NonRecursive: true}},
			},
			Resources: container.Resources{Devices: []container.DeviceMapping{
				{PathOnHost: "/dev/zero", PathInContainer: "/dev/zero"},
				{PathOnHost: "/dev/gpu0", PathInContainer: "/dev/gpu0", CgroupPermissions: "rw"},
				{PathOnHost: "/dev/gpu0", PathInContainer: "/dev/x", CgroupPermissions: "rwm"},
			}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v %+v\nwant %+v %+v", got.Config, got.Host, want.Config, want.Host)
	}
}

func TestReadOnlyMountsByWhatDockerCan(t *testing.T) {
	for _, tc := range []struct {
		option        string
		docker25, rro bool
		want          mount.BindOptions
		refused       bool
	}{
		{option: "ro"},
		{option: "ro", docker25: true, want: mount.BindOptions{ReadOnlyNonRecursive: true}},
		{option: "rro", docker25: true, rro: true, want: mount.BindOptions{ReadOnlyForceRecursive: true, Propagation: mount.PropagationRPrivate}},
		{option: "rro", refused: true},
	} {
		p := testPlatform()
		p.ReadOnlyNonRecursive, p.RecursiveReadOnly = tc.docker25, tc.rro
		m, err := p.mount(&specs.Mount{HostPath: "/a", ContainerPath: "/a", Options: []string{"rbind", tc.option}})
		if (err != nil) != tc.refused || err == nil && (!m.ReadOnly || *m.BindOptions != tc.want) {
			t.Errorf("%+v: got %+v and %v", tc, m.BindOptions, err)
		}
	}
}

func TestApplyRefusesWhatDockerHasNoWordsFor(t *testing.T) {
	node := func(d specs.DeviceNode) specs.ContainerEdits {
		return specs.ContainerEdits{DeviceNodes: []*specs.DeviceNode{&d}}
	}
	bind := func(m specs.Mount) specs.ContainerEdits {
		return specs.ContainerEdits{Mounts: []*specs.Mount{&m}}
	}
	for _, tc := range []struct {
		name  string
		edits specs.ContainerEdits
		says  string
	}{
		{"a hook", specs.ContainerEdits{Hooks: []*specs.Hook{{HookName: "createContainer", Path: "/usr/bin/nvidia-cdi-hook"}}}, "needs the hook createContainer (/usr/bin/nvidia-cdi-hook)"},
		{"a network device", specs.ContainerEdits{NetDevices: []*specs.LinuxNetDevice{{HostInterfaceName: "eth1", Name: "net1"}}}, "eth1"},
		{"intelRdt", specs.ContainerEdits{IntelRdt: &specs.IntelRdt{ClosID: "x"}}, "intelRdt"},
		{"a node that the host lacks", node(specs.DeviceNode{Path: "/dev/gpu1"}), "file does not exist"},
		{"another number", node(specs.DeviceNode{Path: "/dev/gpu0", Type: "c", Major: 195, Minor: 8}), "is to be c 195:8, but /dev/gpu0 is c 195:7"},
		{"another type", node(specs.DeviceNode{Path: "/dev/gpu0", Type: "b"}), "is to be b"},
		{"a FIFO", node(specs.DeviceNode{Path: "/dev/gpu0", Type: "p"}), "FIFO"},
		{"no permission", node(specs.DeviceNode{Path: "/dev/gpu0", Permissions: "none"}), `permissions "none"`},
		{"another mode", node(specs.DeviceNode{Path: "/dev/gpu0", FileMode: ptr.To(os.FileMode(0o666))}), "another mode or owner"},
		{"another owner", node(specs.DeviceNode{Path: "/dev/gpu0", UID: ptr.To[uint32](1000)}), "another mode or owner"},
		{"a relative path", node(specs.DeviceNode{Path: "dev/gpu0"}), "absolute"},
		{"nosuid", bind(specs.Mount{HostPath: "/a", ContainerPath: "/a", Options: []string{"ro", "nosuid", "nodev", "rbind"}}), "the option nosuid cannot be asked of Docker"},
		{"a tmpfs", bind(specs.Mount{HostPath: "tmpfs", ContainerPath: "/a", Type: "tmpfs"}), `type "tmpfs"`},
		{"a missing source", bind(specs.Mount{HostPath: "/missing", ContainerPath: "/a"}), "no such file"},
		{"the container's root", bind(specs.Mount{HostPath: "/a", ContainerPath: "/b/.."}), "root cannot be mounted over"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Apply(given(), []Edits{{"v.com/gpu=0", tc.edits}}, testPlatform())
			if grpccode.Of(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "CDI device v.com/gpu=0") || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want FailedPrecondition with the device and %q", err, tc.says)
			}
		})
	}
}

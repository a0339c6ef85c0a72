package criconfig

import (
	"context"
	"io/fs"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// disks are volumes by name.
type disks map[string]volume.Path

func (d disks) Path(_ *v1.Pod, name string) (volume.Path, error) { return d[name], nil }

func (d disks) SubPath(context.Context, *v1.Pod, string, int, string, string) (string, error) {
	return "", nil
}

func (d disks) MountPoints(context.Context, *v1.Pod, *v1.Container) error { return nil }

func (disks) Groups(*v1.Pod) []int64 { return nil }

func (d disks) ReadFile(context.Context, *v1.Pod, string, string, int64) ([]byte, error) {
	return nil, fs.ErrNotExist
}

func TestBlockVolumesAreDevices(t *testing.T) {
	have := disks{"disk": {Host: "/dev/a", Block: true}, "kept": {Host: "/dev/b", Block: true, ReadOnly: true}, "dir": {Host: "/d"}}
	c := &v1.Container{Name: "c", VolumeDevices: []v1.VolumeDevice{{Name: "disk", DevicePath: "/dev/x"}, {Name: "kept", DevicePath: "/dev/y"}}}
	got, err := Container(t.Context(), &v1.Pod{}, c, ContainerInput{Volumes: have})
	if err != nil {
		t.Fatal(err)
	}
	if d := got.Devices; len(d) != 2 || d[0].HostPath != "/dev/a" || d[0].ContainerPath != "/dev/x" || d[0].Permissions != "mrw" || d[1].Permissions != "mr" {
		t.Errorf("devices %v", d)
	}
	c.VolumeDevices = []v1.VolumeDevice{{Name: "dir", DevicePath: "/dev/x"}}
	if _, err := Container(t.Context(), &v1.Pod{}, c, ContainerInput{Volumes: have}); err == nil || err.Error() != `volume "dir" of container "c" is not a block device` {
		t.Errorf("error %v", err)
	}
}

func TestWhatThePodHasIsInThePlaceOfWhatAPlugInGives(t *testing.T) {
	have := disks{"disk": {Host: "/dev/a", Block: true}, "dir": {Host: "/d"}}
	c := &v1.Container{
		Name: "c", VolumeDevices: []v1.VolumeDevice{{Name: "disk", DevicePath: "/dev/x"}},
		VolumeMounts: []v1.VolumeMount{{Name: "dir", MountPath: "/data"}},
	}
	given := func(types.UID, string) Devices {
		return Devices{
			Mounts: []*cri.Mount{{HostPath: "/p1", ContainerPath: "/data/"}, {HostPath: "/p2", ContainerPath: "/lib"}, {HostPath: "/p3", ContainerPath: "/lib/"}},
			Nodes:  []*cri.Device{{HostPath: "/dev/p", ContainerPath: "/dev//x"}, {HostPath: "/dev/q", ContainerPath: "/dev/y"}},
		}
	}
	got, err := Container(t.Context(), &v1.Pod{}, c, ContainerInput{Volumes: have, Node: NodeConfig{Devices: given}})
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, m := range got.Mounts {
		hosts = append(hosts, m.HostPath)
	}
	for _, d := range got.Devices {
		hosts = append(hosts, d.HostPath)
	}
	if want := []string{"/p3", "/d", "/dev/q", "/dev/a"}; !slices.Equal(hosts, want) {
		t.Errorf("it has %q, want %q", hosts, want)
	}
}

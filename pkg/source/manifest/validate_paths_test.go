package manifest

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

func TestAPathInAVolumeIsNoLongerThanLinuxTakes(t *testing.T) {
	longest := strings.Repeat("a/", bounds.MaxPath/2) + "n"
	for path, want := range map[string]string{
		longest:                     "",
		longest + "n":               "x: Too long: may not be more than 4095 bytes",
		longest + "/":               "", // it is cleaned
		strings.Repeat("/a", 1<<20): "x: Too long: may not be more than 4095 bytes",
	} {
		err := validateLocalPath(path, field.NewPath("x")).ToAggregate()
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%d bytes: %.300v, want %s", len(path), err, want)
		}
	}
}

func TestDevicesThatAreMountedAsWell(t *testing.T) {
	claim := &v1.Volume{VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}}
	s := &containerSet{volumes: map[string]*v1.Volume{"a": claim, "b": claim}}
	c := &v1.Container{
		VolumeMounts:  []v1.VolumeMount{{Name: "a", MountPath: "/a"}, {Name: "a", MountPath: "/b"}},
		VolumeDevices: []v1.VolumeDevice{{Name: "a", DevicePath: "/x"}, {Name: "b", DevicePath: "/b"}},
	}
	var got []string
	for _, e := range s.validateDevices(c, field.NewPath("d")) {
		got = append(got, e.Error())
	}
	want := []string{
		`d[0].name: Invalid value: "a": must not already exist in volumeMounts`,
		`d[1].devicePath: Invalid value: "/b": must not already exist as a path in volumeMounts`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Comparing each with each takes minutes.
func TestVeryManyDevicesAndMounts(t *testing.T) {
	s := &containerSet{volumes: map[string]*v1.Volume{}}
	c := &v1.Container{}
	for i := range 200_000 {
		name := fmt.Sprint("d", i)
		s.volumes[name] = &v1.Volume{VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}}
		c.VolumeDevices = append(c.VolumeDevices, v1.VolumeDevice{Name: name, DevicePath: "/dev/" + name})
		c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: "m", MountPath: "/mnt/" + name})
	}
	if errs := s.validateDevices(c, field.NewPath("d")); len(errs) > 0 {
		t.Errorf("%d errors, the first: %v", len(errs), errs[0])
	}
}

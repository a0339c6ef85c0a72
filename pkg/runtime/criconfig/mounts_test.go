package criconfig

import (
	"context"
	"errors"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// stuck is volumes in which no mount points can be made.
type stuck struct{ places }

func (stuck) MountPoints(context.Context, *v1.Pod, *v1.Container) error {
	return errors.New("the disk hangs")
}

func TestMountPointsAreMadeWithTheMounts(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Volumes: []v1.Volume{{Name: "v"}}}}
	c := &v1.Container{Name: "c"}
	if _, err := mounts(t.Context(), pod, c, ContainerInput{Volumes: stuck{}}, nil); err != nil {
		t.Errorf("a container without volumes: %v", err)
	}
	c.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
	if _, err := mounts(t.Context(), pod, c, ContainerInput{Volumes: stuck{}}, nil); err == nil || !strings.Contains(err.Error(), "the disk hangs") {
		t.Errorf("error %v", err)
	}
}

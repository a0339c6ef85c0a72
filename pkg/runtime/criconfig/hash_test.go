package criconfig

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestHashIsTheKubeletsSoThatItsContainersAreAdopted(t *testing.T) {
	c := &v1.Container{Name: "test_container", Image: "foo/image:v1", Args: []string{"/bin/sh", "-c", "echo abc"}}
	if got, want := HashContainer(c), uint64(0x8e45cbd0); got != want {
		t.Errorf("HashContainer = %#x, want %#x as the kubelet computes it", got, want)
	}
}

func TestHashCoversNameAndImageOnly(t *testing.T) {
	base := v1.Container{Name: "a", Image: "i:1"}
	other := base
	other.Command = []string{"x"}
	other.Env = []v1.EnvVar{{Name: "A", Value: "b"}}
	if HashContainer(&base) != HashContainer(&other) {
		t.Error("a change of command and env changed the hash")
	}
	other = base
	other.Image = "i:2"
	if HashContainer(&base) == HashContainer(&other) {
		t.Error("a change of image did not change the hash")
	}
	other = base
	other.Name = "b"
	if HashContainer(&base) == HashContainer(&other) {
		t.Error("a change of name did not change the hash")
	}
}

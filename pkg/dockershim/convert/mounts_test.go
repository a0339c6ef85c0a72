package convert

import (
	"errors"
	"io/fs"
	"reflect"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

func TestMissingSourcesAreToBeMade(t *testing.T) {
	p := testPlatform()
	got, _, missing, err := p.mounts([]*cri.Mount{
		{HostPath: "/there", ContainerPath: "/a"},
		{HostPath: "/gone", ContainerPath: "/b"},
		{HostPath: "/link", ContainerPath: "/c"},
		{HostPath: "/gone/x//y/", ContainerPath: "/d", Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
	}, nil)
	if err != nil || !reflect.DeepEqual(missing, []string{"/gone", "/gone/x/y"}) {
		t.Errorf("missing %q, %v", missing, err)
	}
	for i, source := range []string{"/there", "/gone", "/real", "/gone/x/y"} {
		if got[i].Source != source {
			t.Errorf("source of mount %d is %s, want %s", i, got[i].Source, source)
		}
	}
	p.RealPath = func(path string) (string, error) {
		switch path {
		case "/":
			return "/", nil
		case "/run":
			return "/real", nil
		case "/file/x":
			return "", &fs.PathError{Op: "lstat", Path: path, Err: syscall.ENOTDIR}
		}
		return "", fs.ErrNotExist
	}
	got, _, missing, err = p.mounts([]*cri.Mount{{HostPath: "/run/a/b", ContainerPath: "/x"}}, nil)
	if err != nil || !reflect.DeepEqual(missing, []string{"/real/a/b"}) || got[0].Source != "/real/a/b" {
		t.Errorf("below a link: %q, %+v, %v", missing, got, err)
	}
	if _, _, _, err = p.mounts([]*cri.Mount{{HostPath: "/file/x/y", ContainerPath: "/x"}}, nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// Docker's older form, which can relabel, names no propagation either.
func TestBindOptions(t *testing.T) {
	for want, m := range map[string]*cri.Mount{
		"Z":           {},
		"ro,Z":        {Readonly: true},
		"Z,rslave":    {Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		"ro,Z,rslave": {Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
	} {
		if got := bindOptions(m, propagations[m.Propagation]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The older form separates its parts by colons: one within a path would shift the others.
func TestAPathThatIsRelabelledHasNoColon(t *testing.T) {
	for _, m := range []*cri.Mount{
		{HostPath: "/there:/etc:rw", ContainerPath: "/a", Readonly: true}, {HostPath: "/there", ContainerPath: "/a:/b"}, {HostPath: "/colon", ContainerPath: "/a"},
	} {
		for _, selinux := range []bool{false, true} {
			m.SelinuxRelabel = true
			p := testPlatform()
			p.SELinux = selinux
			p.RealPath = func(path string) (string, error) {
				if path == "/colon" { // a link
					return "/re:al", nil
				}
				return path, nil
			}
			mounts, binds, _, err := p.mounts([]*cri.Mount{m}, nil)
			if selinux && grpccode.Of(err) != codes.InvalidArgument || !selinux && (err != nil || len(mounts) != 1 || mounts[0].Target != m.ContainerPath) {
				t.Errorf("%s on %s, SELinux %v: %v, %v, %v", m.HostPath, m.ContainerPath, selinux, mounts, binds, err)
			}
		}
	}
}

func TestPropagationComesBack(t *testing.T) {
	for given, want := range map[mount.Propagation]cri.MountPropagation{
		"":                        cri.MountPropagation_PROPAGATION_PRIVATE,
		mount.PropagationRPrivate: cri.MountPropagation_PROPAGATION_PRIVATE,
		mount.PropagationRSlave:   cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
		mount.PropagationRShared:  cri.MountPropagation_PROPAGATION_BIDIRECTIONAL,
	} {
		if got := criMount(container.MountPoint{Propagation: given}).Propagation; got != want {
			t.Errorf("%q comes back as %v, want %v", given, got, want)
		}
	}
}

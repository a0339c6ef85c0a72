package cdi

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"google.golang.org/grpc/codes"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/specs-go"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// Remedy is what an operator does about a device that Docker's create call has no words for.
const Remedy = `let Docker itself give CDI devices, which takes Docker 28.2 or newer, or 25.0 with "features": {"cdi": true} in its daemon.json`

// Platform is what Apply must know of Docker and of the machine.
type Platform struct {
	// Node returns the device node of a path, following links; an error if it is none or does not exist.
	Node func(path string) (Node, error)
	// RealPath resolves the source of a mount, which must exist.
	RealPath func(path string) (string, error)
	// ReadOnlyNonRecursive: Docker's read-only mounts are recursive, unless this is said (since 25.0).
	ReadOnlyNonRecursive bool
	// RecursiveReadOnly: mounts can be read-only recursively.
	RecursiveReadOnly bool
}

// Apply changes what Docker is to create so that the container has the devices. Later edits rule over earlier
// ones and over what is there: a variable of the same name, a device or a mount at the same path is replaced, as
// CDI has it. What cannot be had of Docker is a refusal with FailedPrecondition, and spec is then half changed.
func Apply(spec *docker.ContainerSpec, edits []Edits, p Platform) error {
	for _, e := range edits {
		if err := p.apply(spec, e.ContainerEdits); err != nil {
			return grpccode.Refused(codes.FailedPrecondition, "config.CDI_devices: CDI device %s: %v", e.Device, err)
		}
	}
	return nil
}

func (p Platform) apply(spec *docker.ContainerSpec, e specs.ContainerEdits) error {
	if err := inexpressible(e); err != nil {
		return err
	}
	for _, v := range e.Env {
		spec.Config.Env = setVariable(spec.Config.Env, v)
	}
	for _, d := range e.DeviceNodes {
		mapping, err := p.device(d)
		if err != nil {
			return fmt.Errorf("device node %s: %w", d.Path, err)
		}
		spec.Host.Devices = append(slices.DeleteFunc(spec.Host.Devices, func(have container.DeviceMapping) bool {
			return filepath.Clean(have.PathInContainer) == mapping.PathInContainer
		}), mapping)
	}
	for _, m := range e.Mounts {
		made, err := p.mount(m)
		if err != nil {
			return fmt.Errorf("mount of %s at %s: %w", m.HostPath, m.ContainerPath, err)
		}
		unmount(spec.Host, made.Target)
		spec.Host.Mounts = append(spec.Host.Mounts, made)
	}
	for _, gid := range e.AdditionalGIDs {
		group := strconv.FormatUint(uint64(gid), 10)
		if gid != 0 && !slices.Contains(spec.Host.GroupAdd, group) { // 0 is ignored: so says the specification
			spec.Host.GroupAdd = append(spec.Host.GroupAdd, group)
		}
	}
	return nil
}

// inexpressible refuses kinds of edits for which Docker's create call has nothing.
func inexpressible(e specs.ContainerEdits) error {
	switch {
	case len(e.Hooks) > 0:
		return fmt.Errorf("needs the hook %s (%s), and Docker runs no hooks for us: %s", e.Hooks[0].HookName, e.Hooks[0].Path, Remedy)
	case len(e.NetDevices) > 0:
		return fmt.Errorf("moves the network interface %s into the container, which cannot be asked of Docker: %s", e.NetDevices[0].HostInterfaceName, Remedy)
	case e.IntelRdt != nil:
		return fmt.Errorf("sets intelRdt, which cannot be asked of Docker: %s", Remedy)
	}
	return nil
}

// setVariable puts a NAME=value into an environment, in the place of one of that name.
func setVariable(env []string, v string) []string {
	name, _, _ := strings.Cut(v, "=")
	for i, have := range env {
		if n, _, _ := strings.Cut(have, "="); n == name {
			env[i] = v
			return env
		}
	}
	return append(env, v)
}

// Node is a device node of the host.
type Node struct {
	Type         string // "b" or "c"
	Major, Minor int64
	Mode         uint32 // permission bits
	UID, GID     uint32
}

// device converts a device node. Docker makes nodes as they are on the host, and asks for a path to one: what a
// file says of type, number, mode and owner must be what is there.
func (p Platform) device(d *specs.DeviceNode) (container.DeviceMapping, error) {
	m := container.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: filepath.Clean(d.Path), CgroupPermissions: d.Permissions}
	if m.PathOnHost == "" {
		m.PathOnHost = d.Path
	}
	if !filepath.IsAbs(m.PathOnHost) || !filepath.IsAbs(d.Path) {
		return m, fmt.Errorf("its path, and that on the host, must be absolute")
	}
	switch d.Permissions {
	case "":
		m.CgroupPermissions = "rwm"
	case cdi.NoPermissions:
		return m, fmt.Errorf("permissions %q cannot be asked of Docker: %s", d.Permissions, Remedy)
	}
	if d.Type == "p" {
		return m, fmt.Errorf("a FIFO cannot be asked of Docker: %s", Remedy)
	}
	have, err := p.Node(m.PathOnHost)
	if err != nil {
		return m, err
	}
	kind := d.Type
	if kind == "u" { // a "c" without a buffer
		kind = "c"
	}
	if kind == "" {
		kind = have.Type
	}
	if kind != have.Type || d.Major != 0 && (d.Major != have.Major || d.Minor != have.Minor) {
		return m, fmt.Errorf("is to be %s %d:%d, but %s is %s %d:%d on this machine, and Docker makes no other: %s",
			kind, d.Major, d.Minor, m.PathOnHost, have.Type, have.Major, have.Minor, Remedy)
	}
	if d.FileMode != nil && uint32(d.FileMode.Perm()) != have.Mode&0o777 ||
		d.UID != nil && *d.UID != have.UID || d.GID != nil && *d.GID != have.GID {
		return m, fmt.Errorf("is to have another mode or owner than %s, which cannot be asked of Docker: change them on the host, or %s", m.PathOnHost, Remedy)
	}
	return m, nil
}

// propagations are the options of a mount that say who sees mounts below it.
var propagations = map[string]mount.Propagation{
	"private": mount.PropagationPrivate, "rprivate": mount.PropagationRPrivate,
	"shared": mount.PropagationShared, "rshared": mount.PropagationRShared,
	"slave": mount.PropagationSlave, "rslave": mount.PropagationRSlave,
}

// mount converts a mount, which is a bind mount. Later options rule over earlier ones, as in mount(8).
func (p Platform) mount(m *specs.Mount) (mount.Mount, error) {
	out := mount.Mount{Type: mount.TypeBind, Target: filepath.Clean(m.ContainerPath), BindOptions: &mount.BindOptions{}}
	if !slices.Contains([]string{"", "bind", "none"}, m.Type) {
		return out, fmt.Errorf("type %q: only bind mounts can be asked of Docker: %s", m.Type, Remedy)
	}
	if !filepath.IsAbs(m.HostPath) || !filepath.IsAbs(m.ContainerPath) || out.Target == "/" {
		return out, fmt.Errorf("both paths must be absolute, and the container's root cannot be mounted over")
	}
	recursive := false
	for _, option := range m.Options {
		propagation, ok := propagations[option]
		switch {
		case ok:
			out.BindOptions.Propagation = propagation
		case option == "bind":
			out.BindOptions.NonRecursive = true
		case option == "rbind":
			recursive = true
		case option == "ro", option == "rw", option == "rro":
			out.ReadOnly = option != "rw"
			out.BindOptions.ReadOnlyForceRecursive = option == "rro"
		default:
			return out, fmt.Errorf("the option %s cannot be asked of Docker: %s", option, Remedy)
		}
	}
	if recursive {
		out.BindOptions.NonRecursive = false
	}
	if out.BindOptions.ReadOnlyForceRecursive && !p.RecursiveReadOnly {
		return out, fmt.Errorf("the option rro needs Docker 25.0 and Linux 5.12, or newer")
	}
	if out.BindOptions.ReadOnlyForceRecursive {
		// A mount that came in by propagation later would be writable; Docker asks for it by name.
		out.BindOptions.Propagation = mount.PropagationRPrivate
	}
	if out.ReadOnly && !out.BindOptions.ReadOnlyForceRecursive {
		out.BindOptions.ReadOnlyNonRecursive = p.ReadOnlyNonRecursive
	}
	var err error
	out.Source, err = p.RealPath(m.HostPath)
	return out, err
}

// unmount takes away what was to be mounted at a path.
func unmount(host *container.HostConfig, target string) {
	host.Mounts = slices.DeleteFunc(host.Mounts, func(m mount.Mount) bool { return filepath.Clean(m.Target) == target })
	host.Binds = slices.DeleteFunc(host.Binds, func(b string) bool { // source:target[:options], without ':' in either path
		f := strings.Split(b, ":")
		return len(f) > 1 && filepath.Clean(f[1]) == target
	})
}

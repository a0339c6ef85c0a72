package devicemanager

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// What one plug-in may say. The kubelet has no bounds but gRPC's own, which is maxMessage.
const (
	maxMessage = 4 << 20 // bytes of one message
	maxDevices = 1 << 16 // of one resource; some plug-ins count memory in devices
	maxID      = 1 << 10 // bytes of a device's ID
	maxPlugins = 256     // registered at a time

	// maxResources is how many resources there may be in the life of an agent. What a plug-in has registered once stays
	// in the node's status, so one that has a new name each time would make that grow without end.
	maxResources = 256

	maxItems    = 1 << 10 // of each kind in an answer to Allocate
	maxValue    = 64 << 10
	maxCDIName  = 512
	maxEndpoint = 100 // bytes of a socket's name
)

// device is one device as its plug-in describes it.
type device struct {
	healthy bool
	nodes   numa.Set // empty: it belongs to none
}

// checkName refuses what is no extended resource.
func checkName(resource string) error {
	if len(resource) > validation.DNS1123SubdomainMaxLength+validation.LabelValueMaxLength+1 || !pods.IsExtendedResource(v1.ResourceName(resource)) {
		return fmt.Errorf("the ResourceName %q is invalid", bounds.Quote(resource))
	}
	return nil
}

// checkVersions requires the version that is spoken here.
func checkVersions(versions ...string) error {
	for _, v := range versions {
		if v == api.Version {
			return nil
		}
	}
	return fmt.Errorf("requested API version %s is not supported by kubelet. Supported version is %q",
		bounds.Quote(fmt.Sprintf("%q", versions)), api.SupportedVersions)
}

// checkEndpoint refuses a socket that is not below the directory of sockets.
func checkEndpoint(name string) error {
	if len(name) > maxEndpoint || !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("the endpoint %q is no name of a socket below the directory of device plug-ins", bounds.Quote(name))
	}
	return nil
}

// devicesOf reads a list of devices.
func devicesOf(list []*api.Device) (map[string]device, error) {
	if len(list) > maxDevices {
		return nil, fmt.Errorf("it lists %d devices, more than %d", len(list), maxDevices)
	}
	all := make(map[string]device, len(list))
	for _, d := range list {
		if d.GetID() == "" || len(d.ID) > maxID {
			return nil, fmt.Errorf("it lists a device with the ID %q", bounds.Quote(d.GetID()))
		}
		if _, twice := all[d.ID]; twice {
			return nil, fmt.Errorf("it lists device %q twice", bounds.Quote(d.ID))
		}
		is := device{healthy: d.Health == api.Healthy}
		for _, n := range d.GetTopology().GetNodes() {
			if n.GetID() >= 0 && n.GetID() < numa.MaxNodes { // some plug-ins say -1 for none
				is.nodes |= numa.Of(int(n.GetID()))
			}
		}
		all[d.ID] = is
	}
	return all, nil
}

// checkResponse returns what a plug-in's answer gives to the one container that was asked for, if all of it can be
// given to a runtime.
func checkResponse(r *api.AllocateResponse) (*api.ContainerAllocateResponse, error) {
	if n := len(r.GetContainerResponses()); n != 1 {
		return nil, fmt.Errorf("it answers for %d containers instead of one", n)
	}
	c := r.ContainerResponses[0]
	if c == nil {
		return nil, errors.New("it answers with nothing")
	}
	for what, n := range map[string]int{"variables": len(c.Envs), "mounts": len(c.Mounts), "device nodes": len(c.Devices), "annotations": len(c.Annotations), "CDI devices": len(c.CdiDevices)} {
		if n > maxItems {
			return nil, fmt.Errorf("it gives %d %s, more than %d", n, what, maxItems)
		}
	}
	for name, value := range c.Envs {
		if len(validation.IsRelaxedEnvVarName(name)) > 0 || len(name)+len(value) > maxValue || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("it gives a variable %q that no container can have", bounds.Quote(name))
		}
	}
	for name, value := range c.Annotations {
		if name == "" || len(name)+len(value) > maxValue {
			return nil, fmt.Errorf("it gives an annotation %q that is empty or too long", bounds.Quote(name))
		}
	}
	for _, m := range c.Mounts {
		if err := errors.Join(checkPath(m.GetHostPath()), checkPath(m.GetContainerPath())); err != nil {
			return nil, fmt.Errorf("it gives a mount: %w", err)
		}
	}
	for _, d := range c.Devices {
		if err := errors.Join(checkPath(d.GetHostPath()), checkPath(d.GetContainerPath())); err != nil {
			return nil, fmt.Errorf("it gives a device node: %w", err)
		}
		if strings.Trim(d.GetPermissions(), "rwm") != "" || len(d.GetPermissions()) > 3 {
			return nil, fmt.Errorf("it gives a device node with permissions %q: want some of r, w and m", bounds.Quote(d.GetPermissions()))
		}
	}
	for _, d := range c.CdiDevices {
		if !isCDIName(d.GetName()) {
			return nil, fmt.Errorf("it gives %q, which is no fully qualified name of a CDI device (vendor/class=name)", bounds.Quote(d.GetName()))
		}
	}
	return c, nil
}

func checkPath(p string) error {
	if err := bounds.NewPath(p); err != nil {
		return err
	}
	if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%q is no absolute path", bounds.Quote(p))
	}
	return nil
}

// isCDIName reports whether a name has the form vendor/class=name. The runtime knows which there are.
func isCDIName(name string) bool {
	vendor, rest, _ := strings.Cut(name, "/")
	class, device, _ := strings.Cut(rest, "=")
	return vendor != "" && class != "" && device != "" && len(name) <= maxCDIName && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

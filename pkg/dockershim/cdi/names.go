package cdi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// Names returns the devices that a container is to have, vendor/class=name each, none twice: those of
// CDI_devices in their order, then, as containerd has it, those of annotations that begin with cdi.k8s.io/,
// which older clients set.
func Names(c *cri.ContainerConfig) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	add := func(field, name string) error {
		if _, _, _, err := parser.ParseQualifiedName(name); err != nil {
			return grpccode.Invalid(field, "%q is no CDI device: want vendor/class=name", bounds.Quote(name))
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
		return nil
	}
	for i, d := range c.GetCDIDevices() {
		if err := add(fmt.Sprintf("config.CDI_devices[%d].name", i), d.GetName()); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.GetAnnotations())) {
		if !strings.HasPrefix(key, cdi.AnnotationPrefix) {
			continue
		}
		for name := range strings.SplitSeq(c.Annotations[key], ",") {
			if err := add("config.annotations["+bounds.Quote(key)+"]", name); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

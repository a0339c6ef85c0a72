package podfields

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// only refuses every value but one.
func only(want any, why string) func(reflect.Value) string {
	return func(v reflect.Value) string {
		if fmt.Sprint(v.Interface()) == fmt.Sprint(want) {
			return ""
		}
		return fmt.Sprintf("%v: %s", v.Interface(), why)
	}
}

// either accepts these values.
func either(why string, wanted ...string) func(reflect.Value) string {
	return func(v reflect.Value) string {
		if slices.Contains(wanted, fmt.Sprint(v.Interface())) {
			return ""
		}
		return fmt.Sprintf("%v: %s", v.Interface(), why)
	}
}

// resources refuses amounts that nothing on this node would enforce.
func resources(v reflect.Value) string {
	list, ok := v.Interface().(v1.ResourceList)
	if !ok {
		return "not a list of resources"
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if q := list[name]; q.IsZero() {
			continue
		}
		switch {
		case name == v1.ResourceCPU || name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage:
		case pods.IsHugePages(name):
			// Admission knows whether this kernel can limit them.
		case pods.IsExtendedResource(name):
			// Of the node, or of the cluster: admission knows.
		default:
			return fmt.Sprintf("%s: no such resource is known", name)
		}
	}
	return ""
}

// Package downward answers what a pod may ask about itself: the fields of fieldRef
// and resourceFieldRef, as text. It is called for environment variables (criconfig)
// and downwardAPI volumes (volume). Pure functions.
package downward

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Addresses are the values of status fields, primary first; a pod has IPs only once
// its sandbox runs.
type Addresses struct {
	HostIPs []string
	PodIPs  []string
}

// Field returns the value of a fieldRef's path. Unknown paths are an error.
func Field(pod *v1.Pod, path string, at Addresses) (string, error) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", name)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.annotations":
		return lines(pod.Annotations), nil
	case "metadata.labels":
		return lines(pod.Labels), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(at.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(at.HostIPs, ","), nil
	case "status.podIP":
		return first(at.PodIPs), nil
	case "status.podIPs":
		return strings.Join(at.PodIPs, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

// subscript splits metadata.labels['key'] into path and key.
func subscript(path string) (name, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "['")
}

// lines writes a map as key="quoted value" lines, sorted.
func lines(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(out, "\n")
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// Resource returns a container's request or limit in units of the divisor,
// rounded up. A container without a limit is limited by what the node can allocate.
// When ref names no container, own is meant.
func Resource(pod *v1.Pod, own string, ref *v1.ResourceFieldSelector, allocatable v1.ResourceList) (string, error) {
	name := ref.ContainerName
	if name == "" {
		name = own
	}
	c, _ := pods.Container(pod, name)
	if c == nil {
		return "", fmt.Errorf("container %s not found", name)
	}
	kind, res, ok := strings.Cut(ref.Resource, ".")
	var list v1.ResourceList
	switch {
	case ok && kind == "limits":
		list = withNodeLimits(c.Resources.Limits, allocatable)
	case ok && kind == "requests":
		list = c.Resources.Requests
	default:
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	r := v1.ResourceName(res)
	if r != v1.ResourceCPU && r != v1.ResourceMemory && r != v1.ResourceEphemeralStorage &&
		!pods.IsHugePages(r) {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	q, divisor := list[r], ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if divisor.Sign() < 0 {
		return "", fmt.Errorf("divisor %s of %s is negative", divisor.String(), ref.Resource)
	}
	if r == v1.ResourceCPU {
		return ceil(q.MilliValue(), divisor.MilliValue()), nil
	}
	return ceil(q.Value(), divisor.Value()), nil
}

func ceil(n, by int64) string {
	out := n / by
	if n%by > 0 {
		out++
	}
	return strconv.FormatInt(out, 10)
}

func withNodeLimits(limits, allocatable v1.ResourceList) v1.ResourceList {
	merged := maps.Clone(limits)
	if merged == nil {
		merged = v1.ResourceList{}
	}
	for _, r := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage} {
		if q, set := merged[r]; !set || q.IsZero() {
			if a, ok := allocatable[r]; ok {
				merged[r] = a
			}
		}
	}
	return merged
}

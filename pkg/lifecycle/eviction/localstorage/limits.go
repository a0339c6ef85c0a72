package localstorage

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/tree"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// What can be exceeded, as the kubelet's metric names it.
const (
	emptyDirLimit  = "emptydirfs.limit"
	podLimit       = "ephemeralpodfs.limit"
	containerLimit = "ephemeralcontainerfs.limit"
)

// limits are a pod's limits on what it may occupy.
type limits struct {
	emptyDirs  map[string]apiresource.Quantity // sizeLimit by volume
	containers map[string]apiresource.Quantity // by container: sidecars and regular ones
	pod        *apiresource.Quantity           // sum of the containers'; nil: none of them has one
}

// limitsOf reads the limits in a pod's spec. An emptyDir in memory is not among
// them: the kernel bounds it (package volume).
func limitsOf(pod *v1.Pod) limits {
	l := limits{emptyDirs: map[string]apiresource.Quantity{}, containers: map[string]apiresource.Quantity{}}
	for _, v := range pod.Spec.Volumes {
		if e := v.EmptyDir; e != nil && e.Medium != v1.StorageMediumMemory && e.SizeLimit != nil && e.SizeLimit.Sign() > 0 {
			l.emptyDirs[v.Name] = *e.SizeLimit
		}
	}
	for kind, c := range pods.Containers(pod) {
		if q := c.Resources.Limits.StorageEphemeral(); kind != pods.InitContainer && !q.IsZero() {
			l.containers[c.Name] = *q
		}
	}
	if q, ok := resource.PodLimits(pod, resource.PodResourcesOptions{})[v1.ResourceEphemeralStorage]; ok {
		l.pod = &q
	}
	return l
}

// none reports whether the pod has no limits.
func (l limits) none() bool { return len(l.emptyDirs) == 0 && !l.ofContainers() }

// ofContainers reports whether containers are limited, not only volumes.
func (l limits) ofContainers() bool { return l.pod != nil || len(l.containers) > 0 }

// use is what a pod occupies, in bytes.
type use struct {
	emptyDirs  map[string]uint64 // only volumes with a limit
	tooDeep    map[string]bool   // volumes that count and are too deep to be measured completely
	containers map[string]uint64 // running ones: logs, and the writable layer if it is on the node's own disk
	total      uint64            // containers, the pod's own volumes, its hosts file
}

// excess is a limit that is exceeded.
type excess struct{ signal, message string }

// exceeded returns the first limit that a pod exceeds, nil if it exceeds none, in the
// kubelet's order and words: volumes, the pod, containers. A volume that is too deep to
// be measured exceeds any limit: only somebody who wants to hide from the limit makes so
// many levels.
func exceeded(pod *v1.Pod, l limits, u use) *excess {
	beyond := func(used uint64, limit apiresource.Quantity) bool {
		return apiresource.NewQuantity(int64(used), apiresource.BinarySI).Cmp(limit) > 0
	}
	for _, v := range pod.Spec.Volumes {
		limit, ok := l.emptyDirs[v.Name]
		if ok && u.tooDeep[v.Name] {
			return &excess{emptyDirLimit, fmt.Sprintf("EmptyDir volume %q cannot be measured against its limit %q: %v. ", v.Name, limit.String(), tree.ErrTooDeep)}
		}
		if ok && beyond(u.emptyDirs[v.Name], limit) {
			return &excess{emptyDirLimit, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())}
		}
	}
	for _, v := range pod.Spec.Volumes {
		if l.pod != nil && u.tooDeep[v.Name] {
			return &excess{podLimit, fmt.Sprintf("Volume %q cannot be measured against the total limit of containers %s: %v. ", v.Name, l.pod.String(), tree.ErrTooDeep)}
		}
	}
	if l.pod != nil && beyond(u.total, *l.pod) {
		return &excess{podLimit, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", l.pod.String())}
	}
	for _, c := range pods.Containers(pod) {
		if limit, ok := l.containers[c.Name]; ok && beyond(u.containers[c.Name], limit) {
			return &excess{containerLimit, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())}
		}
	}
	return nil
}

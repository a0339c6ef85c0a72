package volume

import (
	"math"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// gidAnnotation of a persistent volume names the group whose files lie on it: the processes of
// pods that have the volume are in that group.
const gidAnnotation = "pv.beta.kubernetes.io/gid"

// Groups returns the groups that the pod's processes are to be in because of its persistent
// volumes, sorted. It does not look at the disk: what was not set up yet is not counted. What is
// no group is ignored, as with the kubelet.
func (m *Manager) Groups(pod *v1.Pod) []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var groups []int64
	for name, pv := range m.bindings[pod.UID] {
		text, set := pv.Annotations[gidAnnotation]
		if !set || text == "" {
			continue
		}
		gid, err := strconv.ParseInt(text, 10, 64)
		if err != nil || gid < 0 || gid > math.MaxInt32 {
			klog.V(2).InfoS("The annotation of a persistent volume is no group", "annotation", gidAnnotation, "pod", klog.KObj(pod), "podUID", pod.UID, "volume", name)
			continue
		}
		groups = append(groups, gid)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

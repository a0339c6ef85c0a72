package cgroup

import (
	"errors"
	"fmt"
	"path"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// name is a cgroup's path below the root of all cgroups, one element per level.
type name []string

func (n name) child(element string) name {
	return append(n[:len(n):len(n)], element)
}

// Layout says where the cgroups of pods are. Make it with NewLayout.
type Layout struct {
	root    name // all pods
	systemd bool
}

// Elements of the names, as in the kubelet.
const (
	allPods    = "kubepods"
	burstable  = "burstable"
	bestEffort = "besteffort"
	podPrefix  = "pod"
	slice      = ".slice"
)

// NewLayout places the pods' cgroups below cgroupRoot, a path from the root of all
// cgroups ("" and "/" are that root). With systemd the path stands for the slices'
// names: "/a/b" is a-b.slice.
func NewLayout(cgroupRoot string, systemd bool) (Layout, error) {
	var root name
	for e := range strings.SplitSeq(cgroupRoot, "/") {
		switch {
		case e == "":
		case e == "." || e == "..":
			return Layout{}, fmt.Errorf("cgroupRoot %q leads out of itself", cgroupRoot)
		case systemd && strings.Contains(e, "_"):
			return Layout{}, fmt.Errorf("cgroupRoot %q: '_' stands for '-' in names of systemd's slices", cgroupRoot)
		default:
			root = append(root, e)
		}
	}
	return Layout{root: root.child(allPods), systemd: systemd}, nil
}

// qos is the parent of the cgroups of pods in that class.
func (l Layout) qos(class v1.PodQOSClass) name {
	switch class {
	case v1.PodQOSBurstable:
		return l.root.child(burstable)
	case v1.PodQOSBestEffort:
		return l.root.child(bestEffort)
	}
	return l.root
}

func (l Layout) pod(pod *v1.Pod) name {
	return l.qos(pods.QOSClass(pod)).child(podPrefix + string(pod.UID))
}

// Parent is the pod's cgroup in the form of CRI's cgroup_parent: its path from the
// root of all cgroups, even with systemd.
func (l Layout) Parent(pod *v1.Pod) string { return l.path(l.pod(pod)) }

// path is the cgroup's path below a hierarchy's mount.
func (l Layout) path(n name) string {
	if !l.systemd {
		return "/" + path.Join(n...)
	}
	p, unit := "/", ""
	for _, e := range n {
		if unit != "" {
			unit += "-"
		}
		// '-' separates levels in a slice's name.
		unit += strings.ReplaceAll(e, "-", "_")
		p = path.Join(p, unit+slice)
	}
	return p
}

// unit returns the slice's name and its parent's, as given to systemd.
func (l Layout) unit(n name) (parent, unit string) {
	dir, unit := path.Split(l.path(n))
	if dir == "/" {
		return "-.slice", unit
	}
	return path.Base(dir), unit
}

// uid takes the UID from the name of a directory below parent, if it is a pod's
// cgroup.
func (l Layout) uid(parent name, dir string) (types.UID, error) {
	if l.systemd {
		_, unit := l.unit(parent)
		rest, ok := strings.CutPrefix(strings.TrimSuffix(dir, slice), strings.TrimSuffix(unit, slice)+"-")
		if !ok || !strings.HasSuffix(dir, slice) {
			return "", errNotPod
		}
		dir = strings.ReplaceAll(rest, "_", "-")
	}
	uid, ok := strings.CutPrefix(dir, podPrefix)
	if !ok || uid == "" {
		return "", errNotPod
	}
	return types.UID(uid), nil
}

var errNotPod = errors.New("not the cgroup of a pod")

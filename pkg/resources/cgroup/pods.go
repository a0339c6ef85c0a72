package cgroup

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/opencontainers/cgroups/systemd"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// Parent is the pod's cgroup as CRI's cgroup_parent names it.
func (t *Tree) Parent(pod *v1.Pod) string { return t.cfg.Layout.Parent(pod) }

// Root returns the path of the cgroup of all pods, as Parent does.
func (t *Tree) Root() string { return t.cfg.Layout.path(t.cfg.Layout.root) }

// Classes returns the paths of the cgroups of the QoS classes that have one.
func (t *Tree) Classes() []string {
	l := t.cfg.Layout
	return []string{l.path(l.qos(v1.PodQOSBurstable)), l.path(l.qos(v1.PodQOSBestEffort))}
}

// HugePageSizes returns the sizes of huge pages, in bytes, that the kernel can
// limit; none if it cannot.
func (t *Tree) HugePageSizes() []int64 { return t.kernel.hugePageSizes() }

// SetUp makes the pod's cgroup with the limits that the pod asks for. If the cgroup
// exists, SetUp raises its limits of CPU and memory but does not lower them, since
// what runs in it may still have more; Settle is called once it does not. Idempotent;
// it writes nothing if nothing has changed. For one pod, SetUp, Settle and Remove are
// called from one goroutine at a time.
func (t *Tree) SetUp(pod *v1.Pod) error {
	values := ForPod(pod, t.cfg.Pods)
	old, known := t.written(pod.UID)
	if known {
		return t.write(pod, widest(old.values, values))
	}
	err := t.write(pod, values)
	if err != nil && t.kernel.exists(t.cfg.Layout.pod(pod)) {
		// An earlier agent was about to lower the limits.
		open := values
		open.CPUQuota, open.Memory = ref[int64](noLimit), ref[int64](noLimit)
		return t.write(pod, open)
	}
	return err
}

// Settle gives the pod's cgroup exactly the limits that the pod asks for.
func (t *Tree) Settle(pod *v1.Pod) error { return t.write(pod, ForPod(pod, t.cfg.Pods)) }

func (t *Tree) write(pod *v1.Pod, values Values) error {
	old, known := t.written(pod.UID)
	if known && reflect.DeepEqual(values, old.values) {
		return nil
	}
	if err := t.kernel.write(t.cfg.Layout.pod(pod), values); err != nil {
		return err
	}
	t.mu.Lock()
	t.pods[pod.UID] = written{pod, values}
	t.mu.Unlock()
	klog.V(4).InfoS("Wrote the limits of a pod's cgroup", "pod", klog.KObj(pod), "podUID", pod.UID, "cgroup", t.Parent(pod))
	t.podsChanged()
	return nil
}

func (t *Tree) written(uid types.UID) (written, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.pods[uid]
	return w, ok
}

// widest returns the new values, with the higher of the two limits of CPU and
// memory.
func widest(old, values Values) Values {
	values.CPUQuota, values.Memory = higher(old.CPUQuota, values.CPUQuota), higher(old.Memory, values.Memory)
	return values
}

func higher(a, b *int64) *int64 {
	if a == nil || *b == noLimit || *a != noLimit && *b > *a {
		return b
	}
	return a
}

// Remove removes the cgroup of a pod that has no running container any more, and
// kills what is left in it. It succeeds if there is none.
func (t *Tree) Remove(uid types.UID) error {
	w, known := t.written(uid)
	if !known { // made by an earlier agent, if at all
		found, err := t.kernel.pods()
		if err != nil {
			return err
		}
		n, ok := found[uid]
		if !ok {
			return nil
		}
		return t.kernel.remove(n, true)
	}
	if err := t.kernel.remove(t.cfg.Layout.pod(w.pod), true); err != nil {
		return err
	}
	t.mu.Lock()
	delete(t.pods, uid)
	t.mu.Unlock()
	t.podsChanged()
	return nil
}

// Orphans removes the cgroups of pods that are gone. It kills nothing: a process in
// one may belong to a pod of another agent that was given the same cgroupRoot.
func (t *Tree) Orphans(ctx context.Context, gone func(types.UID) bool) error {
	found, err := t.kernel.pods()
	if err != nil {
		return err
	}
	var all error
	for uid, n := range found {
		_, live := t.written(uid)
		if live || ctx.Err() != nil || !gone(uid) {
			continue
		}
		if err := t.kernel.remove(n, false); err != nil {
			all = errors.Join(all, fmt.Errorf("orphaned pod %s: %w", uid, err))
			continue
		}
		klog.V(2).InfoS("Removed the cgroup of a pod that is gone", "podUID", uid, "cgroup", t.cfg.Layout.path(n))
	}
	return all
}

// Reset removes the cgroups of all pods below cgroupRoot and those above them, of
// both drivers, for a node that is being cleaned while no agent runs. It leaves
// cgroups that are in use, and returns an error that says so.
func Reset(cgroupRoot string) error {
	var all error
	for _, withSystemd := range []bool{false, true} {
		layout, err := NewLayout(cgroupRoot, withSystemd)
		if err != nil || withSystemd && !systemd.IsRunningSystemd() {
			continue // no agent can have made any
		}
		all = errors.Join(all, reset(newKernel(layout)))
	}
	return all
}

func reset(k *kernel) error {
	found, err := k.pods()
	if err != nil {
		return err
	}
	for _, n := range found {
		if err := k.remove(n, false); err != nil {
			return err
		}
	}
	for _, n := range []name{k.layout.qos(v1.PodQOSBurstable), k.layout.qos(v1.PodQOSBestEffort), k.layout.root} {
		if err := k.remove(n, false); err != nil {
			return err
		}
	}
	return nil
}

package kuberuntime

import (
	"cmp"
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// resizing is a running container whose limits are not what they should be.
type resizing struct {
	status *actual.ContainerStatus
	wanted *cri.LinuxContainerResources
}

// resizeOf compares the limits that a running container has, according to the
// runtime, with those that it should have; r is nil when they are the same or the
// runtime reports none. restart reports whether the container's resize policy asks
// for a restart.
func resizeOf(c *v1.Container, now *actual.ContainerStatus, wanted *cri.LinuxContainerResources) (r *resizing, restart bool) {
	has := now.Resources.GetLinux()
	if has == nil || wanted == nil {
		return nil, false
	}
	cpu := has.CpuShares != wanted.CpuShares || max(has.CpuQuota, 0) != max(wanted.CpuQuota, 0) ||
		wanted.CpuQuota > 0 && cmp.Or(has.CpuPeriod, 100_000) != wanted.CpuPeriod
	memory := max(has.MemoryLimitInBytes, 0) != max(wanted.MemoryLimitInBytes, 0)
	if !cpu && !memory {
		return nil, false
	}
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy == v1.RestartContainer && (p.ResourceName == v1.ResourceCPU && cpu || p.ResourceName == v1.ResourceMemory && memory) {
			restart = true
		}
	}
	return &resizing{now, wanted}, restart
}

// resizeTo returns the function that decides on the resize of the pod's containers.
// A static pod is not resized: a changed one is a different pod.
func (m *Manager) resizeTo(pod *v1.Pod) func(*v1.Container, *actual.ContainerStatus) (*resizing, bool) {
	if pods.IsStatic(pod) {
		return nil
	}
	return func(c *v1.Container, now *actual.ContainerStatus) (*resizing, bool) {
		return resizeOf(c, now, criconfig.Resources(pod, c, m.cfg.Node))
	}
}

func (v verdicts) resizeOf(c *v1.Container, now *actual.ContainerStatus) (*resizing, bool) {
	if v.resize == nil {
		return nil, false
	}
	return v.resize(c, now)
}

// resize gives running containers the limits that they should have.
func (p *pass) resize(ctx context.Context, all []*resizing) {
	if len(all) == 0 {
		return
	}
	began := p.m.cfg.Clock.Now()
	defer func() { p.m.metrics.resized(p.result.ResizeError == "", p.m.cfg.Clock.Since(began)) }()
	for _, r := range all {
		_, err := p.m.cfg.CRI.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{ContainerId: r.status.ID.ID, Linux: r.wanted})
		if err != nil {
			p.result.ResizeError = fmt.Sprintf("resize container %s: %s", r.status.Name, text(err))
			p.fail(fmt.Errorf("resize container %s: %w", r.status.Name, err))
			continue
		}
		p.result.Resized = true
		klog.V(2).InfoS("Resized container", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", r.status.Name, "containerID", r.status.ID)
	}
}

// keepCPUs moves a container that has just been started if it was created for CPUs
// that have changed since: some were given to another container meanwhile.
func (p *pass) keepCPUs(ctx context.Context, c *v1.Container, id, has string) {
	if p.m.cfg.Node.CPUs == nil {
		return
	}
	cpus, _ := p.m.cfg.Node.CPUs(p.pod.UID, c.Name)
	if cpus == has {
		return
	}
	_, err := p.m.cfg.CRI.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: &cri.LinuxContainerResources{CpusetCpus: cpus}})
	if err != nil {
		klog.ErrorS(err, "Could not move the container to other CPUs, will be tried again", "pod", klog.KObj(p.pod), "podUID", p.pod.UID, "containerName", c.Name, "cpus", cpus)
	}
}

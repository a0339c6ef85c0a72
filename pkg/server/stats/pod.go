package stats

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// pod returns what one sandbox and its containers use; ok is false if the sandbox
// does not belong to a pod that this node knows.
func (s *Source) pod(sandbox *cri.PodSandboxStats, d *disks, brief bool) (stats.PodStats, bool) {
	labels := sandbox.GetAttributes().GetLabels()
	uid := types.UID(labels[pods.LabelPodUID])
	pod, known := s.cfg.Pod(uid)
	if !known {
		return stats.PodStats{}, false
	}
	status, _ := s.cfg.Status(uid)
	p := stats.PodStats{
		PodRef:     stats.PodReference{Name: labels[pods.LabelPodName], Namespace: labels[pods.LabelPodNamespace], UID: string(uid)},
		Containers: []stats.ContainerStats{},
	}
	if status.StartTime != nil {
		p.StartTime = *status.StartTime
	}
	linux := sandbox.GetLinux()
	for _, c := range linux.GetContainers() {
		name := c.GetAttributes().GetMetadata().GetName()
		one := stats.ContainerStats{Name: name, StartTime: started(status, name), CPU: cpu(c.GetCpu()), Memory: memory(c.GetMemory())}
		if one.CPU == nil && one.Memory == nil {
			continue // it has ended
		}
		one.Swap = swap(c.GetSwap())
		if !brief {
			one.IO = io(c.GetIo())
			one.Rootfs = onDisk(layer(c.GetWritableLayer()), d.container)
			one.Logs = s.logs(pod, name, d.root)
		}
		p.Containers = append(p.Containers, one)
	}
	slices.SortFunc(p.Containers, func(a, b stats.ContainerStats) int { return strings.Compare(a.Name, b.Name) })
	p.CPU, p.Memory = cpu(linux.GetCpu()), memory(linux.GetMemory())
	if p.CPU == nil {
		p.CPU = sumCPU(p.Containers)
	}
	if p.Memory == nil {
		p.Memory = sumMemory(p.Containers)
	}
	p.Swap = sumSwap(p.Containers)
	if !brief {
		p.IO = io(linux.GetIo())
		p.VolumeStats = s.volumes(pod)
		p.EphemeralStorage = s.ephemeral(pod, p, d)
		p.Network = network(linux.GetNetwork())
		if n := linux.GetProcess().GetProcessCount(); n != nil {
			p.ProcessStats = &stats.ProcessStats{ProcessCount: &n.Value}
		}
	}
	return p, len(p.Containers) > 0 || p.CPU != nil
}

func started(s v1.PodStatus, container string) metav1.Time {
	for _, list := range [][]v1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.Name == container && c.State.Running != nil {
				return c.State.Running.StartedAt
			}
		}
	}
	return metav1.Time{}
}

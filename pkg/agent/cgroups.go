package agent

import (
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cgroup"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// memoryQoS says whose memory is protected and throttled (KEP-2570).
type memoryQoS struct {
	pods       bool                 // that of pods and QoS classes, through their cgroups
	containers *criconfig.MemoryQoS // that of containers, through the runtime; nil: not
}

// newMemoryQoS decides by what the configuration asks for and the host can do, and warns of what it cannot.
func newMemoryQoS(f *foundation, kernel string) memoryQoS {
	on, v2, docker := f.cfg.Enabled(config.MemoryQoS), cgroupV2(), f.engine.isDocker()
	// On by default: a host that cannot is worth a word only if something is asked for.
	asked := on && (f.cfg.MemoryThrottlingFactor != nil || reservesMemory(f.cfg))
	if asked && !v2 {
		klog.InfoS("Warning: MemoryQoS works only with cgroup v2: memoryThrottlingFactor and memoryReservationPolicy have no effect here")
	}
	if v, err := version.ParseGeneric(kernel); on && v2 && err == nil && v.LessThan(version.MajorMinor(5, 9)) && f.cfg.MemoryThrottlingFactor != nil {
		klog.InfoS("Warning: MemoryQoS memory.high throttling may cause process livelock on older kernels", "kernelVersion", kernel, "minimumKernel", "5.9")
	}
	if asked && v2 && docker {
		klog.InfoS("Warning: MemoryQoS: Docker cannot be told a container's memory.min, memory.low and memory.high; only pods and QoS classes get theirs")
	}
	return memoryQoSOf(on, v2, docker, criconfig.MemoryQoS{Reserve: reservesMemory(f.cfg), Throttling: f.cfg.MemoryThrottlingFactor})
}

// memoryQoSOf decides whose memory it is: asked is what the configuration says about that of containers.
func memoryQoSOf(on, v2, docker bool, asked criconfig.MemoryQoS) memoryQoS {
	switch {
	case !v2:
		return memoryQoS{}
	case docker: // whose containers never had any
		return memoryQoS{pods: on}
	case !on:
		return memoryQoS{containers: &criconfig.MemoryQoS{Off: true}}
	}
	return memoryQoS{pods: true, containers: &asked}
}

// throttling returns memoryThrottlingFactor where it has an effect on pods' cgroups.
func (q memoryQoS) throttling(cfg *config.Config) *float64 {
	if !q.pods {
		return nil
	}
	return cfg.MemoryThrottlingFactor
}

func reservesMemory(cfg *config.Config) bool {
	return cfg.MemoryReservationPolicy == kubeletconfig.TieredReservationMemoryReservationPolicy
}

// newCgroups makes the cgroups above those of pods. nil: pods get none, because the
// configuration or the host does not allow it.
func newCgroups(f *foundation, h *host) (*cgroup.Tree, error) {
	cfg := f.cfg
	if !ptr.Deref(cfg.CgroupsPerQOS, true) {
		return nil, nil
	}
	layout, err := cgroup.NewLayout(cfg.CgroupRoot, f.engine.systemd)
	if err != nil {
		return nil, err
	}
	capacity := func() v1.ResourceList {
		list := h.machine.Capacity().DeepCopy()
		if most := machine.MaxProcesses(); most > 0 {
			list[nodeobject.ResourcePIDs] = *resource.NewQuantity(most, resource.DecimalSI)
		}
		return list
	}
	tree, err := cgroup.New(cgroup.Config{
		Layout: layout, Capacity: capacity, Resized: h.resized, Reserved: []v1.ResourceList{h.reserved.System, h.reserved.Kube},
		MemoryQoS:   cgroupV2(),
		EnforcePods: slices.Contains(cfg.EnforceNodeAllocatable, "pods"), Clock: clock.RealClock{}, Event: f.nodeEvent, Metrics: f.metrics,
		Pods: cgroup.PodSettings{
			CFSQuota: ptr.Deref(cfg.CPUCFSQuota, true), CFSPeriod: cfg.CPUCFSQuotaPeriod.Duration, PIDs: ptr.Deref(cfg.PodPidsLimit, -1),
			ExclusiveCPUs: criconfig.NodeConfig{CPUs: h.assigned}.ExclusiveCPUs, ReserveMemory: h.memoryQoS.pods && reservesMemory(cfg),
			MemoryThrottling: h.memoryQoS.throttling(cfg), Swap: h.swap.pods,
		},
	})
	if errors.Is(err, cgroup.ErrRefused) {
		klog.ErrorS(err, "Pods run without cgroups of their own: limits hold for each container, none for a pod or a QoS class; cgroupsPerQOS: false says that this is meant")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make the cgroups of pods: %w", err)
	}
	return tree, nil
}

// enforceReserved limits the cgroups of the system and of the node's agents to what is reserved for
// them, where enforceNodeAllocatable says so.
func enforceReserved(f *foundation, h *host) error {
	var all []cgroup.Enforcement
	for _, r := range []struct {
		kind, key, group string
		limits           v1.ResourceList
	}{
		{"System", "system-reserved", f.cfg.SystemReservedCgroup, h.reserved.System},
		{"Kube", "kube-reserved", f.cfg.KubeReservedCgroup, h.reserved.Kube},
	} {
		compressible := slices.Contains(f.cfg.EnforceNodeAllocatable, r.key+"-compressible")
		if compressible || slices.Contains(f.cfg.EnforceNodeAllocatable, r.key) {
			all = append(all, cgroup.Enforcement{Kind: r.kind, Reservation: cgroup.Reservation{
				Cgroup: r.group, Limits: r.limits, Compressible: compressible, MemoryQoS: h.memoryQoS.pods,
			}})
		}
	}
	return cgroup.EnforceReserved(all, f.engine.systemd, f.nodeEvent)
}

// cgroupParent returns the function that names the cgroup of a pod's containers; nil leaves
// it to the runtime.
func (h *host) cgroupParent(cfg *config.Config) func(*v1.Pod) string {
	switch root := cfg.CgroupRoot; {
	case h.cgroups != nil:
		return h.cgroups.Parent
	case !ptr.Deref(cfg.CgroupsPerQOS, true) && root != "":
		return func(*v1.Pod) string { return root }
	}
	return nil
}

// hugePageSizes returns the page sizes that pods' cgroups can limit, as CRI names
// them.
func (h *host) hugePageSizes() []string {
	if h.cgroups == nil {
		return nil
	}
	var names []string
	for _, size := range h.cgroups.HugePageSizes() {
		names = append(names, pods.PageSizeName(size))
	}
	return names
}

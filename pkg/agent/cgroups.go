package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/version"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cgroup"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// cgroupDriver is what the runtime manages cgroups by: what it says, or else what
// is configured.
func cgroupDriver(ctx context.Context, cfg *config.Config, client *criclient.Client) (systemd bool) {
	r, err := client.RuntimeConfig(ctx, &criapi.RuntimeConfigRequest{})
	if err != nil || r.GetLinux() == nil {
		klog.V(2).InfoS("The runtime does not tell its cgroup driver, going by the configuration", "cgroupDriver", cfg.CgroupDriver, "err", err)
		return cfg.CgroupDriver == "systemd"
	}
	return r.Linux.CgroupDriver == criapi.CgroupDriver_SYSTEMD
}

// memoryQoS has the memory of containers protected and throttled where the
// configuration asks for it and the host can, and tells whether pods' cgroups are to
// be protected as well.
func memoryQoS(cfg *config.Config, n *node, runtime string) bool {
	if !cfg.Enabled(config.MemoryQoS) {
		return false
	}
	if !cgroupV2() {
		klog.InfoS("Warning: MemoryQoS feature only works with cgroups v2 on Linux, but enabled with cgroups v1")
		return false
	}
	kernel := n.machine.Info.KernelVersion
	if v, err := version.ParseGeneric(kernel); err == nil && v.LessThan(version.MajorMinor(5, 9)) {
		klog.InfoS("Warning: MemoryQoS memory.high throttling may cause process livelock on older kernels", "kernelVersion", kernel, "minimumKernel", "5.9")
	}
	if runtime == "docker" {
		klog.InfoS("Warning: MemoryQoS: Docker cannot be told a container's memory.min, memory.low and memory.high; only pods and QoS classes get theirs")
		return true
	}
	n.MemoryQoS = &criconfig.MemoryQoS{
		Reserve:    cfg.MemoryReservationPolicy == kubeletconfig.TieredReservationMemoryReservationPolicy,
		Throttling: *cfg.MemoryThrottlingFactor,
	}
	return true
}

// newCgroups makes the cgroups above those of pods. nil: pods get none, because
// the configuration or the host does not let them. event records of the node; nil: nobody is told.
func newCgroups(cfg *config.Config, n *node, systemd, memoryQoS bool, event func(eventType, reason, message string)) (*cgroup.Tree, error) {
	if !deref(cfg.CgroupsPerQOS, true) {
		if root := cfg.CgroupRoot; root != "" {
			n.CgroupParent = func(*v1.Pod) string { return root }
		}
		return nil, nil
	}
	layout, err := cgroup.NewLayout(cfg.CgroupRoot, systemd)
	if err != nil {
		return nil, err
	}
	capacity := n.machine.Capacity.DeepCopy()
	if most := machine.MaxProcesses(); most > 0 {
		capacity[nodeobject.ResourcePIDs] = *resource.NewQuantity(most, resource.DecimalSI)
	}
	tree, err := cgroup.New(cgroup.Config{
		Layout: layout, Capacity: capacity, Reserved: []v1.ResourceList{n.kept.System, n.kept.Kube},
		MemoryQoS:   memoryQoS,
		EnforcePods: slices.Contains(cfg.EnforceNodeAllocatable, "pods"), Clock: clock.RealClock{}, Event: event,
		Pods: cgroup.PodSettings{
			CFSQuota: !n.DisableCFSQuota, CFSPeriod: n.CFSQuotaPeriod, PIDs: deref(cfg.PodPidsLimit, -1),
			ExclusiveCPUs: n.ExclusiveCPUs, ReserveMemory: memoryQoS && cfg.MemoryReservationPolicy == kubeletconfig.TieredReservationMemoryReservationPolicy,
		},
	})
	if errors.Is(err, cgroup.ErrRefused) {
		klog.ErrorS(err, "Pods run without cgroups of their own: limits hold for each container, none for a pod or a QoS class; cgroupsPerQOS: false says that this is meant")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make the cgroups of pods: %w", err)
	}
	n.CgroupParent = tree.Parent
	n.offer.Fields.Cgroups, n.offer.StaticFields.Cgroups = true, true
	for _, size := range tree.HugePageSizes() {
		n.offer.HugePages = true
		n.HugePageSizes = append(n.HugePageSizes, pods.PageSizeName(size))
	}
	for _, what := range cfg.EnforceNodeAllocatable {
		if what != "pods" && what != "none" {
			klog.InfoS("Warning: enforceNodeAllocatable: only pods is enforced", "ignored", what)
		}
	}
	return tree, nil
}

package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cgroup"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cpumanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/devicemanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memorymanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/nodeip"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/topologymanager"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/utilchains"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/resolvconf"
)

// host is what this machine offers to pods, and what divides it among them.
type host struct {
	addresses *nodeip.Finder
	// hostIPs returns the node's addresses as they are now, primary first.
	hostIPs  func() []string
	labels   map[string]string
	machine  *nodeobject.Gauge
	reserved nodeobject.Reserved // from pods
	// resized has a token when the machine's capacity has changed.
	resized chan struct{}

	cpus      *cpumanager.Manager    // nil: containers share all
	memory    *memorymanager.Manager // nil: it is of any NUMA nodes
	devices   *devicemanager.Manager
	topology  *topologymanager.Manager
	memoryQoS memoryQoS
	swap      swap
	cgroups   *cgroup.Tree // nil: pods have none of their own
	// assigned returns the CPUs of a container and whether it has them without a quota; nil:
	// it runs on any.
	assigned func(pod types.UID, container string) (cpus string, exclusive bool)

	parts []part
}

// newHost finds out what the host has, and makes the parts that divide it.
func newHost(ctx context.Context, f *foundation, w world) (*host, error) {
	h := &host{resized: make(chan struct{}, 1)}
	var err error
	h.addresses, err = nodeip.New(ctx, nodeip.Config{
		Given: f.cfg.NodeIPs, OfHost: !f.cfg.Standalone(), Hostname: f.cfg.NodeName, Period: f.cfg.NodeStatusUpdateFrequency.Duration,
		Changed: f.readinessChanged, Clock: clock.RealClock{},
	})
	if err != nil {
		return nil, err
	}
	h.hostIPs = w.nodeIPs(h.addresses)
	h.parts = append(h.parts, part{"node addresses", h.addresses.Run})
	if h.reserved, err = reserved(f.cfg); err != nil {
		return nil, err
	}
	if h.machine, err = newGauge(f.cfg, h.reserved, f.readinessChanged, h.capacityChanged); err != nil {
		return nil, err
	}
	h.parts = append(h.parts, part{"machine", h.machine.Run})
	info := h.machine.Machine().Info
	h.labels = nodeobject.DefaultLabels(f.cfg.NodeName, info, f.cfg.NodeLabels)
	if err := h.addManagers(f); err != nil {
		return nil, err
	}
	h.memoryQoS = newMemoryQoS(f, info.KernelVersion)
	if h.swap, err = newSwap(f, h); err != nil {
		return nil, err
	}
	if h.cgroups, err = newCgroups(f, h); err != nil {
		return nil, err
	}
	if err := enforceReserved(f, h); err != nil {
		return nil, err
	}
	if h.cgroups != nil {
		h.parts = append(h.parts, part{"cgroups", h.cgroups.Run})
	}
	if ptr.Deref(f.cfg.MakeIPTablesUtilChains, false) {
		h.parts = append(h.parts, part{"iptables chains", utilchains.Run})
	}
	if path := ptr.Deref(f.cfg.ResolverConfig, ""); path != "" {
		watch := &resolvconf.Watch{Path: path, ClusterDomain: f.cfg.ClusterDomain, Event: f.nodeEvent, Clock: clock.RealClock{}}
		h.parts = append(h.parts, part{"resolver configuration", watch.Run})
	}
	return h, nil
}

// reserved returns what the configuration keeps from pods.
func reserved(cfg *config.Config) (r nodeobject.Reserved, err error) {
	if r.Eviction, err = cfg.Eviction().Thresholds(); err != nil {
		return r, err
	}
	if r.System, err = nodeobject.Resources("systemReserved", cfg.SystemReserved); err != nil {
		return r, err
	}
	if r.Kube, err = nodeobject.Resources("kubeReserved", cfg.KubeReserved); err != nil {
		return r, err
	}
	err = reserveNamed(cfg.ReservedSystemCPUs, &r)
	return r, err
}

// newGauge makes what measures the machine; each of changed is told when it has become larger or smaller.
func newGauge(cfg *config.Config, r nodeobject.Reserved, changed ...func()) (*nodeobject.Gauge, error) {
	if cfg.IgnoreEvictionInAllocatable {
		r.Eviction = nil
	}
	return nodeobject.NewGauge(nodeobject.GaugeConfig{
		Root: cfg.RootDir, MaxPods: int64(cfg.MaxPods), PodsPerCore: int64(cfg.PodsPerCore),
		NoLocalStorage: !ptr.Deref(cfg.LocalStorageCapacityIsolation, true), Reserved: r,
		Period: cfg.NodeStatusUpdateFrequency.Duration, Changed: changed, Clock: clock.RealClock{},
	})
}

// capacityChanged has the limits above the pods written anew.
func (h *host) capacityChanged() {
	select {
	case h.resized <- struct{}{}:
	default: // it has not taken in the last one yet
	}
}

// offer returns what admission checks pods against, before the Node object's labels
// and taints are merged in.
func (h *host) offer(cfg *config.Config, s *supplies) admission.Node {
	n := admission.Node{
		Name: cfg.NodeName, Release: config.KubernetesVersion, Labels: h.labels, Allocatable: h.machine.Allocatable(),
		AllowedUnsafeSysctls: cfg.AllowedUnsafeSysctls, AppArmor: appArmorEnabled(),
		Fields: s.fields, StaticFields: s.staticFields,
	}
	if h.cgroups != nil {
		n.Fields.Cgroups, n.StaticFields.Cgroups = true, true
		n.HugePages = len(h.cgroups.HugePageSizes()) > 0
	}
	return n
}

// podConfig returns what the configuration of a pod's containers takes from this
// node.
func (h *host) podConfig(f *foundation) criconfig.NodeConfig {
	cfg := f.cfg
	n := criconfig.NodeConfig{
		Name: cfg.NodeName, HostIPs: h.hostIPs, PodLogsRoot: cfg.PodLogsDir,
		SeccompRoot: filepath.Join(cfg.RootDir, "seccomp"), SeccompDefault: ptr.Deref(cfg.SeccompDefault, false),
		ClusterDomain: cfg.ClusterDomain, ClusterDNS: cfg.ClusterDNS,
		DisableCFSQuota: !ptr.Deref(cfg.CPUCFSQuota, true), CFSQuotaPeriod: cfg.CPUCFSQuotaPeriod.Duration,
		NoHugePageLimits: f.engine.isDocker(), RecursiveReadOnly: f.engine.recursiveReadOnly,
		MemoryCapacity: h.machine.Memory(), Allocatable: h.machine.Allocatable,
		MemoryQoS: h.memoryQoS.containers, Swap: h.swap.containers, KillTogether: killsTogether(f), Sysctls: cfg.DefaultPodSysctls, CPUs: h.assigned, Devices: h.deviceContent, CgroupParent: h.cgroupParent(cfg), HugePageSizes: h.hugePageSizes(),
		Warn: func(pod *v1.Pod, reason, message string) {
			if cfg.Standalone() && reason == criconfig.ReasonMissingClusterDNS {
				return // without a cluster no cluster DNS can be missing
			}
			f.journal.Warn(pod, reason, message)
		},
	}
	if h.memory != nil {
		n.MemoryNodes = h.memory.Nodes
	}
	if path := ptr.Deref(cfg.ResolverConfig, ""); path != "" {
		n.ResolvConf = criconfig.ResolvConfFile(path)
	}
	return n
}

// killsTogether reports whether all processes of a container end when the kernel has to end one for want
// of memory: what cgroup v2 can, and the kubelet asks for unless singleProcessOOMKill is set.
func killsTogether(f *foundation) bool {
	together := cgroupV2() && !ptr.Deref(f.cfg.SingleProcessOOMKill, false)
	if together && f.engine.isDocker() {
		if f.cfg.SingleProcessOOMKill != nil {
			klog.InfoS("Warning: singleProcessOOMKill: false has no effect: Docker cannot be told a container's memory.oom.group, so that the kernel ends one process")
		}
		return false
	}
	return together
}

// appArmorEnabled reports whether the kernel enforces AppArmor profiles.
func appArmorEnabled() bool {
	text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(text, []byte("Y"))
}

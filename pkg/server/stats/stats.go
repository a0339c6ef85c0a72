// Package stats reports what the node, its pods and their containers use, in the two forms
// of the kubelet API: the Summary of /stats/summary, and the metrics of /metrics/resource,
// which metrics-server and so `kubectl top` read.
//
//	CRI ListPodSandboxStats ─┐
//	                         ├─▶ Summary ─▶ /stats/summary, /metrics/resource
//	cgroup root, /proc, statfs ┘
//
// All who ask within a second share one call to the runtime.
package stats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/shared"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Runtime is what the container runtime is asked.
type Runtime interface {
	ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest, ...grpc.CallOption) (*cri.ListPodSandboxStatsResponse, error)
}

// Config is what a Source is made of.
type Config struct {
	Runtime Runtime
	Node    string // its name
	Root    string // directory on the node's file system
	// Pod returns the pod with that UID; ok is false if it is not known.
	Pod func(types.UID) (*v1.Pod, bool)
	// Status returns the pod's last status, for its start time and its containers'.
	Status func(types.UID) (v1.PodStatus, bool)
	Booted time.Time
}

// Source reads what is used. Safe for concurrent use.
type Source struct {
	cfg  Config
	node *nodeReader
	// pods is what the runtime tells; layers the same, for what changes slowly.
	pods, layers shared.Work[[]*cri.PodSandboxStats]
}

// How old what the runtime has told may be: for most, and for the sizes of writable layers,
// which runtimes measure in the background.
const (
	maxAge      = time.Second
	maxLayerAge = 10 * time.Second
)

// New checks the configuration.
func New(cfg Config) (*Source, error) {
	if cfg.Runtime == nil || cfg.Pod == nil || cfg.Status == nil || cfg.Root == "" {
		return nil, errors.New("usage: no Runtime, Pod, Status or Root")
	}
	s := &Source{cfg: cfg, node: newNodeReader("/sys/fs/cgroup", cfg.Root)}
	s.pods.Do, s.pods.MaxAge, s.pods.Timeout = s.list, maxAge, scrapeTimeout
	s.layers.Do, s.layers.MaxAge, s.layers.Timeout = s.pods.Get, maxLayerAge, scrapeTimeout
	return s, nil
}

func (s *Source) list(ctx context.Context) ([]*cri.PodSandboxStats, error) {
	list, err := s.cfg.Runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the runtime what the pods use: %w", err)
	}
	return list.Stats, nil
}

// Layers returns what writable layers occupied a moment ago, by container; what is not known
// is missing.
func (s *Source) Layers(ctx context.Context) map[string]*cri.FilesystemUsage {
	all := map[string]*cri.FilesystemUsage{}
	list, err := s.layers.Get(ctx)
	if err != nil {
		klog.V(2).InfoS("The runtime does not tell what writable layers occupy", "err", err)
		return all
	}
	for _, p := range list {
		for _, c := range p.GetLinux().GetContainers() {
			if l := c.GetWritableLayer(); l != nil {
				all[c.GetAttributes().GetId()] = l
			}
		}
	}
	return all
}

// Summary returns what the node and its running pods use. With onlyCPUAndMemory it
// leaves out the rest.
func (s *Source) Summary(ctx context.Context, onlyCPUAndMemory bool) (*stats.Summary, error) {
	list, err := s.pods.Get(ctx)
	if err != nil {
		return nil, err
	}
	out := &stats.Summary{Node: s.node.stats(s.cfg.Node, s.cfg.Booted, time.Now(), onlyCPUAndMemory), Pods: []stats.PodStats{}}
	for _, sandbox := range list {
		if p, ok := s.pod(sandbox, onlyCPUAndMemory); ok {
			out.Pods = append(out.Pods, p)
		}
	}
	slices.SortFunc(out.Pods, func(a, b stats.PodStats) int {
		return strings.Compare(a.PodRef.Namespace+"/"+a.PodRef.Name+"/"+a.PodRef.UID, b.PodRef.Namespace+"/"+b.PodRef.Name+"/"+b.PodRef.UID)
	})
	return out, nil
}

// pod returns what one sandbox and its containers use; ok is false if the sandbox
// does not belong to a pod that this node knows.
func (s *Source) pod(sandbox *cri.PodSandboxStats, brief bool) (stats.PodStats, bool) {
	labels := sandbox.GetAttributes().GetLabels()
	uid := types.UID(labels[pods.LabelPodUID])
	if _, known := s.cfg.Pod(uid); !known {
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
		if !brief {
			one.Swap = swap(c.GetSwap())
			one.Rootfs = layer(c.GetWritableLayer())
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
	if !brief {
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

func at(nanoseconds int64) metav1.Time { return metav1.NewTime(time.Unix(0, nanoseconds)) }

func value(v *cri.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	return ptr.To(v.Value)
}

func cpu(c *cri.CpuUsage) *stats.CPUStats {
	if c.GetUsageCoreNanoSeconds() == nil {
		return nil
	}
	return &stats.CPUStats{Time: at(c.Timestamp), UsageNanoCores: value(c.UsageNanoCores), UsageCoreNanoSeconds: value(c.UsageCoreNanoSeconds)}
}

func memory(m *cri.MemoryUsage) *stats.MemoryStats {
	if m.GetWorkingSetBytes() == nil {
		return nil
	}
	return &stats.MemoryStats{
		Time: at(m.Timestamp), WorkingSetBytes: value(m.WorkingSetBytes), UsageBytes: value(m.UsageBytes), RSSBytes: value(m.RssBytes),
		AvailableBytes: value(m.AvailableBytes), PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults),
	}
}

func swap(s *cri.SwapUsage) *stats.SwapStats {
	if s.GetSwapUsageBytes() == nil {
		return nil
	}
	return &stats.SwapStats{Time: at(s.Timestamp), SwapUsageBytes: value(s.SwapUsageBytes), SwapAvailableBytes: value(s.SwapAvailableBytes)}
}

func layer(f *cri.FilesystemUsage) *stats.FsStats {
	if f == nil {
		return nil
	}
	return &stats.FsStats{Time: at(f.Timestamp), UsedBytes: value(f.UsedBytes), InodesUsed: value(f.InodesUsed)}
}

func network(n *cri.NetworkUsage) *stats.NetworkStats {
	if n.GetDefaultInterface() == nil {
		return nil
	}
	of := func(i *cri.NetworkInterfaceUsage) stats.InterfaceStats {
		return stats.InterfaceStats{Name: i.Name, RxBytes: value(i.RxBytes), RxErrors: value(i.RxErrors), TxBytes: value(i.TxBytes), TxErrors: value(i.TxErrors)}
	}
	out := &stats.NetworkStats{Time: at(n.Timestamp), InterfaceStats: of(n.DefaultInterface)}
	out.Interfaces = append(out.Interfaces, out.InterfaceStats)
	for _, i := range n.Interfaces {
		out.Interfaces = append(out.Interfaces, of(i))
	}
	return out
}

// sumCPU and sumMemory compute a pod's use if the runtime reports only containers.
func sumCPU(containers []stats.ContainerStats) *stats.CPUStats {
	var out *stats.CPUStats
	for _, c := range containers {
		if c.CPU == nil {
			continue
		}
		if out == nil {
			out = &stats.CPUStats{Time: c.CPU.Time, UsageCoreNanoSeconds: ptr.To[uint64](0)}
		}
		*out.UsageCoreNanoSeconds += ptr.Deref(c.CPU.UsageCoreNanoSeconds, 0)
		if c.CPU.UsageNanoCores != nil {
			out.UsageNanoCores = ptr.To(ptr.Deref(out.UsageNanoCores, 0) + *c.CPU.UsageNanoCores)
		}
	}
	return out
}

func sumMemory(containers []stats.ContainerStats) *stats.MemoryStats {
	var out *stats.MemoryStats
	for _, c := range containers {
		if c.Memory == nil {
			continue
		}
		if out == nil {
			out = &stats.MemoryStats{Time: c.Memory.Time, WorkingSetBytes: ptr.To[uint64](0)}
		}
		*out.WorkingSetBytes += ptr.Deref(c.Memory.WorkingSetBytes, 0)
		for _, add := range []struct{ to, of **uint64 }{{&out.UsageBytes, &c.Memory.UsageBytes}, {&out.RSSBytes, &c.Memory.RSSBytes}} {
			if *add.of != nil {
				*add.to = ptr.To(ptr.Deref(*add.to, 0) + **add.of)
			}
		}
	}
	return out
}

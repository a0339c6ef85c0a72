package stats

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

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
	return &stats.CPUStats{Time: at(c.Timestamp), UsageNanoCores: value(c.UsageNanoCores), UsageCoreNanoSeconds: value(c.UsageCoreNanoSeconds), PSI: psi(c.Psi)}
}

func memory(m *cri.MemoryUsage) *stats.MemoryStats {
	if m.GetWorkingSetBytes() == nil {
		return nil
	}
	return &stats.MemoryStats{
		Time: at(m.Timestamp), WorkingSetBytes: value(m.WorkingSetBytes), UsageBytes: value(m.UsageBytes), RSSBytes: value(m.RssBytes),
		AvailableBytes: value(m.AvailableBytes), PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults),
		PSI: psi(m.Psi),
	}
}

func swap(s *cri.SwapUsage) *stats.SwapStats {
	if s.GetSwapUsageBytes() == nil {
		return nil
	}
	return &stats.SwapStats{Time: at(s.Timestamp), SwapUsageBytes: value(s.SwapUsageBytes), SwapAvailableBytes: value(s.SwapAvailableBytes)}
}

func io(i *cri.IoUsage) *stats.IOStats {
	if i.GetPsi() == nil {
		return nil
	}
	return &stats.IOStats{Time: at(i.Timestamp), PSI: psi(i.Psi)}
}

func psi(p *cri.PsiStats) *stats.PSIStats {
	if p == nil {
		return nil
	}
	of := func(d *cri.PsiData) stats.PSIData {
		return stats.PSIData{Total: d.GetTotal(), Avg10: d.GetAvg10(), Avg60: d.GetAvg60(), Avg300: d.GetAvg300()}
	}
	return &stats.PSIStats{Full: of(p.GetFull()), Some: of(p.GetSome())}
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

func sumSwap(containers []stats.ContainerStats) *stats.SwapStats {
	var out *stats.SwapStats
	for _, c := range containers {
		if c.Swap == nil {
			continue
		}
		if out == nil {
			out = &stats.SwapStats{Time: c.Swap.Time, SwapUsageBytes: ptr.To[uint64](0)}
		}
		*out.SwapUsageBytes += ptr.Deref(c.Swap.SwapUsageBytes, 0)
		if c.Swap.SwapAvailableBytes != nil {
			out.SwapAvailableBytes = ptr.To(ptr.Deref(out.SwapAvailableBytes, 0) + *c.Swap.SwapAvailableBytes)
		}
	}
	return out
}

package convert

import (
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
)

// defaultInterface is the name of a sandbox's interface, both on Docker's bridge and with CNI.
const defaultInterface = "eth0"

// Number wraps a number as CRI does.
func Number(n uint64) *cri.UInt64Value { return &cri.UInt64Value{Value: n} }

// MemoryUsage converts a cgroup's use of memory.
func MemoryUsage(u cgroupstats.Usage, at time.Time) *cri.MemoryUsage {
	m := &cri.MemoryUsage{
		Timestamp: at.UnixNano(), WorkingSetBytes: Number(u.WorkingSet), UsageBytes: Number(u.Memory), RssBytes: Number(u.RSS),
		PageFaults: Number(u.PageFaults), MajorPageFaults: Number(u.MajorFaults), Psi: Pressure(u.Pressure.Memory),
	}
	if u.MemoryLimit > 0 {
		m.AvailableBytes = Number(u.MemoryLimit - min(u.MemoryLimit, u.WorkingSet))
	}
	return m
}

// SwapUsage converts a cgroup's use of swap.
func SwapUsage(u cgroupstats.Usage, at time.Time) *cri.SwapUsage {
	out := &cri.SwapUsage{Timestamp: at.UnixNano(), SwapUsageBytes: Number(u.Swap)}
	if u.SwapLimit > 0 {
		out.SwapAvailableBytes = Number(u.SwapLimit - min(u.SwapLimit, u.Swap))
	}
	return out
}

// IOUsage converts the pressure on input and output; nil where the kernel does not measure it.
func IOUsage(u cgroupstats.Usage, at time.Time) *cri.IoUsage {
	if u.Pressure.IO == nil {
		return nil
	}
	return &cri.IoUsage{Timestamp: at.UnixNano(), Psi: Pressure(u.Pressure.IO)}
}

// Pressure converts pressure stall information; nil where the kernel does not measure it.
func Pressure(s *cgroupstats.Stall) *cri.PsiStats {
	if s == nil {
		return nil
	}
	line := func(w cgroupstats.Waited) *cri.PsiData {
		return &cri.PsiData{Total: w.Total * uint64(time.Microsecond), Avg10: w.Avg10, Avg60: w.Avg60, Avg300: w.Avg300}
	}
	return &cri.PsiStats{Some: line(s.Some), Full: line(s.Full)}
}

// NetworkUsage converts the traffic of a sandbox's interfaces.
func NetworkUsage(interfaces []cgroupstats.Interface, at time.Time) *cri.NetworkUsage {
	n := &cri.NetworkUsage{Timestamp: at.UnixNano()}
	for _, i := range interfaces {
		u := &cri.NetworkInterfaceUsage{
			Name: i.Name, RxBytes: Number(i.RxBytes), RxErrors: Number(i.RxErrors), TxBytes: Number(i.TxBytes), TxErrors: Number(i.TxErrors),
		}
		if i.Name == defaultInterface {
			n.DefaultInterface = u
		} else {
			n.Interfaces = append(n.Interfaces, u)
		}
	}
	return n
}

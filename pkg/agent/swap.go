package agent

import (
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// swap says who limits the swap of pods.
type swap struct {
	pods       func(*v1.Pod) int64 // that of pods, through their cgroups; nil: not
	containers *criconfig.Swap     // that of containers, through the runtime; nil: as it likes
}

// newSwap decides by what the configuration asks for and the host can do.
func newSwap(f *foundation, h *host) (swap, error) {
	there, on, err := machine.Swap()
	if err != nil {
		return swap{}, err
	}
	if old, err := version.ParseGeneric(h.machine.Machine().Info.KernelVersion); on && err == nil && old.LessThan(version.MajorMinor(6, 4)) {
		f.nodeEvent.Warn("PossibleMemoryBackedVolumesOnDisk", "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. secrets, emptyDirs, etc.) "+
			"might be swapped to disk and should no longer be considered secure.")
	}
	limits, v2 := machine.LimitsSwap()
	limited := f.cfg.MemorySwap.SwapBehavior == config.LimitedSwap
	if limited && !(limits && v2) {
		klog.InfoS("Warning: memorySwap.swapBehavior LimitedSwap needs cgroup v2 with its limit of swap, which this host lacks; it is the same as NoSwap")
	}
	if !limits {
		return swap{}, nil
	}
	memory, total := h.machine.Memory(), int64(0)
	if limited && v2 {
		total = there
	}
	s := swap{containers: &criconfig.Swap{Total: total, Unified: v2 && !f.engine.isDocker()}}
	if v2 {
		s.pods = func(pod *v1.Pod) int64 { return pods.SwapLimitOfAll(pod, memory, total) }
	}
	return s, nil
}

// checkSwap is failSwapOn.
func checkSwap(cfg *config.Config) error {
	if !ptr.Deref(cfg.FailSwapOn, false) {
		return nil
	}
	_, on, err := machine.Swap()
	if err == nil && on {
		err = errors.New("failSwapOn: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false")
	}
	return err
}

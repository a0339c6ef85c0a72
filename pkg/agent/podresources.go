package agent

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/podresources"
)

// newPodResources makes the part that tells which pods have which devices, CPUs and memory.
func newPodResources(f *foundation, h *host, workers *worker.Workers) (part, error) {
	cfg := podresources.Config{
		Root: f.cfg.RootDir, Pods: f.store.Pods, Devices: h.devices, Metrics: f.metrics,
		Active: func() func(types.UID) bool {
			active := sets.New[types.UID]()
			for _, pod := range workers.Pods(worker.Terminated) {
				active.Insert(pod.UID)
			}
			return func(uid types.UID) bool { return active.Has(uid) }
		},
	}
	if h.cpus != nil { // an interface with nil in it is not nil
		cfg.CPUs = h.cpus
	}
	if h.memory != nil {
		cfg.Memory = h.memory
	}
	s, err := podresources.New(cfg)
	if err != nil {
		return part{}, err
	}
	return part{"PodResources API", s.Run}, nil
}

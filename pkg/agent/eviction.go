package agent

import (
	"os"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction/localstorage"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// newEviction makes the parts that end pods for what they use of the node.
func newEviction(cfg *config.Config, client *criclient.Client, volumes *volume.Manager, store *podstore.Store, workers *worker.Workers, events *journal.Journal, metrics prometheus.Registerer) ([]part, error) {
	if !deref(cfg.LocalStorageCapacityIsolation, true) {
		return nil, nil
	}
	evictor, err := eviction.New(eviction.Config{Workers: workers, Journal: events, Metrics: metrics})
	if err != nil {
		return nil, err
	}
	storage, err := localstorage.New(localstorage.Config{
		Pods:    func() []*v1.Pod { return podsBefore(worker.Terminating, store, workers) },
		Runtime: client, Volumes: volumes, Evict: evictor.Evict,
		LogDir: func(pod *v1.Pod) string {
			return pods.PodLogDirectory(cfg.PodLogsDir, pod.Namespace, pod.Name, pod.UID)
		},
		ImagesElsewhere: sync.OnceValue(func() bool {
			images := imageFS(client)
			return images != "" && !sameDevice(images, cfg.RootDir)
		}),
	})
	return []part{{"local storage", storage.Run}}, err
}

// podsBefore are the pods whose workers have not come as far as phase.
func podsBefore(phase worker.Phase, store *podstore.Store, workers *worker.Workers) []*v1.Pod {
	var out []*v1.Pod
	for _, p := range store.Pods() {
		if at, ok := workers.Known(p.UID); ok && at < phase {
			out = append(out, p)
		}
	}
	return out
}

// sameDevice tells whether two directories are on one file system. What cannot be
// looked at counts as being.
func sameDevice(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX != nil || errY != nil {
		return true
	}
	return x.Sys().(*syscall.Stat_t).Dev == y.Sys().(*syscall.Stat_t).Dev
}

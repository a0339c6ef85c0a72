package agent

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction/localstorage"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction/nodepressure"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// newEviction makes the parts that end pods because of what they use of the node.
func newEviction(f *foundation, h *host, rt *runtimeStage, workers *worker.Workers, evictions chan<- worker.Update) (*nodepressure.Manager, []part, error) {
	evictor, err := eviction.New(eviction.Config{Updates: evictions, Gone: workers.Ended, Journal: f.journal, Metrics: f.metrics})
	if err != nil {
		return nil, nil, err
	}
	pressure, err := newPressure(f, h, rt, workers, evictor)
	if err != nil {
		return nil, nil, err
	}
	parts := []part{{"node pressure", pressure.Run}}
	if !ptr.Deref(f.cfg.LocalStorageCapacityIsolation, true) {
		return pressure, parts, nil
	}
	storage, err := localstorage.New(localstorage.Config{
		Pods:    func() []*v1.Pod { return workers.Pods(worker.Terminating) },
		Runtime: f.client, Volumes: rt.volumes, Evict: evictor.EvictOwn, LogDir: f.logDir,
		ImagesElsewhere: func() bool {
			images, _, _ := f.engine.fileSystems()
			return images != "" && !sameDevice(images, f.cfg.RootDir)
		},
	})
	return pressure, append(parts, part{"local storage", storage.Run}), err
}

func newPressure(f *foundation, h *host, rt *runtimeStage, workers *worker.Workers, evictor *eviction.Evictor) (*nodepressure.Manager, error) {
	node := nodepressure.Node{Root: f.cfg.RootDir}
	if h.cgroups != nil {
		node.PodsCgroup = h.cgroups.Root()
	}
	var images nodepressure.Reclaimer
	if removesImages(f.cfg) {
		images = rt.images
	}
	return nodepressure.New(nodepressure.Config{
		Thresholds: h.reserved.Eviction, Hold: f.cfg.EvictionPressureTransitionPeriod.Duration, MaxGrace: int64(f.cfg.EvictionMaxPodGracePeriod),
		Node: node, FileSystems: f.engine.fileSystems, Pods: func() []*v1.Pod { return workers.Pods(worker.Terminated) },
		Runtime: f.client, Volumes: rt.volumes, LogDir: f.logDir, Evictor: evictor, EvictStatic: evictsStatic(f.cfg),
		Containers: kuberuntime.Unused{Collector: rt.collector, Over: over(f, workers)}, Images: images,
		Changed: f.readinessChanged, Event: f.nodeEvent, Metrics: f.metrics, Clock: clock.RealClock{},
	})
}

// removesImages reports whether images may be removed at all: who has switched their collection off may share
// the runtime with others.
func removesImages(cfg *config.Config) bool {
	return *cfg.ImageGCHighThresholdPercent < 100 || cfg.ImageMaximumGCAge.Duration > 0
}

// over returns the function that reports whether a pod has stopped for good and its dead containers are not all that
// says so: the API server does. Nobody asks it about a static pod; of these only an evicted one may begin anew,
// unless it may run once only.
func over(f *foundation, workers *worker.Workers) func(types.UID) bool {
	return func(uid types.UID) bool {
		if _, known := workers.Known(uid); !known || !workers.Ended(uid) {
			return false
		}
		pod, wanted := f.store.Get(uid)
		if wanted && pods.IsStatic(pod) {
			s, _ := f.statuses.Get(uid)
			return s.Reason == eviction.Reason && pods.ComesBack(pod)
		}
		return !wanted || pods.IsFinished(pod.Status.Phase)
	}
}

// evictsStatic reports whether static pods are evicted when the node is short of something: on a standalone
// node, where there are no others, if somebody has set thresholds.
func evictsStatic(cfg *config.Config) bool { return cfg.Standalone() && cfg.EvictionChosen() }

// clearedFor returns what the sync loop hears from when static pods may come back; nil where none had to go.
func clearedFor(cfg *config.Config, pressure *nodepressure.Manager) <-chan struct{} {
	if !evictsStatic(cfg) {
		return nil
	}
	return pressure.Cleared()
}

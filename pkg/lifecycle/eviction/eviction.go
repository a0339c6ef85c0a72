// Package eviction ends pods because of what they use of the node. Its rooms find
// those pods:
//
//	localstorage ──▶ Evictor ──▶ loop ──▶ worker: stop, and be Failed
//
// An evicted pod stays on the node as a failed pod until somebody deletes it. It
// never starts again: its status at the API server says that it has failed.
package eviction

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Reason is the reason in an evicted pod's status, and in the event.
const Reason = "Evicted"

// grace is how many seconds an evicted pod has to end: few, since what it uses hurts others
// (the kubelet's immediateEvictionGracePeriodSeconds).
const grace = 1

// Config is what an Evictor is made of; Journal and Metrics may be nil.
type Config struct {
	Updates chan<- worker.Update // to the sync loop
	Journal *journal.Journal
	Metrics prometheus.Registerer
}

// Evictor evicts pods. Safe for concurrent use.
type Evictor struct {
	cfg   Config
	count *prometheus.CounterVec
}

// New checks the configuration and registers the metric.
func New(cfg Config) (*Evictor, error) {
	if cfg.Updates == nil {
		return nil, errors.New("eviction: no Updates")
	}
	e := &Evictor{cfg: cfg, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelet_evictions", Help: "Cumulative number of pod evictions by eviction signal",
	}, []string{"eviction_signal"})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(e.count); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Evict asks the sync loop to stop the pod and to let it fail with the message; signal
// names, for the metric, what the pod exceeded. Evict waits until the sync loop has taken
// the request or ctx ends, not until the pod has ended. It reports whether the pod is
// evicted: a critical one is not.
func (e *Evictor) Evict(ctx context.Context, pod *v1.Pod, signal, message string) (evicted bool) {
	if pods.IsCritical(pod) {
		klog.ErrorS(nil, "Eviction manager: cannot evict a critical pod", "pod", klog.KObj(pod), "podUID", pod.UID, "message", message)
		return false
	}
	u := worker.Update{Kind: worker.Kill, Pod: pod, Grace: ptr.To[int64](grace), Explain: func(s *v1.PodStatus) {
		s.Phase, s.Reason, s.Message = v1.PodFailed, Reason, message
	}}
	klog.InfoS("Evicting pod", "pod", klog.KObj(pod), "podUID", pod.UID, "message", message)
	e.cfg.Journal.Warn(pod, Reason, message)
	select {
	case e.cfg.Updates <- u:
	case <-ctx.Done():
		return false
	}
	e.count.WithLabelValues(signal).Inc()
	return true
}

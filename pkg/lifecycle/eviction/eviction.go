// Package eviction ends pods for what they use of the node. Its rooms say which:
//
//	localstorage ──▶ Evictor ──▶ worker: stop, and be Failed
//
// What is evicted stays on the node as a failed pod until somebody deletes it, and
// never starts again: its status is what says so, at the API server.
package eviction

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Reason of an evicted pod's status, and of the event.
const Reason = "Evicted"

// grace is how many seconds a pod has whose use does no good to others; the kubelet's
// immediateEvictionGracePeriodSeconds.
const grace = 1

// Workers stop pods.
type Workers interface{ Update(worker.Update) }

// Config is what an Evictor is made of; Journal and Metrics may be nil.
type Config struct {
	Workers Workers
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
	if cfg.Workers == nil {
		return nil, errors.New("eviction: no Workers")
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

// Evict has the pod stopped and failed with the message; signal is what was
// exceeded, for the metric. It does not wait for the pod's end. A critical pod is
// not evicted, which it reports.
func (e *Evictor) Evict(pod *v1.Pod, signal, message string) (evicted bool) {
	if pods.IsCritical(pod) {
		klog.ErrorS(nil, "Eviction manager: cannot evict a critical pod", "pod", klog.KObj(pod), "podUID", pod.UID, "message", message)
		return false
	}
	klog.InfoS("Evicting pod", "pod", klog.KObj(pod), "podUID", pod.UID, "message", message)
	e.cfg.Journal.Record(pod, "", v1.EventTypeWarning, Reason, message)
	e.cfg.Workers.Update(worker.Update{Kind: worker.Kill, Pod: pod, Grace: ptr.To[int64](grace), Explain: func(s *v1.PodStatus) {
		s.Phase, s.Reason, s.Message = v1.PodFailed, Reason, message
	}})
	e.count.WithLabelValues(signal).Inc()
	return true
}

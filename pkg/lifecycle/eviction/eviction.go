// Package eviction ends pods because of what they use of the node. Its rooms find
// those pods:
//
//	localstorage ─┬─▶ Evictor ──▶ loop ──▶ worker: stop, and be Failed
//	nodepressure ─┘
//
// An evicted pod stays on the node as a failed pod until somebody deletes it. It
// never starts again: its status at the API server says that it has failed.
package eviction

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Reason is the reason in an evicted pod's status, and in the event.
const Reason = "Evicted"

// ImmediateGrace is how many seconds an evicted pod has to end: few, since what it uses hurts others
// (the kubelet's immediateEvictionGracePeriodSeconds).
const ImmediateGrace = 1

// leave is how long an evicted pod that has not gone is waited for beyond its grace period (the kubelet's
// podCleanupTimeout).
const leave = 30 * time.Second

// Config is what an Evictor is made of; Gone, Journal and Metrics may be nil.
type Config struct {
	Updates chan<- worker.Update // to the sync loop
	// Gone reports whether nothing of a pod is left but its dead containers. nil: at once.
	Gone    func(types.UID) bool
	Journal *journal.Journal
	Metrics prometheus.Registerer
}

// Evictor evicts pods. Safe for concurrent use.
type Evictor struct {
	cfg   Config
	count *prometheus.CounterVec

	mu      sync.Mutex
	pending []Pending
}

// Eviction is what becomes of a pod, and why.
type Eviction struct {
	Pod         *v1.Pod
	Signal      string // what the pod or the node exceeded, for the metric
	Message     string
	Grace       int64             // seconds
	Disruption  bool              // the pod gets the condition DisruptionTarget
	Annotations map[string]string // of the event
}

// Pending is an evicted pod that has not gone yet.
type Pending struct {
	UID   types.UID
	Grace int64
	until time.Time
}

// New checks the configuration and registers the metric.
func New(cfg Config) (*Evictor, error) {
	if cfg.Updates == nil {
		return nil, errors.New("eviction: no Updates")
	}
	if cfg.Gone == nil {
		cfg.Gone = func(types.UID) bool { return true }
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

// EvictOwn evicts a pod for exceeding a limit of its own; signal names the limit. It reports
// whether the pod is evicted: a critical one is not.
func (e *Evictor) EvictOwn(ctx context.Context, pod *v1.Pod, signal, message string) (evicted bool) {
	if pods.IsCritical(pod) {
		klog.ErrorS(nil, "Eviction manager: cannot evict a critical pod", "pod", klog.KObj(pod), "podUID", pod.UID, "message", message)
		return false
	}
	return e.Evict(ctx, Eviction{Pod: pod, Signal: signal, Message: message, Grace: ImmediateGrace})
}

// Evict asks the sync loop to stop the pod and to let it fail with the message. It waits
// until the sync loop has taken the request or ctx ends, not until the pod has ended. It is
// false if ctx has ended.
func (e *Evictor) Evict(ctx context.Context, v Eviction) (evicted bool) {
	now := time.Now()
	end := podstatus.End{Reason: Reason, Message: v.Message, Since: now}
	if v.Disruption {
		end.Disruption = v.Message
	}
	u := worker.Update{Kind: worker.Kill, Pod: v.Pod, Grace: ptr.To(v.Grace), Explain: func(s *v1.PodStatus) { end.Explain(s, v.Pod) }}
	klog.InfoS("Evicting pod", "pod", klog.KObj(v.Pod), "podUID", v.Pod.UID, "signal", v.Signal, "gracePeriod", v.Grace, "message", v.Message)
	e.cfg.Journal.Annotated(v.Pod, v.Annotations).Warn(Reason, v.Message)
	select {
	case e.cfg.Updates <- u:
	case <-ctx.Done():
		return false
	}
	e.count.WithLabelValues(v.Signal).Inc()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending = append(slices.DeleteFunc(e.pending, func(p Pending) bool { return p.UID == v.Pod.UID }),
		Pending{v.Pod.UID, v.Grace, now.Add(time.Duration(v.Grace)*time.Second + leave)})
	return true
}

// Pending returns the evicted pods that have not gone and are worth waiting for: what they use may
// be all that is missing.
func (e *Evictor) Pending() []Pending {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.pending = slices.DeleteFunc(e.pending, func(p Pending) bool { return now.After(p.until) || e.cfg.Gone(p.UID) })
	return slices.Clone(e.pending)
}

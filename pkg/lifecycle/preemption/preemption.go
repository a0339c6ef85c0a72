// Package preemption makes room for critical pods: where a node is full, pods that are less important
// end, instead of a critical one being turned away.
//
//	loop: short of resources ──▶ Preemptor ──whose end helps?──▶ admission.Victims
//	                                 └──updates that end them──▶ loop ──▶ workers
//
// It keeps no state: whoever is ending already is not asked to again, and a critical pod is
// judged anew until it has room, by the next agent too. A preempted pod ends in its own grace
// period and stays on the node as a failed pod until somebody deletes it; a static one waits for room
// then (see package loop).
package preemption

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// The kubelet's words, in the pod's status and event.
const (
	Reason    = "Preempting"
	message   = "Preempted in order to admit critical pod"
	condition = "Pod was preempted by Kubelet to accommodate a critical pod."
)

// Config is what a Preemptor is made of; Journal and Metrics may be nil.
type Config struct {
	// Victims says whose end makes room for a pod beside others and those that wait for room, and
	// what it is short of. The error says that no such pods are there.
	Victims func(pod *v1.Pod, others, waiting []*v1.Pod) ([]*v1.Pod, []pods.Shortage, error)
	Now     func() time.Time
	Journal *journal.Journal
	Metrics prometheus.Registerer
}

// Preemptor decides who ends for critical pods. Safe for concurrent use.
type Preemptor struct {
	cfg   Config
	count *prometheus.CounterVec
}

// New checks the configuration and registers the metric.
func New(cfg Config) (*Preemptor, error) {
	if cfg.Victims == nil || cfg.Now == nil {
		return nil, errors.New("preemption: no Victims or Now")
	}
	p := &Preemptor{cfg: cfg, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kubelet_preemptions", Help: "Cumulative number of pod preemptions by preemption resource",
	}, []string{"preemption_signal"})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(p.count); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Preempt returns the updates that end the pods whose room the critical pod needs, having recorded
// why they end. others use the node and are not ending yet; waiting were promised room before the pod, and do not
// end for it. Without updates and without an error there is room as soon as all has ended
// that is ending now.
func (p *Preemptor) Preempt(pod *v1.Pod, others, waiting []*v1.Pod) ([]worker.Update, error) {
	victims, short, err := p.cfg.Victims(pod, others, waiting)
	if err != nil {
		return nil, err
	}
	end := podstatus.End{Reason: Reason, Message: message, Disruption: condition, Since: p.cfg.Now()}
	var updates []worker.Update
	for _, v := range victims {
		signal := ""
		if len(short) > 0 {
			signal = string(short[0].Resource)
		}
		klog.InfoS("Preempting pod to free up resources", "pod", klog.KObj(v), "podUID", v.UID, "shortOf", signal, "requestingPod", klog.KObj(pod), "requestingPodUID", pod.UID)
		p.cfg.Journal.Warn(v, Reason, message)
		p.count.WithLabelValues(signal).Inc()
		updates = append(updates, worker.Update{Kind: worker.Kill, Pod: v, Explain: func(s *v1.PodStatus) { end.Explain(s, v) }})
	}
	return updates, nil
}

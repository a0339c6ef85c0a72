package probe

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// metrics count the runs of probes, under the kubelet's names and labels. They are
// guarded by Manager.mu: no run may be counted for a pod after its removal.
type metrics struct {
	total *prometheus.CounterVec
	took  *prometheus.HistogramVec
	pods  map[types.UID]types.NamespacedName // pods that have metrics
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prober_probe_total", Help: "Cumulative number of a liveness, readiness or startup probe for a container by result.",
		}, []string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prober_probe_duration_seconds", Help: "Duration in seconds for a probe response.",
		}, []string{"probe_type", "container", "pod", "namespace"}),
		pods: map[types.UID]types.NamespacedName{},
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.total, m.took} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("probe: register metrics: %w", err)
		}
	}
	return m, nil
}

// meters are the metrics of one probe, each made by the first run that needs it.
type meters struct {
	successful, failed prometheus.Counter
	took               prometheus.Observer
}

// ran counts a run that ended in success or failure. Only a success shows how long
// the container takes to answer.
func (m *metrics) ran(p *probe, r result, took time.Duration) {
	count := &p.meters.successful
	if r != success {
		count = &p.meters.failed
	}
	if *count == nil {
		*count = m.counter(p, r)
	}
	(*count).Inc()
	if r != success {
		return
	}
	if p.meters.took == nil {
		p.meters.took = m.took.WithLabelValues(p.kind.String(), p.of.spec.Name, p.of.pod.Name, p.of.pod.Namespace)
	}
	p.meters.took.Observe(took.Seconds())
}

func (m *metrics) counter(p *probe, r result) prometheus.Counter {
	pod := p.of.pod
	m.pods[pod.UID] = nameOf(pod)
	said := map[result]string{success: "successful", failure: "failed"}[r]
	return m.total.WithLabelValues(p.kind.String(), said, p.of.spec.Name, pod.Name, pod.Namespace, string(pod.UID))
}

// remove removes a pod's metrics. Idempotent.
func (m *metrics) remove(uid types.UID) {
	name, ok := m.pods[uid]
	if !ok {
		return
	}
	delete(m.pods, uid)
	m.total.DeletePartialMatch(prometheus.Labels{"pod_uid": string(uid)})
	for _, other := range m.pods {
		if other == name { // it has come back meanwhile, and goes on with these
			return
		}
	}
	m.took.DeletePartialMatch(prometheus.Labels{"pod": name.Name, "namespace": name.Namespace})
}

func nameOf(pod *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

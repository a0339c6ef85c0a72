// Package podstart measures how long pods take to start, by the definition of Kubernetes' pod startup latency SLI:
// from a pod's creation until the watch shows that all its containers have started, without what the image and the pod
// itself make it wait for.
//
//	loop ────── Follow, Changed, Forget ──┐
//	images ──── Pulling, Present ─────────┼──▶ Tracker ──▶ kubelet_pod_start_sli_duration_seconds, …
//	workers ─── Observed ─────────────────┘
//
// Static pods and their mirror pods are not measured: nobody knows when a manifest was created. A pod is known here from
// when it is bound to the node until it has started, failed or gone; then nothing is kept of it.
package podstart

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Buckets are the kubelet's for the time that pods take to start, in seconds.
var Buckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}

// Tracker follows the pods that are about to start. Safe for concurrent use. A nil one follows none.
type Tracker struct {
	clock        clock.PassiveClock
	total, sli   prometheus.Histogram
	firstNetwork prometheus.Gauge

	mu        sync.Mutex
	pods      map[types.UID]*start
	networked bool // the first pod on the network has been measured
}

// start is what is known of a pod that has not started yet.
type start struct {
	pulling   map[string]bool // images that are not there yet, after the first try to pull them
	since     time.Time       // when the first of them was missing
	pulled    time.Duration   // how long some image was missing before that
	inits     time.Duration   // how long init containers have run
	initsUpTo time.Time       // the last end of one that is in inits
}

// New returns a Tracker that registers its metrics with r.
func New(r prometheus.Registerer, c clock.PassiveClock) (*Tracker, error) {
	set := metricset.New(r)
	t := &Tracker{
		clock: c, pods: map[types.UID]*start{},
		total: set.Histogram("kubelet_pod_start_total_duration_seconds",
			"How long it took from a pod's creation until the watch showed that all its containers had started", Buckets),
		sli: set.Histogram("kubelet_pod_start_sli_duration_seconds",
			"The same of pods without lasting volumes, without the time in which images were pulled and init containers ran", Buckets),
		firstNetwork: set.Gauge("kubelet_first_network_pod_start_sli_duration_seconds",
			"The same of the first pod that was not on the host's network; 0: there was none"),
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("pod start: %w", err)
	}
	return t, nil
}

// Follow begins to follow a pod that was bound to the node just now. One that has been taken in before is not followed,
// nor one that runs already: an earlier agent knows what it had to wait for, and this one does not. Nor is one that the
// scheduler had to make room for, which the SLI leaves out.
func (t *Tracker) Follow(pod *v1.Pod, runs bool) {
	if t == nil || runs || pods.IsStatic(pod) || pods.IsMirror(pod) || !pod.Status.StartTime.IsZero() || over(pod) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods[pod.UID] = &start{}
}

// Changed is called with a pod as the watch has it now. Once it has started it is measured.
func (t *Tracker) Changed(pod *v1.Pod) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.pods[pod.UID]
	switch {
	case s == nil:
	case over(pod):
		delete(t.pods, pod.UID)
	case started(pod):
		delete(t.pods, pod.UID)
		t.observe(pod, s)
	}
}

// Forget ends the following of a pod that has gone.
func (t *Tracker) Forget(uid types.UID) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, uid)
}

// Pulling notes that a pod has to wait for an image from now on, and Present that the image is there. What failed
// tries and their back-off take is part of the wait, as in the kubelet.
func (t *Tracker) Pulling(uid types.UID, image string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.pods[uid]
	if s == nil {
		return
	}
	if len(s.pulling) == 0 {
		s.pulling, s.since = map[string]bool{}, t.clock.Now()
	}
	s.pulling[image] = true
}

// Present is Pulling's counterpart.
func (t *Tracker) Present(uid types.UID, image string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.pods[uid]
	if s == nil || !s.pulling[image] {
		return
	}
	delete(s.pulling, image)
	if len(s.pulling) == 0 {
		s.pulled += t.clock.Since(s.since)
	}
}

// Observed is called with what the runtime shows of a pod, before it is acted on.
func (t *Tracker) Observed(pod *v1.Pod, now *actual.PodStatus) {
	if t == nil || pod == nil || len(pod.Spec.InitContainers) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.pods[pod.UID]; s != nil {
		s.ended(pod, now.Containers)
	}
}

// ended counts the runs of init containers that have ended since the last look. They run one after the other, so that
// an end is known by its time. Sidecars do not keep a pod from starting once they have.
func (s *start) ended(pod *v1.Pod, all []*actual.ContainerStatus) {
	last := s.initsUpTo
	for _, c := range all {
		spec, kind := pods.Container(pod, c.Name)
		if spec == nil || kind != pods.InitContainer || pods.IsSidecar(spec) || c.State != actual.StateExited || !c.FinishedAt.After(s.initsUpTo) {
			continue
		}
		if ran := c.FinishedAt.Sub(c.StartedAt); ran > 0 && !c.StartedAt.IsZero() {
			s.inits += ran
		}
		if c.FinishedAt.After(last) {
			last = c.FinishedAt
		}
	}
	s.initsUpTo = last
}

// observe counts a pod that has started. Clocks differ between machines: no duration is below zero.
func (t *Tracker) observe(pod *v1.Pod, s *start) {
	total := max(t.clock.Since(pod.CreationTimestamp.Time), 0)
	t.total.Observe(total.Seconds())
	if lasting(pod) {
		return
	}
	sli := max(total-s.pulled-s.inits, 0)
	t.sli.Observe(sli.Seconds())
	if !pod.Spec.HostNetwork && !t.networked {
		t.networked = true
		t.firstNetwork.Set(sli.Seconds())
	}
}

// over reports whether a pod will not start any more, or could not be scheduled at once.
func over(pod *v1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == v1.PodScheduled && c.Status == v1.ConditionFalse {
			return true
		}
	}
	return pods.IsFinished(pod.Status.Phase)
}

// started reports whether all containers of a pod run.
func started(pod *v1.Pod) bool {
	for i := range pod.Spec.Containers {
		c := pods.ContainerStatus(pod.Status.ContainerStatuses, pod.Spec.Containers[i].Name)
		if c == nil || c.State.Running == nil || c.State.Running.StartedAt.IsZero() {
			return false
		}
	}
	return true
}

// lasting reports whether a pod has volumes with data of its own, whose mounting the SLI leaves out.
func lasting(pod *v1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].VolumeSource; v.Secret == nil && v.ConfigMap == nil && v.DownwardAPI == nil && v.EmptyDir == nil && v.Projected == nil {
			return true
		}
	}
	return false
}

package podstatus

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Verdict returns what the probes say of a running container; ok is false when they
// do not know it.
type Verdict func(actual.ContainerID) (started, ready, ok bool)

// Refresh puts what the probes say now into a pod's published status, and reports
// whether that changed it. It is for a pod whose worker is busy, for example with a
// container that takes long to stop: readiness must not wait for that. Everything else
// in the status stays as last observed.
func (m *Manager) Refresh(uid types.UID, verdict Verdict, now time.Time) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.statuses[uid]
	if !ok {
		return false
	}
	s := refreshed(e.pod, e.status, verdict, now)
	if equality.Semantic.DeepEqual(e.status, s) {
		return false
	}
	e.status = s
	m.statuses[uid] = e
	m.tell()
	m.watched(uid)
	return true
}

// refreshed returns the status with the verdicts in it, and with the conditions
// that follow from them.
func refreshed(pod *v1.Pod, old v1.PodStatus, verdict Verdict, now time.Time) v1.PodStatus {
	s := *old.DeepCopy()
	put := func(st *v1.ContainerStatus) {
		id, err := actual.ParseContainerID(st.ContainerID)
		if err != nil || st.State.Running == nil {
			return
		}
		if started, ready, ok := verdict(id); ok {
			ready = ready && started
			st.Started, st.Ready = &started, ready
		}
	}
	for i := range s.ContainerStatuses {
		put(&s.ContainerStatuses[i])
	}
	for _, c := range pod.Spec.InitContainers {
		if st := pods.ContainerStatus(s.InitContainerStatuses, c.Name); st != nil && pods.IsSidecar(&c) {
			put(st)
		}
	}
	ready := containersReady(pod, s)
	for _, c := range []v1.PodCondition{initializedCondition(pod, s), podReady(pod, old, ready), ready} {
		was := condition(s, c.Type)
		if was == nil {
			continue // never published: the worker publishes first
		}
		if was.Status != c.Status {
			was.LastTransitionTime = metav1.Time{Time: now.Truncate(time.Second)}
		}
		was.Status, was.Reason, was.Message = c.Status, c.Reason, c.Message
	}
	return s
}

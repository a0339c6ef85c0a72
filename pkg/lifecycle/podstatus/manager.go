package podstatus

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Manager is the store of the statuses that were published. Safe for concurrent use.
type Manager struct {
	metrics metrics

	mu       sync.RWMutex
	statuses map[types.UID]entry
	changed  []chan struct{}
	watchers []func(types.UID)
}

type entry struct {
	pod    *v1.Pod
	status v1.PodStatus
	// finished: nothing of the pod runs and its volumes are gone, for good.
	finished bool
	// since is when the status first differed from what was written to the API server; zero: it is there.
	since time.Time
}

// NewManager returns an empty Manager that counts the ends of containers in r, which may be nil.
func NewManager(r prometheus.Registerer) (*Manager, error) {
	counted, err := newMetrics(r)
	if err != nil {
		return nil, err
	}
	return &Manager{metrics: counted, statuses: map[types.UID]entry{}}, nil
}

// Changed returns a channel that holds a token whenever a status has changed since
// the last read: for those who show all statuses. Call it before any Set.
func (m *Manager) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{}, 1)
	m.changed = append(m.changed, c)
	return c
}

// Get returns the pod's last status.
func (m *Manager) Get(uid types.UID) (v1.PodStatus, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.statuses[uid]
	return *e.status.DeepCopy(), ok
}

// Set stores a pod's status and reports whether it differs from the one before. A
// status that would go backwards is corrected: what has terminated for good stays
// terminated.
func (m *Manager) Set(pod *v1.Pod, s v1.PodStatus) (changed bool) {
	s = *s.DeepCopy()
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.statuses[pod.UID]
	if ok {
		forwards(pod, old.status, &s)
	}
	if ok && equality.Semantic.DeepEqual(old.status, s) {
		if old.pod != pod {
			// The API server's view of the pod may have changed even if ours has
			// not.
			old.pod = pod
			m.statuses[pod.UID] = old
			m.watched(pod.UID)
		}
		return false
	}
	before := old.status
	if !ok {
		before = pod.Status // an earlier agent's
	}
	m.metrics.ended(before, s)
	if old.since.IsZero() {
		old.since = time.Now()
	}
	m.statuses[pod.UID] = entry{pod: pod, status: s, finished: old.finished, since: old.since}
	if old.status.Phase != s.Phase {
		klog.V(2).InfoS("Pod phase", "pod", klog.KObj(pod), "podUID", pod.UID, "phase", s.Phase, "oldPhase", old.status.Phase)
	}
	m.tell()
	m.watched(pod.UID)
	return true
}

// Finish notes that nothing of the pod runs or will run and that its volumes are
// gone: if it is deleted, it may now be removed from the API server.
func (m *Manager) Finish(pod *v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.statuses[pod.UID]
	if !ok {
		return
	}
	e.pod, e.finished = pod, true
	m.statuses[pod.UID] = e
	m.watched(pod.UID)
}

// Delete forgets a pod's status.
func (m *Manager) Delete(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.statuses[uid]; ok {
		delete(m.statuses, uid)
		m.tell()
		m.watched(uid)
	}
}

// subscribe makes the Manager call fn for each pod whose status, or whose object,
// has changed. fn must neither block nor call the Manager.
func (m *Manager) subscribe(fn func(types.UID)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = append(m.watchers, fn)
}

func (m *Manager) watched(uid types.UID) {
	for _, fn := range m.watchers {
		fn(uid)
	}
}

// wrote notes that a status that was read at that time is at the API server, and returns since when it was
// not; zero: it was.
func (m *Manager) wrote(uid types.UID, read entry) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.statuses[uid]
	if !ok {
		return read.since
	}
	since := e.since
	if equality.Semantic.DeepEqual(e.status, read.status) {
		e.since = time.Time{}
	} else {
		e.since = time.Now() // it has changed meanwhile
	}
	m.statuses[uid] = e
	return since
}

// entry returns what is known of a pod. Its status is shared and only read.
func (m *Manager) entry(uid types.UID) (entry, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.statuses[uid]
	return e, ok
}

func (m *Manager) tell() {
	for _, c := range m.changed {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// forwards keeps a status from contradicting the one before: a pod that has failed
// or succeeded stays so, and a container that has terminated and must not be
// restarted keeps its terminated state.
func forwards(pod *v1.Pod, old v1.PodStatus, s *v1.PodStatus) {
	if pods.IsFinished(old.Phase) {
		s.Phase = old.Phase
	}
	if old.StartTime != nil && (s.StartTime == nil || !s.StartTime.Equal(old.StartTime)) {
		s.StartTime = &metav1.Time{Time: old.StartTime.Time}
	}
	keep := func(containers []v1.Container, olds, news []v1.ContainerStatus) {
		for _, c := range containers {
			o, n := pods.ContainerStatus(olds, c.Name), pods.ContainerStatus(news, c.Name)
			if o == nil || n == nil || o.State.Terminated == nil || n.State.Terminated != nil || restarts(pod, c, o.State.Terminated.ExitCode) {
				continue
			}
			klog.V(4).InfoS("Kept the end of a container that may not run again", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", c.Name)
			*n = *o.DeepCopy()
		}
	}
	if mayRestartAll(pod) {
		return // then any container may restart
	}
	keep(pod.Spec.Containers, old.ContainerStatuses, s.ContainerStatuses)
}

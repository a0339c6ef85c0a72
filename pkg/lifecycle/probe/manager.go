package probe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/timequeue"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Config is what a Manager is made of. Everything but Journal and Metrics is
// required.
type Config struct {
	Exec    Exec
	Journal *journal.Journal
	// HostIPs returns the node's addresses, primary first: pods on the host's
	// network are probed there.
	HostIPs func() []string
	// Changed receives each pod for which a verdict has changed. The probe waits
	// until it is received.
	Changed chan<- Changed
	Metrics prometheus.Registerer // of /metrics/probes; nil: not shown
	// Gate holds each run, before its time begins; nil: none is held.
	Gate *gate.Gate
}

// Changed says that a probe's verdict about a container of a pod has changed.
type Changed struct {
	Pod   types.UID
	Cause uint64 // the run of the probe, in the journal
}

// Manager runs the probes of all containers. Safe for concurrent use.
type Manager struct {
	cfg    Config
	prober *prober
	start  time.Time // containers started before this belong to an earlier agent
	wake   chan struct{}

	mu         sync.Mutex
	pods       map[types.UID][]*container
	containers map[actual.ContainerID]*container
	due        timequeue.Queue[*probe] // probes that are not busy
	metrics    *metrics
}

// container is a running container that has probes. It is guarded by Manager.mu,
// except for what never changes after it is made: id, spec and since.
type container struct {
	id     actual.ContainerID
	pod    *v1.Pod
	spec   *v1.Container
	host   string
	since  time.Time // when it started
	probes [kinds]*probe
}

// probe is one probe of a container.
type probe struct {
	kind  kind
	of    *container
	spec  *v1.Probe
	name  string // for the journal
	state state
	noted journal.Handle // these two are used by one run at a time
	said  journal.Handle
	due   time.Time
	busy  bool
	meters
	// cancel ends the current run; nil when there is none.
	cancel context.CancelFunc
}

// New returns a Manager that probes nothing until Run.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Exec == nil:
		return nil, errors.New("probe: no Exec")
	case cfg.HostIPs == nil:
		return nil, errors.New("probe: no HostIPs")
	case cfg.Changed == nil:
		return nil, errors.New("probe: no Changed")
	}
	metrics, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Manager{
		cfg: cfg, metrics: metrics, prober: newProber(cfg.Exec), start: time.Now(), wake: make(chan struct{}, 1),
		pods: map[types.UID][]*container{}, containers: map[actual.ContainerID]*container{},
	}, nil
}

// Sync starts and stops probes so that exactly the pod's running containers are
// probed, as their specs want it. last returns the pod's last known status; it is
// called when a container is seen for the first time, and what the status says of
// that container is believed. Sync is not called concurrently for one pod.
func (m *Manager) Sync(pod *v1.Pod, observed *actual.PodStatus, last func() v1.PodStatus) {
	var old v1.PodStatus
	if m.unseen(pod, observed) {
		old = last() // never under the lock: last may ask for verdicts
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.pods[pod.UID]
	host := m.host(pod, observed)
	var now []*container
	each(pod, observed, func(spec *v1.Container, seen *actual.ContainerStatus) {
		c := m.containers[seen.ID]
		if c == nil {
			c = m.add(pod, spec, seen, old)
		}
		c.pod, c.host = pod, host
		now = append(now, c)
	})
	for _, c := range before {
		if !slices.Contains(now, c) {
			m.drop(c)
		}
	}
	m.pods[pod.UID] = now
	if len(now) == 0 {
		delete(m.pods, pod.UID)
	}
	if pod.DeletionTimestamp != nil {
		m.quiet(now)
	}
}

// Quiet ends the liveness and startup probes of a pod that is being stopped: they
// must not restart it. Readiness probes continue.
func (m *Manager) Quiet(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quiet(m.pods[uid])
}

// Remove ends all probes of a pod.
func (m *Manager) Remove(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.pods[uid] {
		m.drop(c)
	}
	delete(m.pods, uid)
	m.metrics.remove(uid)
}

// Started reports whether a running container has started up: without a startup
// probe it has as soon as it runs.
func (m *Manager) Started(id actual.ContainerID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.is(id, startup)
}

// Ready reports whether a running container is ready according to its readiness
// probe: without one it is.
func (m *Manager) Ready(id actual.ContainerID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.is(id, readiness)
}

// Verdict is Started and Ready at once; ok is false for a container that is not probed.
func (m *Manager) Verdict(id actual.ContainerID) (started, ready, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.is(id, startup), m.is(id, readiness), m.containers[id] != nil
}

// is reports whether a probe says yes, or does not exist.
func (m *Manager) is(id actual.ContainerID, k kind) bool {
	c := m.containers[id]
	return c == nil || c.probes[k] == nil || c.probes[k].state.verdict == success
}

// Failed returns which probe says that a container must be restarted, if any does.
func (m *Manager) Failed(id actual.ContainerID) actual.FailedProbe {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.containers[id]
	switch {
	case c == nil:
	case c.probes[liveness] != nil && c.probes[liveness].state.verdict == failure:
		return actual.FailedLiveness
	case c.probes[startup] != nil && c.probes[startup].state.verdict == failure:
		return actual.FailedStartup
	}
	return ""
}

// add takes in a container that has not been seen before.
func (m *Manager) add(pod *v1.Pod, spec *v1.Container, seen *actual.ContainerStatus, old v1.PodStatus) *container {
	c := &container{id: seen.ID, pod: pod, spec: spec, since: seen.StartedAt}
	before := pastOf(seen, old, m.start)
	for k, spec := range [kinds]*v1.Probe{liveness: spec.LivenessProbe, readiness: spec.ReadinessProbe, startup: spec.StartupProbe} {
		if spec != nil {
			c.probes[k] = &probe{kind: kind(k), of: c, name: c.spec.Name + "/" + kind(k).String(), spec: spec, state: begin(kind(k), before)}
		}
	}
	m.containers[c.id] = c
	now := time.Now()
	for _, p := range c.probes {
		if p != nil && p.wanted() {
			m.plan(p, first(p.spec, c.since, m.start, now))
		}
	}
	return c
}

// drop ends the probes of a container; the result of a current run is thrown away.
func (m *Manager) drop(c *container) {
	delete(m.containers, c.id)
	for _, p := range c.probes {
		if p != nil {
			m.stop(p)
		}
	}
}

func (m *Manager) quiet(containers []*container) {
	for _, c := range containers {
		for _, k := range []kind{liveness, startup} {
			if p := c.probes[k]; p != nil {
				p.state = p.state.quiet()
				m.stop(p)
			}
		}
	}
}

// stop takes a probe out of the schedule and ends its run.
func (m *Manager) stop(p *probe) {
	m.due.Forget(p)
	if p.cancel != nil {
		p.cancel()
	}
}

// wanted reports whether the probe should run at all now. Until the startup probe
// has succeeded, only that one should.
func (p *probe) wanted() bool {
	if p.state.hold {
		return false
	}
	s := p.of.probes[startup]
	return p.kind == startup || s == nil || s.state.verdict == success && !s.state.assumed
}

// host returns the address at which a pod's containers are probed.
func (m *Manager) host(pod *v1.Pod, observed *actual.PodStatus) string {
	ips := observed.IPs
	if pod.Spec.HostNetwork {
		ips = m.cfg.HostIPs()
	}
	if len(ips) == 0 {
		return ""
	}
	return ips[0]
}

// pastOf returns what is known of a container that is seen for the first time.
func pastOf(seen *actual.ContainerStatus, old v1.PodStatus, start time.Time) past {
	p := past{ranBefore: seen.StartedAt.Before(start)}
	for _, s := range slices.Concat(old.ContainerStatuses, old.InitContainerStatuses) {
		if s.ContainerID == seen.ID.String() && s.State.Running != nil {
			p.known, p.ready = true, s.Ready
			p.started = s.Started != nil && *s.Started
		}
	}
	return p
}

// unseen reports whether the pod has a container to probe that was not probed
// before.
func (m *Manager) unseen(pod *v1.Pod, observed *actual.PodStatus) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := false
	each(pod, observed, func(_ *v1.Container, seen *actual.ContainerStatus) {
		found = found || m.containers[seen.ID] == nil
	})
	return found
}

// each calls f for each running container of the pod that has probes; init
// containers other than sidecars have none.
func each(pod *v1.Pod, observed *actual.PodStatus, f func(*v1.Container, *actual.ContainerStatus)) {
	for kind, c := range pods.Containers(pod) {
		if kind == pods.InitContainer || c.LivenessProbe == nil && c.ReadinessProbe == nil && c.StartupProbe == nil {
			continue
		}
		if seen := observed.Container(c.Name); seen != nil && seen.State == actual.StateRunning {
			f(c, seen)
		}
	}
}

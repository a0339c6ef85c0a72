// Package nodepressure ends pods for the sake of the node: when it runs out of memory, disk or
// process IDs. It is the one place that says which pressure conditions the node has.
//
//	/proc, cgroups, statfs ─▶ decide (pure) ─┬─▶ conditions ─▶ node object, admission
//	every 10 s, sooner as memory             │
//	gets scarce or the kernel calls          └─▶ clean up ─▶ rank (pure) ─▶ Evictor, one pod
//
// The node first gives back what it can itself: dead containers and unused images. Then the pods are
// ranked, and the first that is not critical has to go. Nothing more is done until it has gone.
package nodepressure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/eviction"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

const (
	// period is the kubelet's evictionMonitoringPeriod.
	period = 10 * time.Second
	// pending is how soon to look again while a pod that was evicted has not gone, or while there is
	// something else to wait for.
	pending = 500 * time.Millisecond
	// pause is the least time between two attempts that come to nothing where memory is short.
	pause = time.Second
	// cleaning bounds one round of cleaning up.
	cleaning = 2 * time.Minute
	// idle is the least time between two cleanings where no pod can be evicted besides.
	idle = time.Minute
	// repeat is how often the event is repeated while a threshold stays met and no pod goes.
	repeat = 5 * time.Minute
)

// Reclaimer gives back what the node can do without. It may be called at any time, again too.
type Reclaimer interface {
	DeleteUnused(ctx context.Context) error
}

// Evictor ends pods.
type Evictor interface {
	// Evict reports whether the pod is being evicted; it does not wait for the pod.
	Evict(context.Context, eviction.Eviction) bool
	// Pending returns the evicted pods that have not gone and are worth waiting for.
	Pending() []eviction.Pending
}

// Config is what a Manager is made of. Changed, Containers, Images, Event and Metrics may be nil.
type Config struct {
	Thresholds []options.Threshold
	// Hold is how long a condition stays after its cause has gone (evictionPressureTransitionPeriod).
	Hold time.Duration
	// MaxGrace bounds the grace period of pods that are evicted at a soft threshold, in seconds
	// (evictionMaxPodGracePeriod).
	MaxGrace int64
	Node     Node
	// FileSystems returns Images and Layers of Node; ok is false while nobody knows, and it is called again.
	// nil: Node has them. It may take its time.
	FileSystems func() (images, layers string, ok bool)
	// Pods returns those that have not stopped yet.
	Pods    func() []*v1.Pod
	Runtime Runtime
	Volumes Volumes
	LogDir  func(*v1.Pod) string // with a directory for each container
	Evictor Evictor
	// EvictStatic has static pods evicted unless their priority spares them. The kubelet spares all, since
	// nobody makes them anew; on a standalone node, where there are no others, Cleared can.
	EvictStatic bool
	Changed     func()    // Conditions returns something else now; it must not block
	Containers  Reclaimer // removes dead containers
	Images      Reclaimer // removes unused images
	Event       journal.NodeEvent
	Metrics     prometheus.Registerer
	Clock       clock.Clock
}

// Manager watches over the node. Run it once.
type Manager struct {
	cfg        Config
	observer   observer
	observe    func(now time.Time) observations
	thresholds []options.Threshold
	layout     layout
	age        *prometheus.HistogramVec

	known bool          // where the file systems are
	found chan observer // once it is known after all

	wake    chan struct{} // a threshold of memory is met
	cleared chan struct{}

	memory  memory
	job     chan prepared                      // the cleaning under way; nil when none is
	ready   *prepared                          // what the last one came to, until it is used
	rest    map[v1.NodeConditionType]time.Time // nobody is evicted for its sake before
	cleaned map[cleanup]time.Time              // when the last one began
	told    map[v1.ResourceName]time.Time
	tried   map[types.UID]int64 // the grace of the pods that were evicted and have not stopped
	failing logonce.Error
	spared  map[options.Signal]bool // it was logged that no pod can be evicted
	dirty   logonce.Error           // of cleanings, which come one after the other

	mu         sync.Mutex
	conditions []v1.NodeConditionType
}

// prepared is what is known of the pods, of disk after a cleaning.
type prepared struct {
	threshold options.Threshold
	// candidates were there before used was asked for. Of a later one nothing could be known.
	candidates []*v1.Pod
	used       map[types.UID]usage
	at         time.Time // used is of that time, or of later
	err        error
}

// fits reports whether it says something about a threshold: about its signal, and not that cleaning was enough.
func (p *prepared) fits(t options.Threshold) bool {
	return p != nil && p.threshold.Signal == t.Signal && (p.used != nil || p.err != nil)
}

// New checks the configuration, registers the metric and looks at the node for the first time, so
// that no pod is admitted before that.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Pods == nil, cfg.Runtime == nil, cfg.Volumes == nil, cfg.LogDir == nil, cfg.Evictor == nil:
		return nil, errors.New("node pressure: no Pods, Runtime, Volumes, LogDir or Evictor")
	case cfg.Node.Root == "", cfg.Clock == nil:
		return nil, errors.New("node pressure: no Node or Clock")
	}
	m := &Manager{
		cfg: cfg, found: make(chan observer),
		wake: make(chan struct{}, 1), cleared: make(chan struct{}, 1),
		told: map[v1.ResourceName]time.Time{}, tried: map[types.UID]int64{},
		rest: map[v1.NodeConditionType]time.Time{}, cleaned: map[cleanup]time.Time{}, spared: map[options.Signal]bool{},
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_eviction_stats_age_seconds", Buckets: prometheus.DefBuckets,
			Help: "Time between when stats are collected, and when pod is evicted based on those stats by eviction signal",
		}, []string{"eviction_signal"}),
	}
	m.set(m.find())
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(m.age); err != nil {
			return nil, err
		}
	}
	now := cfg.Clock.Now()
	m.look(m.observe(now), now)
	return m, nil
}

// find asks for the file systems. ok is false if they are not known, or not there.
func (m *Manager) find() (o observer, ok bool) {
	o, ok = observer{m.cfg.Node}, true
	if m.cfg.FileSystems != nil {
		o.node.Images, o.node.Layers, ok = m.cfg.FileSystems()
	}
	return o, ok && o.canRead()
}

// set has the file systems watched from now on, at best as they are known.
func (m *Manager) set(o observer, known bool) {
	m.observer, m.observe, m.layout, m.known = o, o.all, o.layout(), known
	m.thresholds = withContainerfs(m.cfg.Thresholds, m.layout)
}

// findLater asks again until the file systems are known, or ctx ends.
func (m *Manager) findLater(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.cfg.Clock.After(period):
		}
		o, ok := m.find()
		if !ok {
			continue
		}
		select {
		case <-ctx.Done():
		case m.found <- o:
		}
		return
	}
}

// Conditions returns the pressure conditions that the node has, in the order of their names.
func (m *Manager) Conditions() []v1.NodeConditionType {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conditions
}

// Cleared says that the last condition has gone.
func (m *Manager) Cleared() <-chan struct{} { return m.cleared }

// Run looks at the node until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	if len(m.thresholds) == 0 {
		<-ctx.Done()
		return nil
	}
	var group sync.WaitGroup
	defer group.Wait()
	memory := m.newWatch()
	group.Go(func() { memory.run(ctx) })
	if !m.known {
		group.Go(func() { m.findLater(ctx) })
	}
	for {
		found := m.found
		if m.job != nil {
			found = nil // a cleaning goes by what was known when it began
		}
		next := m.cfg.Clock.NewTimer(m.round(ctx))
		select {
		case <-ctx.Done():
		case <-m.wake:
		case o := <-found:
			m.set(o, true)
		case p := <-m.job:
			m.job, m.ready = nil, &p
		case <-next.C():
		}
		next.Stop()
		if ctx.Err() != nil {
			if m.job != nil {
				<-m.job
			}
			return nil
		}
	}
}

// round looks at the node, and does what is to be done. It returns when to look again.
func (m *Manager) round(ctx context.Context) time.Duration {
	now := m.cfg.Clock.Now()
	seen := m.observe(now)
	v := m.look(seen, now)
	m.forgetTried()
	defer func() { m.ready = nil }() // used now or never: it does not become truer
	next := m.due(now)
	for _, t := range v.act {
		if m.waits(t) {
			return pending
		}
		candidates := m.cfg.Pods()
		evictable := slices.ContainsFunc(candidates, func(pod *v1.Pod) bool { return m.mayGo(t, pod) })
		rest := m.restFor(t, evictable)
		switch {
		case !evictable && cleanupFor(t.Signal, m.layout) == (cleanup{}):
			// Nothing can be done here, and no pod need be measured. Perhaps something can be for another.
			m.announce(t, now)
			m.nobody(t)
		case !now.Before(rest):
			m.relieve(ctx, t, candidates, evictable, seen[t.Signal])
			return pending
		case evictable:
			return min(rest.Sub(now), pending)
		default:
			next = min(next, rest.Sub(now))
		}
	}
	return next
}

// restFor is until when nothing is done about a threshold.
func (m *Manager) restFor(t options.Threshold, evictable bool) time.Time {
	rest, between := m.rest[signals[t.Signal].condition], period
	if !evictable {
		between = idle
	}
	if at := m.cleaned[cleanupFor(t.Signal, m.layout)].Add(between); ofDisk(t.Signal) && !m.ready.fits(t) && at.After(rest) {
		return at
	}
	return rest
}

// waits reports whether something that has been begun has to end before anything is done about a threshold.
func (m *Manager) waits(t options.Threshold) bool {
	return m.job != nil && ofDisk(t.Signal) || slices.ContainsFunc(m.cfg.Evictor.Pending(), func(p eviction.Pending) bool {
		// A hard threshold does not wait for a pod that still has a soft one's grace.
		return !t.Hard() || p.Grace <= eviction.ImmediateGrace
	})
}

// relieve does what can be done about a threshold. If none of the candidates is evictable, it only cleans up.
func (m *Manager) relieve(ctx context.Context, t options.Threshold, candidates []*v1.Pod, evictable bool, o observation) {
	now := m.cfg.Clock.Now()
	m.announce(t, now)
	p := m.prepared(ctx, t, candidates, evictable)
	if p == nil {
		return // the job has been started
	}
	if p.err != nil {
		m.rest[signals[t.Signal].condition] = now.Add(pause)
		if m.failing.Note(p.err) {
			klog.ErrorS(p.err, "Eviction manager: cannot find out which pod to evict, trying again", "signal", t.Signal)
		}
		return
	}
	m.failing.Note(nil)
	m.evict(ctx, t, p, o)
}

// look decides by what is seen, and publishes the conditions.
func (m *Manager) look(seen observations, now time.Time) verdict {
	var v verdict
	m.memory, v = decide(m.memory, input{thresholds: m.thresholds, seen: seen, hold: m.cfg.Hold, now: now})
	m.mu.Lock()
	old := m.conditions
	m.conditions = v.conditions
	m.mu.Unlock()
	if slices.Equal(old, v.conditions) {
		return v
	}
	klog.InfoS("Eviction manager: the node's pressure conditions have changed", "were", old, "are", v.conditions)
	if m.cfg.Changed != nil {
		m.cfg.Changed()
	}
	if len(v.conditions) == 0 {
		clear(m.told)
		clear(m.spared)
		select {
		case m.cleared <- struct{}{}:
		default:
		}
	}
	return v
}

// due is when something changes by time alone, or else the period.
func (m *Manager) due(now time.Time) time.Duration {
	next := period
	for t, since := range m.memory.first {
		if left := since.Add(t.Grace).Sub(now); left > 0 {
			next = min(next, left)
		}
	}
	for _, at := range m.memory.condition {
		if left := at.Add(m.cfg.Hold).Sub(now); left > 0 {
			next = min(next, left)
		}
	}
	return next
}

// forgetTried forgets pods that have stopped.
func (m *Manager) forgetTried() {
	if len(m.tried) == 0 {
		return
	}
	there := map[types.UID]bool{}
	for _, pod := range m.cfg.Pods() {
		there[pod.UID] = true
	}
	for uid := range m.tried {
		if !there[uid] {
			delete(m.tried, uid)
		}
	}
}

// announce records that the node is short of something: when that begins, and then now and then.
func (m *Manager) announce(t options.Threshold, now time.Time) {
	what := signals[t.Signal].resource
	if at, ok := m.told[what]; ok && now.Sub(at) < repeat {
		return
	}
	m.told[what] = now
	klog.InfoS("Eviction manager: attempting to reclaim", "resource", what, "signal", t.Signal)
	m.cfg.Event.Warn("EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", what))
}

// prepared returns what the candidates use. nil: what they occupy on disk is being measured, after the node
// has given back what it can.
func (m *Manager) prepared(ctx context.Context, t options.Threshold, candidates []*v1.Pod, evictable bool) *prepared {
	now := m.cfg.Clock.Now()
	if !ofDisk(t.Signal) {
		used, err := m.measure(ctx)
		return &prepared{threshold: t, candidates: candidates, used: used, at: now, err: err}
	}
	if m.ready.fits(t) {
		return m.ready
	}
	if !evictable {
		candidates = nil
	}
	job := make(chan prepared, 1)
	m.job = job
	m.cleaned[cleanupFor(t.Signal, m.layout)] = now
	go func() { job <- m.prepare(ctx, t, candidates) }()
	return nil
}

// prepare gives back what the node can do without. If that is not enough, it measures the candidates; the runtime
// is not asked if there are none.
func (m *Manager) prepare(ctx context.Context, t options.Threshold, candidates []*v1.Pod) prepared {
	c := cleanupFor(t.Signal, m.layout)
	bounded, cancel := context.WithTimeout(ctx, cleaning)
	defer cancel()
	var errs []error
	if c.containers && m.cfg.Containers != nil {
		if err := m.cfg.Containers.DeleteUnused(bounded); err != nil {
			errs = append(errs, fmt.Errorf("dead containers: %w", err))
		}
	}
	if c.images && m.cfg.Images != nil {
		if err := m.cfg.Images.DeleteUnused(bounded); err != nil {
			errs = append(errs, fmt.Errorf("unused images: %w", err))
		}
	}
	if err := errors.Join(errs...); m.dirty.Note(err) {
		klog.ErrorS(err, "Eviction manager: could not remove all that the node can do without", "signal", t.Signal)
	}
	p := prepared{threshold: t, candidates: candidates, at: m.cfg.Clock.Now()}
	if len(missed([]options.Threshold{t}, m.observe(m.cfg.Clock.Now()), true)) == 0 {
		klog.InfoS("Eviction manager: able to reduce resource pressure without evicting pods", "signal", t.Signal)
		return p
	}
	if len(candidates) == 0 {
		p.used = map[types.UID]usage{}
		return p
	}
	p.used, p.err = m.measureDisk(ctx, candidates, countedFor(t.Signal, m.layout))
	return p
}

// evict ends the first of the candidates that are still there and may be ended.
func (m *Manager) evict(ctx context.Context, t options.Threshold, p *prepared, o observation) {
	now := m.cfg.Clock.Now()
	asked := map[types.UID]bool{}
	for _, pod := range p.candidates {
		asked[pod.UID] = true
	}
	var candidates []*v1.Pod
	for _, pod := range m.cfg.Pods() {
		if asked[pod.UID] {
			candidates = append(candidates, pod)
		}
	}
	for _, pod := range rank(candidates, p.used, t.Signal, m.layout) {
		if !m.mayGo(t, pod) {
			continue
		}
		grace := m.grace(t, pod)
		u, known := p.used[pod.UID]
		message, annotations := explain(pod, u, known, t, o)
		m.age.WithLabelValues(string(t.Signal)).Observe(m.cfg.Clock.Since(p.at).Seconds())
		if !m.cfg.Evictor.Evict(ctx, eviction.Eviction{
			Pod: pod, Signal: string(t.Signal), Message: message, Grace: grace, Disruption: true, Annotations: annotations,
		}) {
			return // the agent stops
		}
		m.tried[pod.UID] = grace
		clear(m.spared)
		delete(m.told, signals[t.Signal].resource)
		if ofDisk(t.Signal) {
			m.rest[signals[t.Signal].condition] = now.Add(period) // what a pod leaves on disk may take a while to go
		}
		return
	}
	m.nobody(t)
	rest := pause
	if ofDisk(t.Signal) {
		rest = period
	}
	m.rest[signals[t.Signal].condition] = now.Add(rest)
}

// nobody logs, once, that no pod can be evicted.
func (m *Manager) nobody(t options.Threshold) {
	if !m.spared[t.Signal] {
		m.spared[t.Signal] = true
		klog.ErrorS(nil, "Eviction manager: unable to evict any pods from the node", "signal", t.Signal)
	}
}

// mayGo reports whether a pod can be evicted: it is not spared, and was not given as little time before.
func (m *Manager) mayGo(t options.Threshold, pod *v1.Pod) bool {
	given, ok := m.tried[pod.UID]
	return !m.Spares(pod) && (!ok || given > m.grace(t, pod))
}

// grace is how long a pod has to end, in seconds, the kubelet's rule.
func (m *Manager) grace(t options.Threshold, pod *v1.Pod) int64 {
	if t.Hard() {
		return eviction.ImmediateGrace
	}
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		return min(m.cfg.MaxGrace, *own)
	}
	return m.cfg.MaxGrace
}

// Spares reports whether a pod is not evicted for the sake of the node.
func (m *Manager) Spares(pod *v1.Pod) bool {
	if m.cfg.EvictStatic && pods.IsStatic(pod) {
		return pods.HasCriticalPriority(pod)
	}
	return pods.IsCritical(pod)
}

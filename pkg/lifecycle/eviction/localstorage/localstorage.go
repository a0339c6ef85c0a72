// Package localstorage holds pods to their limits of local storage: an emptyDir's
// sizeLimit, and ephemeral-storage of containers. Nothing in the kernel bounds these,
// so a pod that exceeds one is found by measuring, and evicted.
//
//	every 10 s, the pods that have such limits:
//	limitsOf(pod) ─▶ measure ─▶ exceeded ─▶ Evict
//
// Pods without limits cost nothing. A pod that takes long to measure is measured
// less often, and does not delay the others.
package localstorage

import (
	"context"
	"errors"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

const (
	// period is the kubelet's evictionMonitoringPeriod.
	period = 10 * time.Second
	// patience is how long the others wait for a pod to be measured.
	patience = 2 * time.Second
)

// Config is what a Manager is made of. Everything but ImagesElsewhere is required.
type Config struct {
	Pods    func() []*v1.Pod // those that run or should run
	Runtime Runtime
	Volumes Volumes
	LogDir  func(*v1.Pod) string // with a directory for each container
	// ImagesElsewhere is true when images and writable layers have a file system of their
	// own: a container's limit then applies to its logs only.
	ImagesElsewhere func() bool
	// Evict evicts a pod, or reports that it did not.
	Evict func(ctx context.Context, pod *v1.Pod, signal, message string) bool
}

// Manager enforces the limits.
type Manager struct {
	cfg Config

	mu    sync.Mutex
	looks map[types.UID]*look
}

// look is what is remembered of a pod with limits.
type look struct {
	busy    bool      // it is being measured
	next    time.Time // when it is to be measured again
	spared  string    // the excess for which it should have been evicted, and was not
	failing logonce.Error
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Pods == nil || cfg.Runtime == nil || cfg.Volumes == nil || cfg.LogDir == nil || cfg.Evict == nil {
		return nil, errors.New("local storage: no Pods, Runtime, Volumes, LogDir or Evict")
	}
	if cfg.ImagesElsewhere == nil {
		cfg.ImagesElsewhere = func() bool { return false }
	}
	return &Manager{cfg: cfg, looks: map[types.UID]*look{}}, nil
}

// Run looks at the pods until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			m.round(ctx, &wg, now)
		}
	}
}

// round measures the pods that are due, one after the other; a measurement that
// takes longer than patience continues in parallel.
func (m *Manager) round(ctx context.Context, wg *sync.WaitGroup, now time.Time) {
	there := map[types.UID]bool{}
	for _, pod := range m.cfg.Pods() {
		there[pod.UID] = true
		l := limitsOf(pod)
		if l.none() || !m.begin(pod.UID, now) {
			continue
		}
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			m.look(ctx, pod, l, now)
		})
		impatient := time.NewTimer(patience)
		select {
		case <-done:
		case <-impatient.C:
		}
		impatient.Stop()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, k := range m.looks {
		if !there[uid] && !k.busy {
			delete(m.looks, uid)
		}
	}
}

// begin marks a pod as being measured, if it is due. It reports whether it was.
func (m *Manager) begin(uid types.UID, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.looks[uid]
	if k == nil {
		k = &look{}
		m.looks[uid] = k
	}
	if k.busy || now.Before(k.next) {
		return false
	}
	k.busy = true
	return true
}

// look measures a pod and evicts it if it exceeds a limit. What could be measured
// counts even if the rest could not be: the pod uses at least that much.
func (m *Manager) look(ctx context.Context, pod *v1.Pod, l limits, due time.Time) {
	m.mu.Lock()
	k := m.looks[pod.UID] // this goroutine's alone while it is busy
	m.mu.Unlock()
	start := time.Now()
	u, err := m.measure(ctx, pod, l)
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		k.busy, k.next = false, due.Add(diskusage.Rest(time.Since(start)))
	}()
	if ctx.Err() != nil {
		return
	}
	if k.failing.Note(err) {
		klog.ErrorS(err, "Could not measure all that a pod occupies; it is tried again", "pod", klog.KObj(pod), "podUID", pod.UID)
	}
	x := exceeded(pod, l, u)
	switch {
	case x == nil:
		k.spared = ""
	case x.message != k.spared && !m.cfg.Evict(ctx, pod, x.signal, x.message):
		k.spared = x.message
	}
}

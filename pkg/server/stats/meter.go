package stats

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
)

// place is something that pods occupy: a volume, the logs of a container, its hosts file.
type place struct {
	pod  types.UID
	kind placeKind
	name string
}

type placeKind int

const (
	volumePlace placeKind = iota
	logPlace
	hostsPlace
)

// measurement is the last one of a place.
type measurement struct {
	diskusage.Space
	known bool
	busy  bool // it waits for its turn, or is being measured
	tried time.Time
	took  time.Duration
	asked time.Time
}

// meter measures places in the background, since that may take minutes: a few at a time, only
// those that are asked for, and each no more often than every so often. Safe for concurrent
// use.
type meter struct {
	mu      sync.Mutex
	all     map[place]*measurement
	waiting map[place]func(context.Context) (diskusage.Space, error)
	wake    chan struct{}
}

const (
	measuredAtOnce = 4
	forgottenAfter = 10 * time.Minute // by those who ask
)

func newMeter() *meter {
	return &meter{all: map[place]*measurement{}, waiting: map[place]func(context.Context) (diskusage.Space, error){}, wake: make(chan struct{}, 1)}
}

// of returns the last measurement, and has it repeated if it is older than every, or expensive.
// ok is false if there is none yet. It does not block.
func (m *meter) of(p place, every time.Duration, measure func(context.Context) (diskusage.Space, error)) (s diskusage.Space, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	k := m.all[p]
	if k == nil {
		k = &measurement{}
		m.all[p] = k
	}
	k.asked = now
	if !k.busy && (k.tried.IsZero() || now.Sub(k.tried) >= max(every, diskusage.Rest(k.took))) {
		k.busy = true
		m.waiting[p] = measure
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
	return k.Space, k.known
}

// run measures until ctx ends.
func (m *meter) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, measuredAtOnce)
	for {
		p, measure := m.next()
		if measure == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-m.wake:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		running.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			s, err := measure(ctx)
			m.note(p, s, err, began)
		})
	}
}

func (m *meter) next() (place, func(context.Context) (diskusage.Space, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, measure := range m.waiting {
		delete(m.waiting, p)
		return p, measure
	}
	return place{}, nil
}

// note keeps a result, and forgets what nobody has asked for since long.
func (m *meter) note(p place, s diskusage.Space, err error, began time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if k := m.all[p]; k != nil {
		k.tried, k.took, k.busy = now, now.Sub(began), false
		k.known = err == nil
		if err == nil {
			k.Space = s
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		klog.V(4).InfoS("Could not measure what a pod occupies", "podUID", p.pod, "name", p.name, "err", err)
	}
	for other, k := range m.all {
		if !k.busy && now.Sub(k.asked) > forgottenAfter {
			delete(m.all, other)
		}
	}
}

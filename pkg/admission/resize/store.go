// Package resize decides which resources a running pod has. What a pod asks for can
// change while it runs (in-place resize, KEP-1287); the node grants that if there
// is room, and until then the pod keeps what it was given before.
//
//	pod as wanted ──▶ Allocate ──▶ pod as given ──▶ cgroups, containers, status
//	                     │
//	                     └─ Deferred: no room now · Infeasible: never here
//
// What was given is on disk, one file per pod, so that a restarted agent does not
// mistake what is asked for for what was given. Admission and the worker call it.
package resize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Config is what a Store is made of; everything but StaticCPUs, StaticMemory and Metrics is required.
type Config struct {
	Dir string // of the files
	// Allocatable returns what pods may request in total.
	Allocatable func() v1.ResourceList
	// StaticCPUs is true if containers have CPUs to themselves (cpuManagerPolicy
	// static): then the CPUs of a Guaranteed pod do not change while it runs.
	StaticCPUs bool
	// StaticMemory is true if the memory of containers is of certain NUMA nodes
	// (memoryManagerPolicy Static): the same for that of a Guaranteed pod.
	StaticMemory bool
	// Freed is called with the pods that wait for room, when there may be some.
	Freed   func([]types.UID)
	Metrics prometheus.Registerer // nil: nothing is counted
}

// Pending says why a pod has not been given what it asks for.
type Pending struct {
	Reason  string // v1.PodReasonDeferred or v1.PodReasonInfeasible
	Message string
}

// given is what a pod has been given, in the form on disk.
type given struct {
	Pod        *v1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]v1.ResourceRequirements `json:"containers"`
}

// Store holds what the pods have been given. Safe for concurrent use.
type Store struct {
	cfg     Config
	metrics metrics

	mu      sync.Mutex
	given   map[types.UID]given
	waiting map[types.UID]wait
}

// New reads what was given before.
func New(cfg Config) (*Store, error) {
	if cfg.Dir == "" || cfg.Allocatable == nil || cfg.Freed == nil {
		return nil, errors.New("resize: the Config is not complete")
	}
	s := &Store{cfg: cfg, given: map[types.UID]given{}, waiting: map[types.UID]wait{}}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, s); err != nil {
		return nil, err
	}
	const lost = "Which resources pods have been given. They are given what they ask for now; a resize that was waiting for room is not held back."
	if err := durable.Dir(cfg.Dir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("make the directory of allocated resources: %w", err)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("read the allocated resources: %w", err)
	}
	for _, e := range entries {
		if durable.Temporary(e.Name()) {
			continue
		}
		var g given
		err := durable.Load(filepath.Join(cfg.Dir, e.Name()), lost, func(text []byte) error { return decodeGiven(text, &g) })
		switch {
		case err == nil:
			s.given[types.UID(e.Name())] = g
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read the allocated resources: %w", err)
		}
	}
	return s, nil
}

func decodeGiven(text []byte, g *given) error {
	if err := json.Unmarshal(text, g); err != nil {
		return err
	}
	if g.Containers == nil {
		return errors.New("it names no containers")
	}
	return nil
}

// Of returns the pod with the resources that it has been given; the pod itself if
// nothing is on record for it, or just what it asks for.
func (s *Store) Of(pod *v1.Pod) *v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(pod)
}

func (s *Store) of(pod *v1.Pod) *v1.Pod {
	g, ok := s.given[pod.UID]
	if !ok {
		return pod
	}
	return g.apply(pod)
}

// Allocate gives the pod the resources that it asks for, if the node has them, and returns
// the pod with those that it has: pending says why these are not what it asks for, changed
// reports whether they differ from what it had. The first time it is given what it asks for,
// since admission has let it in. others returns the pods that use the node, as they are
// wanted; the pod itself among them does not count.
func (s *Store) Allocate(pod *v1.Pod, others func() []*v1.Pod) (has *v1.Pod, pending *Pending, changed bool, err error) {
	if pods.IsStatic(pod) {
		return pod, nil, false, nil // a changed one is a different pod
	}
	beside := others() // before locking: others takes locks of its own
	s.mu.Lock()
	defer s.mu.Unlock()
	before, waited := s.waiting[pod.UID]
	delete(s.waiting, pod.UID)
	has = s.of(pod)
	_, known := s.given[pod.UID]
	now := time.Now()
	if known && has == pod {
		if waited { // it asks no more
			s.metrics.resolved(before, "reverted", now)
		}
		return pod, nil, false, nil
	}
	if known {
		for i, o := range beside {
			beside[i] = s.of(o)
		}
		pending, detail := s.refusal(pod, has, beside)
		if pending != nil {
			next, another := before.after(pod, pending.Reason, now)
			if another && pending.Reason == v1.PodReasonInfeasible {
				s.metrics.infeasible.WithLabelValues(detail).Inc()
			}
			s.waiting[pod.UID] = next
			return has, pending, false, nil
		}
	}
	if err := s.record(pod); err != nil {
		if waited {
			s.waiting[pod.UID] = before
		}
		return has, nil, false, err
	}
	if before.reason == v1.PodReasonDeferred {
		s.metrics.accepted.WithLabelValues(before.trigger(pod)).Inc()
		s.metrics.resolved(before, "accepted", now)
	}
	return pod, nil, known, nil
}

// refusal returns why a pod cannot have what it asks for, nil if it can, and the metrics' word for it.
func (s *Store) refusal(pod, has *v1.Pod, beside []*v1.Pod) (pending *Pending, detail string) {
	if p := beyondBounds(pod); p != nil {
		return p, detailAllocatable
	}
	if p, why := pinned(pod, has, s.cfg.StaticCPUs, s.cfg.StaticMemory); p != nil {
		return p, why
	}
	return decide(pod, beside, s.cfg.Allocatable()), detailAllocatable
}

// record is called with the lock held.
func (s *Store) record(pod *v1.Pod) error {
	g := given{Pod: pod.Spec.Resources, Containers: map[string]v1.ResourceRequirements{}}
	for _, c := range pods.Containers(pod) {
		g.Containers[c.Name] = c.Resources
	}
	text, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("record the resources of a pod: %w", err)
	}
	if err := durable.Write(s.file(pod.UID), text); err != nil {
		return fmt.Errorf("record the resources of a pod: %w", err)
	}
	s.given[pod.UID] = g
	return nil
}

// file returns the pod's file; no UID leads out of the directory.
func (s *Store) file(uid types.UID) string {
	return filepath.Join(s.cfg.Dir, filepath.Base(string(uid)))
}

// Remove forgets a pod that no longer uses anything, and tells Freed the pods that
// wait for room.
func (s *Store) Remove(uid types.UID) error {
	s.mu.Lock()
	_, known := s.given[uid]
	delete(s.given, uid)
	if w, ok := s.waiting[uid]; ok {
		s.metrics.resolved(w, "terminated", time.Now())
		delete(s.waiting, uid)
	}
	var deferred []types.UID
	for other, w := range s.waiting {
		if w.reason == v1.PodReasonDeferred {
			w.freed = true
			s.waiting[other] = w
			deferred = append(deferred, other)
		}
	}
	s.mu.Unlock()
	if len(deferred) > 0 {
		s.cfg.Freed(deferred)
	}
	if !known {
		return nil
	}
	if err := os.Remove(s.file(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the resources of a pod: %w", err)
	}
	return nil
}

// Orphans forgets the pods that are gone.
func (s *Store) Orphans(gone func(types.UID) bool) error {
	s.mu.Lock()
	known := slices.Collect(maps.Keys(s.given))
	s.mu.Unlock()
	var all error
	for _, uid := range known {
		if gone(uid) { // asked now: a pod that comes back later has nothing on record yet
			all = errors.Join(all, s.Remove(uid))
		}
	}
	return all
}

// apply returns the pod with these resources, the pod itself if it has them.
func (g given) apply(pod *v1.Pod) *v1.Pod {
	out := pod
	differ := func() {
		if out == pod {
			out = pod.DeepCopy()
		}
	}
	if !equality.Semantic.DeepEqual(pod.Spec.Resources, g.Pod) {
		differ()
		out.Spec.Resources = g.Pod
	}
	for _, c := range pods.Containers(pod) {
		if r, ok := g.Containers[c.Name]; ok && !equality.Semantic.DeepEqual(c.Resources, r) {
			differ()
			own, _ := pods.Container(out, c.Name)
			own.Resources = r
		}
	}
	return out
}

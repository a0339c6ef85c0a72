// Package podstore holds the pods that this node should run: the loop writes,
// everyone else reads. Mirror pods (the API server's image of a static pod) are
// kept beside the pods they mirror and never count as pods of their own.
package podstore

import (
	"cmp"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Store is the set of desired pods. Safe for concurrent use. The pods in it are
// shared: nobody modifies them in place.
type Store struct {
	complete chan struct{} // closed once every source has spoken
	spoken   sync.Once

	mu       sync.RWMutex
	pods     index
	mirrors  index
	promised []types.UID
}

// New returns an empty Store.
func New() *Store {
	return &Store{complete: make(chan struct{}), pods: newIndex(), mirrors: newIndex()}
}

// Set adds the pod or replaces the one with its UID.
func (s *Store) Set(pod *v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(pod).set(pod)
}

// Remove forgets the pod with this pod's UID.
func (s *Store) Remove(pod *v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(pod).remove(pod.UID)
}

// SetComplete notes that every source has spoken: from now on a pod that is not in the
// Store is wanted by nobody.
func (s *Store) SetComplete() { s.spoken.Do(func() { close(s.complete) }) }

// Complete reports whether every source has spoken.
func (s *Store) Complete() bool {
	select {
	case <-s.complete:
		return true
	default:
		return false
	}
}

// Completed is closed once every source has spoken.
func (s *Store) Completed() <-chan struct{} { return s.complete }

// MayBeWanted reports whether the pod is wanted, or could be because a source has not
// spoken yet.
func (s *Store) MayBeWanted(uid types.UID) bool {
	if !s.Complete() {
		return true
	}
	_, wanted := s.Get(uid)
	return wanted
}

// Get returns the pod with that UID; it finds no mirror pods.
func (s *Store) Get(uid types.UID) (*v1.Pod, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.pods.byUID[uid]
	return p, ok
}

// ByName returns the pod with that namespace and name; it finds no mirror pods.
func (s *Store) ByName(namespace, name string) (*v1.Pod, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.pods.byName[types.NamespacedName{Namespace: namespace, Name: name}]
	return p, ok
}

// Mirror returns the mirror pod of a static pod.
func (s *Store) Mirror(pod *v1.Pod) (*v1.Pod, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.mirrors.byName[pods.NameOf(pod)]
	return p, ok
}

// MirrorByName returns the mirror pod with that namespace and name.
func (s *Store) MirrorByName(namespace, name string) (*v1.Pod, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.mirrors.byName[types.NamespacedName{Namespace: namespace, Name: name}]
	return p, ok
}

// Pods returns all pods but mirrors, ordered by namespace and name.
func (s *Store) Pods() []*v1.Pod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pods.list()
}

// Promise notes which pods were promised room: they do not use the node yet, but nobody else may have what others leave
// for them. It replaces those noted before.
func (s *Store) Promise(uids []types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promised = uids
}

// Promised returns the pods that were promised room and are still wanted.
func (s *Store) Promised() (list []*v1.Pod) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, uid := range s.promised {
		if pod, ok := s.pods.byUID[uid]; ok {
			list = append(list, pod)
		}
	}
	return list
}

func (s *Store) of(pod *v1.Pod) *index {
	if pods.IsMirror(pod) {
		return &s.mirrors
	}
	return &s.pods
}

// index finds pods by UID and by name. While a static pod is being replaced, or
// when the API server has a pod with a static pod's name, two pods can share a
// name: byName then holds the one set last, and once that is removed, one that is
// still there.
type index struct {
	byUID  map[types.UID]*v1.Pod
	byName map[types.NamespacedName]*v1.Pod
}

func newIndex() index {
	return index{byUID: map[types.UID]*v1.Pod{}, byName: map[types.NamespacedName]*v1.Pod{}}
}

func (x *index) set(pod *v1.Pod) {
	x.byUID[pod.UID] = pod
	x.byName[pods.NameOf(pod)] = pod
}

func (x *index) remove(uid types.UID) {
	pod, ok := x.byUID[uid]
	if !ok {
		return
	}
	delete(x.byUID, uid)
	n := pods.NameOf(pod)
	if x.byName[n] == nil || x.byName[n].UID != uid {
		return
	}
	delete(x.byName, n)
	for _, p := range x.byUID {
		if pods.NameOf(p) == n {
			x.byName[n] = p
		}
	}
}

func (x *index) list() []*v1.Pod {
	pods := make([]*v1.Pod, 0, len(x.byUID))
	for _, p := range x.byUID {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b *v1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return pods
}

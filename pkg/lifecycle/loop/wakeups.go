package loop

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Wakeups are the pods that something wants looked at: an object that they refer to has
// changed, a driver has registered, there may be room for a resize. Safe for concurrent use.
type Wakeups struct {
	wake chan struct{} // has a place for one that the loop has not seen yet

	mu   sync.Mutex
	uids map[types.UID]struct{}
}

// NewWakeups returns Wakeups of no pod.
func NewWakeups() *Wakeups {
	return &Wakeups{wake: make(chan struct{}, 1), uids: map[types.UID]struct{}{}}
}

// Add has the loop sync the pods, as far as they are wanted. It does not block, and several for
// one pod become one.
func (w *Wakeups) Add(uids []types.UID) {
	if len(uids) == 0 {
		return
	}
	w.mu.Lock()
	for _, uid := range uids {
		w.uids[uid] = struct{}{}
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns each pod once.
func (w *Wakeups) take() map[types.UID]struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	uids := w.uids
	w.uids = map[types.UID]struct{}{}
	return uids
}

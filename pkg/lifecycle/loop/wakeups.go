package loop

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Wakeups collects pods that should be synced soon: an object that they refer to has
// changed, a driver has registered, the network is ready, there may be room for a resize. Safe for concurrent use.
type Wakeups struct {
	wake chan struct{} // holds a token while the loop has not taken the newest UIDs

	mu   sync.Mutex
	uids map[types.UID]string // and why
}

// NewWakeups returns empty Wakeups.
func NewWakeups() *Wakeups {
	return &Wakeups{wake: make(chan struct{}, 1), uids: map[types.UID]string{}}
}

// For returns a function that makes the loop sync the pods that are wanted, because of what is said. It does not block; several
// wake-ups of one pod become one.
func (w *Wakeups) For(what string) func([]types.UID) {
	return func(uids []types.UID) { w.add(what, uids) }
}

func (w *Wakeups) add(what string, uids []types.UID) {
	if len(uids) == 0 {
		return
	}
	w.mu.Lock()
	for _, uid := range uids {
		if _, has := w.uids[uid]; !has {
			w.uids[uid] = what
		}
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns each pod once, with the first reason.
func (w *Wakeups) take() map[types.UID]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	uids := w.uids
	w.uids = map[types.UID]string{}
	return uids
}

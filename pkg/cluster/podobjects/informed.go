package podobjects

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"
)

// informed is what one watch of a whole cluster knows. Safe for concurrent use.
type informed struct {
	informer cache.SharedIndexInformer
	unread   error // what Wait returns while nothing is known

	mu       sync.Mutex
	patience time.Time // until when callers wait for the first answer; zero: nobody has waited yet
}

// Run keeps the watch until ctx ends. What was known stays known. It is called once.
func (i *informed) Run(ctx context.Context) error {
	i.informer.RunWithContext(ctx)
	return nil
}

// HasSynced reports whether the objects have been read at least once.
func (i *informed) HasSynced() bool { return i.informer.HasSynced() }

// Wait returns nil once the objects have been read. It waits for that until 5 s
// after it was first called: an agent that starts reads pods and these objects at
// the same time.
func (i *informed) Wait(ctx context.Context) error {
	if i.HasSynced() {
		return nil
	}
	i.mu.Lock()
	if i.patience.IsZero() {
		i.patience = time.Now().Add(syncWait)
	}
	until := i.patience
	i.mu.Unlock()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	select {
	case <-i.informer.HasSyncedChecker().Done():
		return nil
	case <-ctx.Done():
		return i.unread
	}
}

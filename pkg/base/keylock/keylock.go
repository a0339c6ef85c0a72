// Package keylock has locks by name, for what several pods share: a volume, a disk.
// A caller waits with its context, so that a holder that hangs delays only those who
// need the same lock.
package keylock

import (
	"context"
	"fmt"
	"sync"
)

// Locks are locks by name. The zero value is ready, and safe for concurrent use.
type Locks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// Lock waits until the name is free or ctx ends, and holds it until unlock is called.
func (l *Locks) Lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		free := l.take(name)
		if free == nil {
			return func() { l.release(name) }, nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is busy: %w", name, context.Cause(ctx))
		}
	}
}

// TryLock is Lock without waiting; ok reports whether the name was free.
func (l *Locks) TryLock(name string) (unlock func(), ok bool) {
	if l.take(name) != nil {
		return nil, false
	}
	return func() { l.release(name) }, true
}

// take returns nil to the new holder, and to others a channel that is closed when
// the name is free.
func (l *Locks) take(name string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.held[name]; c != nil {
		return c
	}
	if l.held == nil {
		l.held = map[string]chan struct{}{}
	}
	l.held[name] = make(chan struct{})
	return nil
}

func (l *Locks) release(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[name])
	delete(l.held, name)
}

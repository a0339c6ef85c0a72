// Package shared does work once for all who ask for its result at about the same time.
package shared

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Work is done by Do when somebody asks for its result, and at most once at a time: who asks
// meanwhile waits for what is under way, and a result is good for MaxAge from when the work
// began. An error is told to those who waited, and not kept. Do must return soon after its
// context ends. Work is safe for concurrent use; its fields are set before.
type Work[T any] struct {
	Do      func(ctx context.Context) (T, error)
	MaxAge  time.Duration
	Timeout time.Duration // of Do

	mu      sync.Mutex
	running *run[T]
	last    *run[T] // the newest that succeeded, nil: none
}

type run[T any] struct {
	began time.Time
	done  chan struct{} // closed at the end; the rest is then set
	value T
	err   error
}

// Get returns a result that is at most MaxAge old. The error is Do's, or the context's.
func (w *Work[T]) Get(ctx context.Context) (T, error) {
	w.mu.Lock()
	if w.last != nil && time.Since(w.last.began) < w.MaxAge {
		defer w.mu.Unlock()
		return w.last.value, nil
	}
	if r := w.running; r != nil {
		w.mu.Unlock()
		select {
		case <-r.done:
			return r.value, r.err
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
	r := &run[T]{began: time.Now(), done: make(chan struct{})}
	w.running = r
	w.mu.Unlock()
	// A client that leaves does not end the work of those who wait for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Timeout)
	defer cancel()
	w.do(ctx, r)
	return r.value, r.err
}

// do runs the work. Even a panic leaves nobody waiting.
func (w *Work[T]) do(ctx context.Context, r *run[T]) {
	r.err = errors.New("the work that was waited for panicked")
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running = nil
		if r.err == nil {
			w.last = r
		}
		close(r.done)
	}()
	r.value, r.err = w.Do(ctx)
}

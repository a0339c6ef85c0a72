package volume

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

// serial runs the work of each pod in a goroutine of its own, one piece at a time.
// A caller that gives up leaves the work to finish by itself, and the next caller
// waits for that first. So a system call that hangs costs one goroutine, however
// often it is tried.
type serial struct {
	mu      sync.Mutex
	running map[types.UID]*work
}

type work struct {
	done chan struct{}
	err  error

	mu   sync.Mutex
	step string
}

// at notes the current step, for the message if it hangs.
func (w *work) at(step string) {
	w.mu.Lock()
	w.step = step
	w.mu.Unlock()
}

func (w *work) where() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.step
}

// do runs fn when no other work of the pod is in progress and returns its error, or
// says what it was waiting for if ctx ends first.
func (s *serial) do(ctx context.Context, uid types.UID, fn func(*work) error) error {
	for {
		s.mu.Lock()
		before := s.running[uid]
		if before == nil {
			w := s.start(uid, fn)
			s.mu.Unlock()
			return w.wait(ctx)
		}
		s.mu.Unlock()
		select {
		case <-before.done:
		case <-ctx.Done():
			return before.wait(ctx)
		}
	}
}

// try starts fn unless the pod is busy, in which case it returns nil. The error is
// returned by wait.
func (s *serial) try(uid types.UID, fn func(*work) error) *work {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[uid] != nil {
		return nil
	}
	return s.start(uid, fn)
}

// wait returns the work's error, or its current step if ctx ends first.
func (w *work) wait(ctx context.Context) error {
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		if step := w.where(); step != "" {
			return fmt.Errorf("%s: no answer yet: %w", step, context.Cause(ctx))
		}
		return context.Cause(ctx)
	}
}

// start is called with the lock held.
func (s *serial) start(uid types.UID, fn func(*work) error) *work {
	w := &work{done: make(chan struct{})}
	s.running[uid] = w
	go func() {
		w.err = recovery.Call(func() error { return fn(w) })
		s.mu.Lock()
		delete(s.running, uid)
		s.mu.Unlock()
		close(w.done)
	}()
	return w
}

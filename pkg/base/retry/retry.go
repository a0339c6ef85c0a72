// Package retry is how work on the API server is done from a queue, and when it is
// tried again after a failure.
package retry

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
)

// Limiter lets an item of a work queue be tried again after first, which doubles
// with each failure up to most, and is up to half as long again at random: the
// nodes of a cluster must not come back all at once.
func Limiter[T comparable](first, most time.Duration) workqueue.TypedRateLimiter[T] {
	return jittered[T]{workqueue.NewTypedItemExponentialFailureRateLimiter[T](first, most)}
}

type jittered[T comparable] struct {
	workqueue.TypedRateLimiter[T]
}

// When implements workqueue.TypedRateLimiter.
func (j jittered[T]) When(item T) time.Duration {
	return wait.Jitter(j.TypedRateLimiter.When(item), 0.5)
}

// Serve has each item of the queue worked on until ctx ends, at most n at a time and
// never one item twice at once. It shuts the queue down and returns when the work
// under way has ended.
func Serve[T comparable](ctx context.Context, queue workqueue.TypedInterface[T], n int, work func(context.Context, T)) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				item, stop := queue.Get()
				if stop {
					return
				}
				work(ctx, item)
				queue.Done(item)
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	wg.Wait()
}

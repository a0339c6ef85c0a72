// Package retry runs work on the API server from a queue, and decides when work
// that has failed is tried again.
package retry

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
)

// CallTimeout is how long work on the API server may take. A server that takes requests and
// answers none would otherwise stop all work, also that which would be answered.
const CallTimeout = time.Minute

// Limiter retries an item of a work queue after first, doubling with each failure
// up to most, plus up to half of that at random: the nodes of a cluster must not
// come back all at once.
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

// Serve works on the items of the queue until ctx ends, at most n at a time and
// never one item twice at once. It shuts the queue down and returns when the work in
// progress has ended.
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

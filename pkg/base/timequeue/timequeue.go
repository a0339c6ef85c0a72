// Package timequeue is a queue by time: what is due when.
package timequeue

import (
	"container/heap"
	"sync"
	"time"
)

// Queue records what is due when. A key has one time, the last one set. Asking costs
// nothing for keys that are not due. The zero Queue is empty and ready to use; it is
// safe for concurrent use.
type Queue[K comparable] struct {
	mu    sync.Mutex
	byKey map[K]*item[K]
	heap  items[K]
}

type item[K comparable] struct {
	key   K
	at    time.Time
	index int
}

// Set makes the key due at that time, and reports whether it is now the first.
func (q *Queue[K]) Set(key K, at time.Time) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it, ok := q.byKey[key]
	if ok {
		it.at = at
		heap.Fix(&q.heap, it.index)
		return it.index == 0
	}
	if q.byKey == nil {
		q.byKey = map[K]*item[K]{}
	}
	it = &item[K]{key: key, at: at}
	q.byKey[key] = it
	heap.Push(&q.heap, it)
	return it.index == 0
}

// Forget removes the key, if it is there.
func (q *Queue[K]) Forget(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it, ok := q.byKey[key]; ok {
		heap.Remove(&q.heap, it.index)
		delete(q.byKey, key)
	}
}

// Take removes and returns the keys that are due at now, earliest first, and
// returns when the next one is due; the zero time if there is none.
func (q *Queue[K]) Take(now time.Time) (due []K, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.heap) > 0 {
		if q.heap[0].at.After(now) {
			return due, q.heap[0].at
		}
		it := heap.Pop(&q.heap).(*item[K])
		delete(q.byKey, it.key)
		due = append(due, it.key)
	}
	return due, time.Time{}
}

// Len is how many keys there are.
func (q *Queue[K]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heap)
}

// items implements heap.Interface.
type items[K comparable] []*item[K]

func (h items[K]) Len() int           { return len(h) }
func (h items[K]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h items[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *items[K]) Push(x any) {
	it := x.(*item[K])
	it.index = len(*h)
	*h = append(*h, it)
}

func (h *items[K]) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return it
}

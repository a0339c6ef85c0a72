package worker

import (
	"container/heap"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// dueQueue says which pods are to be synced again when. A pod has one due time,
// the one set last. Asking costs nothing for pods that are not due.
type dueQueue struct {
	mu    sync.Mutex
	byUID map[types.UID]*dueItem
	heap  dueHeap
}

type dueItem struct {
	uid   types.UID
	at    time.Time
	index int
}

func newDueQueue() *dueQueue {
	return &dueQueue{byUID: map[types.UID]*dueItem{}}
}

func (q *dueQueue) set(uid types.UID, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it, ok := q.byUID[uid]; ok {
		it.at = at
		heap.Fix(&q.heap, it.index)
		return
	}
	it := &dueItem{uid: uid, at: at}
	q.byUID[uid] = it
	heap.Push(&q.heap, it)
}

func (q *dueQueue) forget(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it, ok := q.byUID[uid]; ok {
		heap.Remove(&q.heap, it.index)
		delete(q.byUID, uid)
	}
}

// take removes and returns the pods that are due at now, earliest first.
func (q *dueQueue) take(now time.Time) []types.UID {
	q.mu.Lock()
	defer q.mu.Unlock()
	var due []types.UID
	for len(q.heap) > 0 && !q.heap[0].at.After(now) {
		it := heap.Pop(&q.heap).(*dueItem)
		delete(q.byUID, it.uid)
		due = append(due, it.uid)
	}
	return due
}

type dueHeap []*dueItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *dueHeap) Push(x any) {
	it := x.(*dueItem)
	it.index = len(*h)
	*h = append(*h, it)
}
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return it
}

package pleg

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// cache holds the pods' statuses. PLEG's goroutine alone writes it; anyone reads.
type cache struct {
	mu   sync.Mutex
	pods map[types.UID]entry
	asOf time.Time // start of the last full relist: every pod that is not suspect was as cached then
	// suspect holds the pods that have changed, or may have, and since when. Only a
	// look that began then or later is valid for them.
	suspect map[types.UID]time.Time
	view    []*actual.Pod
	changed chan struct{} // closed and replaced by every write
}

type entry struct {
	status *actual.PodStatus
	err    error // of the last look; status is then the last good one
	asOf   time.Time
}

func newCache() *cache {
	return &cache{pods: map[types.UID]entry{}, suspect: map[types.UID]time.Time{}, changed: make(chan struct{})}
}

// write changes the cache and wakes everyone who waits for news.
func (c *cache) write(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// doubt makes only looks from t on valid for the pod.
func (c *cache) doubt(uid types.UID, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspect[uid] = later(c.suspect[uid], t)
}

// get returns the status of a pod as of t or later, or the channel to wait on.
func (c *cache) get(uid types.UID, t time.Time) (status *actual.PodStatus, wait <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.pods[uid]
	asOf := e.asOf
	if _, changed := c.suspect[uid]; !changed && c.asOf.After(asOf) {
		asOf = c.asOf
	}
	if asOf.IsZero() || asOf.Before(t) {
		return nil, c.changed, nil
	}
	if e.err != nil {
		return nil, nil, e.err
	}
	if !ok {
		return &actual.PodStatus{UID: uid, ObservedAt: asOf}, nil, nil
	}
	return e.status, nil, nil
}

// GetNewerThan returns the pod's status as observed at or after t. If the cached
// status is older, it asks for a new look and waits for it; while nothing has been
// observed, it waits even if t is zero. A pod that the runtime does not have has an
// empty status. The status is shared: nobody changes it.
func (p *PLEG) GetNewerThan(ctx context.Context, uid types.UID, t time.Time) (*actual.PodStatus, error) {
	asked := false
	for {
		status, wait, err := p.cache.get(uid, t)
		if wait == nil {
			return status, err
		}
		if !asked && !t.IsZero() {
			asked = true
			p.want(uid, true, journal.Of(ctx).Seq())
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Look is GetNewerThan(now), always by inspecting the pod: for what lists do not show,
// such as the resources of a container.
func (p *PLEG) Look(ctx context.Context, uid types.UID) (*actual.PodStatus, error) {
	now := time.Now()
	p.cache.doubt(uid, now)
	return p.GetNewerThan(ctx, uid, now)
}

// Pods returns the last view of the whole runtime, nil before the first. It is
// shared: nobody changes it.
func (p *PLEG) Pods() []*actual.Pod {
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	return p.cache.view
}

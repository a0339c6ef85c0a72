package podobjects

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// fetch is get for the strategies that do not watch. Get asks the server every
// time. Cache asks when its answer is too old, and keeps the old one while the
// server cannot be reached. One caller at a time asks for an object.
func (c *Cache) fetch(ctx context.Context, e *entry) (metav1.Object, error) {
	cached := c.cfg.Strategy == kubeletconfig.TTLCacheChangeDetectionStrategy
	select {
	case e.fetching <- struct{}{}:
		defer func() { <-e.fetching }()
	case <-ctx.Done():
		return nil, fmt.Errorf("failed to fetch %s %s/%s: %w", e.key.kind, e.key.namespace, e.key.name, context.Cause(ctx))
	}
	c.mu.Lock()
	known := false
	select {
	case <-e.synced:
		known = true
	default:
	}
	if cached && known && e.object != nil && c.cfg.Clock.Since(e.fetched) < c.cfg.TTL() {
		defer c.mu.Unlock()
		return e.answer()
	}
	last := e.object
	c.mu.Unlock()

	var o metav1.GetOptions
	if cached && last != nil {
		o.ResourceVersion = "0" // a refresh is served from the API server's memory
	}
	now, err := c.kinds[e.key.kind].get(ctx, e.key.namespace, e.key.name, o)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case apierrors.IsNotFound(err):
		now = nil
	case err != nil && cached && last != nil:
		klog.ErrorS(err, "Could not refresh an object, using the last known one", "kind", e.key.kind, "object", klog.KRef(e.key.namespace, e.key.name))
		return e.answer()
	case err != nil:
		return nil, err
	}
	e.object, e.fetched = now, c.cfg.Clock.Now()
	if !known {
		close(e.synced)
	}
	return e.answer()
}

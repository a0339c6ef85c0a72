package stats

import (
	"context"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// imagePatience is how long a reader waits for the runtime's sum of its images. A runtime that removes
// images may answer minutes later; scrapers give up after ten seconds, and with the rest of the page.
const imagePatience = 2 * time.Second

// imageTimeout bounds one question, as the kubelet bounds what it asks a runtime.
const imageTimeout = 2 * time.Minute

// imageInfo asks the runtime in the background what images occupy, and only when somebody wants to
// know. Safe for concurrent use.
type imageInfo struct {
	ask  func(context.Context) (*cri.ImageFsInfoResponse, error)
	wake chan struct{}

	mu    sync.Mutex
	last  *cri.ImageFsInfoResponse // nil: none yet
	began time.Time                // when it was asked for
	next  chan struct{}            // closed with the next answer
}

func newImageInfo(ask func(context.Context) (*cri.ImageFsInfoResponse, error)) *imageInfo {
	return &imageInfo{ask: ask, wake: make(chan struct{}, 1), next: make(chan struct{})}
}

// get returns an answer that is at most maxAge old; if the runtime lets it wait for longer than
// imagePatience, or has no answer, the last one; nil if there never was one.
func (i *imageInfo) get(ctx context.Context) *cri.ImageFsInfoResponse {
	i.mu.Lock()
	last, fresh, next := i.last, i.fresh(), i.next
	i.mu.Unlock()
	if fresh {
		return last
	}
	select {
	case i.wake <- struct{}{}:
	default: // it has been woken up already
	}
	patience := time.NewTimer(imagePatience)
	defer patience.Stop()
	select {
	case <-next:
	case <-patience.C:
	case <-ctx.Done():
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.last
}

// fresh is called with the lock held.
func (i *imageInfo) fresh() bool { return i.last != nil && time.Since(i.began) < maxAge }

// run asks until ctx ends.
func (i *imageInfo) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.wake:
		}
		i.mu.Lock()
		fresh := i.fresh() // somebody has woken it up who then got the answer that was under way
		i.mu.Unlock()
		if fresh {
			continue
		}
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, imageTimeout)
		info, err := i.ask(asking)
		cancel()
		if err != nil {
			klog.V(2).InfoS("The runtime does not tell what images occupy", "err", err)
		}
		i.mu.Lock()
		if err == nil {
			i.last, i.began = info, began
		}
		close(i.next)
		i.next = make(chan struct{})
		i.mu.Unlock()
	}
}

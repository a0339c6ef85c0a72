package image

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// backoff spaces the pulls of one image for one pod: after a failure the next try
// waits initial, and twice as long after each further failure, up to most. A pair
// that has not failed for twice most begins anew.
type backoff struct {
	initial, most time.Duration

	mu      sync.Mutex
	entries map[pair]*failure
}

type pair struct {
	pod   types.UID
	image string
}

type failure struct {
	delay time.Duration
	at    time.Time
	err   *Error
}

// left returns how long the pair must wait and what it failed with.
func (b *backoff) left(p pair, now time.Time) (time.Duration, *Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.entries[p]
	if f == nil {
		return 0, nil
	}
	return f.at.Add(f.delay).Sub(now), f.err
}

// failed notes a failure, returns the wait that follows, and forgets old failures.
func (b *backoff) failed(p pair, err *Error, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	for other, f := range b.entries {
		if now.Sub(f.at) > 2*b.most {
			delete(b.entries, other)
		}
	}
	f := b.entries[p]
	if f == nil {
		f = &failure{}
		b.entries[p] = f
	}
	f.delay = min(max(2*f.delay, b.initial), b.most)
	f.at, f.err = now, err
	return f.delay
}

func (b *backoff) succeeded(p pair) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, p)
}

package stats

import (
	"context"
	"sync"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/diskusage"
)

// Disk is what a directory occupied when it was measured.
type Disk struct {
	diskusage.Usage
	At time.Time
}

// layer is the last measurement of a layer, and when it was last tried.
type layer struct {
	Disk
	measured bool
	tried    time.Time
	took     time.Duration
}

// Layers measures writable layers in the background, since walking a directory may take
// minutes: one at a time, and only the layers that are asked for. Its methods are safe for
// concurrent use.
type Layers struct {
	mu    sync.Mutex
	known map[string]layer
	asked map[string]string // id to directory, waiting to be measured
	wake  chan struct{}
}

// NewLayers returns a Layers; Run measures.
func NewLayers() *Layers {
	return &Layers{known: map[string]layer{}, asked: map[string]string{}, wake: make(chan struct{}, 1)}
}

// Of returns the last measurement of a container's layer, or false when there is none yet. An
// old measurement is repeated, and a failed one no sooner than others. Of does not block.
func (l *Layers) Of(id, dir string) (Disk, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.known[id]
	if dir != "" && (!ok || time.Since(k.tried) > diskusage.Rest(k.took)) {
		l.asked[id] = dir
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return k.Disk, k.measured
}

// Total returns the sum of the measurements.
func (l *Layers) Total() (bytes, inodes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.known {
		bytes += d.Bytes
		inodes += d.Inodes
	}
	return bytes, inodes
}

// Forget drops what is remembered about a container.
func (l *Layers) Forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, id)
	delete(l.asked, id)
}

// Run measures what is asked for until ctx ends.
func (l *Layers) Run(ctx context.Context) error {
	for {
		id, dir, any := l.next()
		if !any {
			select {
			case <-ctx.Done():
				return nil
			case <-l.wake:
			}
			continue
		}
		at := time.Now()
		used, err := diskusage.Of(ctx, dir)
		l.mu.Lock()
		if _, still := l.asked[id]; still {
			k := l.known[id]
			k.tried, k.took = at, time.Since(at)
			// What was counted before an error exists, and is better than counting nothing.
			if err == nil || used.Bytes > k.Bytes {
				k.Disk, k.measured = Disk{Usage: used, At: at}, true
			}
			l.known[id] = k
		}
		delete(l.asked, id)
		l.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (l *Layers) next() (id, dir string, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, dir := range l.asked {
		return id, dir, true
	}
	return "", "", false
}

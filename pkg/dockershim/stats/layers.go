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

// layer is what is known of one, and when that was last to be found out.
type layer struct {
	Disk
	measured bool
	tried    time.Time
	took     time.Duration
}

// Layers measures writable layers in the background, one at a time and only those
// that are asked for: walking a directory may take minutes.
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

// Of returns the last measurement of a container's layer and has it repeated when
// it is old; false until there is one. One that failed is repeated no sooner than others.
// It does not block.
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

// Total is the sum of what is known.
func (l *Layers) Total() (bytes, inodes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.known {
		bytes += d.Bytes
		inodes += d.Inodes
	}
	return bytes, inodes
}

// Forget drops what is remembered of a container.
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
			// What was counted before an error is there, and tells more than a smaller sum.
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

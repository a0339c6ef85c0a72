package stats

import (
	"context"
	"sync"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/du"
)

// Disk is what a directory occupied when it was measured.
type Disk struct {
	du.Usage
	At   time.Time
	took time.Duration
}

// Layers measures writable layers in the background, one at a time and only those
// that are asked for: walking a directory takes as long as it takes.
type Layers struct {
	mu    sync.Mutex
	known map[string]Disk
	asked map[string]string // id to directory, waiting to be measured
	wake  chan struct{}
}

// NewLayers returns a Layers; Run measures.
func NewLayers() *Layers {
	return &Layers{known: map[string]Disk{}, asked: map[string]string{}, wake: make(chan struct{}, 1)}
}

// Of returns the last measurement of a container's layer and has it repeated when
// it is old; false until the first is done. It does not block.
func (l *Layers) Of(id, dir string) (Disk, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.known[id]
	if dir != "" && (!ok || time.Since(d.At) > du.Rest(d.took)) {
		l.asked[id] = dir
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return d, ok
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
		used, err := du.Of(ctx, dir)
		l.mu.Lock()
		if _, still := l.asked[id]; still && err == nil {
			l.known[id] = Disk{Usage: used, At: at, took: time.Since(at)}
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

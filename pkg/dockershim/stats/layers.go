package stats

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// layerAge is how long a measurement of a writable layer counts, the kubelet's
// period for volumes.
const layerAge = time.Minute

// Disk is what a directory occupies.
type Disk struct {
	Bytes, Inodes uint64
	At            time.Time
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
	if dir != "" && (!ok || time.Since(d.At) > layerAge) {
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
		d, err := measure(ctx, dir)
		l.mu.Lock()
		if _, still := l.asked[id]; still && err == nil {
			l.known[id] = d
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

// measure walks a directory. What goes away meanwhile does not count.
func measure(ctx context.Context, dir string) (Disk, error) {
	d := Disk{At: time.Now()}
	seen := map[uint64]bool{} // inodes with several names
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && !e.IsDir() && seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 && !e.IsDir() {
			seen[st.Ino] = true
		}
		d.Bytes += uint64(st.Blocks) * 512
		d.Inodes++
		return nil
	})
	return d, err
}

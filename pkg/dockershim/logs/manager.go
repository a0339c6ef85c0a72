package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

const (
	// gather is how long events may wait to be handled together. It is most of the
	// delay between a line in Docker's log and the same line in the CRI log.
	gather = 10 * time.Millisecond
	// retryEvery is how often to try a log that cannot be written or watched.
	retryEvery = 500 * time.Millisecond
	maxPumps   = 2
)

// ErrNotFollowed is returned for a container whose log is not followed.
var ErrNotFollowed = errors.New("the container's log is not followed")

// Config is what a Manager is built from.
type Config struct {
	// StateDir keeps the position of each log. It is created if missing, and must not be
	// shared by two processes.
	StateDir string
	// PollInterval is how often all logs are looked at in case an event was missed; 5 s.
	PollInterval time.Duration
}

// Manager follows the logs of all containers. Its methods are safe for concurrent use.
type Manager struct {
	cfg  Config
	poke chan struct{} // a log needs to be looked at soon

	mu        sync.Mutex
	events    *inotify // nil while there is none; set once, by Run
	toldNone  bool
	followers map[string]*follower
	watches   map[int32]*follower
	ready     []*follower
	running   bool // between the beginning and the end of Run
	pumps     int
	pumping   sync.WaitGroup
}

// runState says whether a follower is queued for the pumps or with one of them.
type runState int

const (
	idle runState = iota
	queued
	running
	again // running, and queued again afterwards
)

// New returns a Manager. Positions of containers that no longer exist are dropped.
func New(cfg Config) (*Manager, error) {
	if cfg.StateDir == "" {
		return nil, errors.New("logs: StateDir is required")
	}
	if cfg.PollInterval <= 0 {
		cfg.PollInterval = 5 * time.Second
	}
	err := durable.Dir(cfg.StateDir, "Up to where logs have been copied: what their containers write may be copied twice.")
	if err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("create directory of log positions: %w", err)
	}
	if err := prunePositions(cfg.StateDir); err != nil {
		return nil, fmt.Errorf("drop old log positions: %w", err)
	}
	return &Manager{
		cfg:       cfg,
		poke:      make(chan struct{}, 1),
		followers: map[string]*follower{},
		watches:   map[int32]*follower{},
	}, nil
}

// Run copies logs until ctx ends, saves the positions and returns nil. It must be called only
// once. Without it, only Finish and Reopen copy.
func (m *Manager) Run(ctx context.Context) error {
	var reader sync.WaitGroup
	m.openEvents(ctx, &reader)
	m.mu.Lock()
	m.running = true
	m.dispatch()
	m.mu.Unlock()

	timer := time.NewTimer(m.cfg.PollInterval)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-m.poke:
			timer.Reset(retryEvery)
		case <-timer.C:
			m.openEvents(ctx, &reader)
			if m.sweep() {
				timer.Reset(retryEvery)
			} else {
				timer.Reset(m.cfg.PollInterval)
			}
		}
	}

	m.mu.Lock()
	if m.events != nil {
		m.events.close()
	}
	m.mu.Unlock()
	reader.Wait()
	m.mu.Lock()
	m.running = false
	m.mu.Unlock()
	m.pumping.Wait()
	var errs []error
	for _, f := range m.all() {
		f.mu.Lock()
		errs = append(errs, f.save())
		f.mu.Unlock()
	}
	return errors.Join(errs...)
}

// openEvents makes the kernel report changes, if it does not do so yet. A user has only 128
// inotify instances, which containers that run as root share: until one is free, logs are
// polled.
func (m *Manager) openEvents(ctx context.Context, reader *sync.WaitGroup) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.events != nil {
		return
	}
	events, err := newInotify()
	if err != nil {
		if !m.toldNone {
			klog.ErrorS(err, "Changes of container logs are not told; the logs are polled", "every", retryEvery)
			m.toldNone = true
		}
		return
	}
	m.events = events
	for _, f := range m.followers {
		m.watch(f)
		m.enqueue(f) // it may have changed before
	}
	reader.Go(func() { m.readEvents(ctx, events) })
}

// Follow begins to copy a container's log from dockerLogPath, Docker's LogPath of the
// container, to criPath, where a file exists when Follow returns. It goes on where an earlier
// agent stopped; calling it again changes nothing. The caller vouches for the directory of
// criPath; a symbolic link as its last element is refused.
func (m *Manager) Follow(ctx context.Context, containerID, dockerLogPath, criPath string) error {
	if containerID == "" || containerID != filepath.Base(containerID) || containerID[0] == '.' {
		return fmt.Errorf("follow log: container ID %q is not valid", containerID)
	}
	if !filepath.IsAbs(dockerLogPath) || !filepath.IsAbs(criPath) {
		return fmt.Errorf("follow log of %s: paths must be absolute: %q, %q", containerID, dockerLogPath, criPath)
	}
	m.mu.Lock()
	f, known := m.followers[containerID]
	if !known {
		f = &follower{
			id: containerID, dockerPath: dockerLogPath, criPath: criPath,
			statePath: filepath.Join(m.cfg.StateDir, containerID),
			fresh:     true,
		}
		m.followers[containerID] = f
		f.mu.Lock()
	}
	m.mu.Unlock()
	if known {
		if f.criPath != criPath {
			return fmt.Errorf("follow log of %s: it is already written to %s", containerID, f.criPath)
		}
		return nil
	}
	err := f.begin()
	f.mu.Unlock()
	if err != nil {
		m.Forget(containerID)
		return fmt.Errorf("follow log of %s: %w", containerID, err)
	}
	klog.FromContext(ctx).V(4).Info("Following container log", "containerID", containerID, "path", criPath)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watch(f)
	m.enqueue(f)
	return nil
}

// Reopen makes the next line go to the file at the container's CRI path, after the
// caller has renamed the one that was there. The file exists when Reopen returns.
func (m *Manager) Reopen(containerID string) error {
	f, err := m.get(containerID)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.reopen(); err != nil {
		return fmt.Errorf("reopen log of %s: %w", containerID, err)
	}
	return nil
}

// Finish is called when the container has died. It returns when the CRI log holds everything
// that the container wrote, and ends watching the log. When it fails, the rest is still copied
// as soon as that is possible.
func (m *Manager) Finish(ctx context.Context, containerID string) error {
	f, err := m.get(containerID)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			m.retry(f, true)
			return fmt.Errorf("copy the rest of the log of %s: %w", containerID, err)
		}
		if more, err = f.pump(); err != nil {
			m.retry(f, true)
			return fmt.Errorf("copy the rest of the log of %s: %w", containerID, err)
		}
	}
	return m.finished(f)
}

// Forget stops following a container that is removed, and drops its position. The CRI log
// stays. For an unknown container it does nothing.
func (m *Manager) Forget(containerID string) {
	m.mu.Lock()
	f := m.followers[containerID]
	delete(m.followers, containerID)
	if f != nil {
		m.unwatch(f)
	}
	m.mu.Unlock()
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten = true
	if err := os.Remove(f.statePath); err != nil && !errors.Is(err, os.ErrNotExist) {
		klog.ErrorS(err, "Log position cannot be removed", "containerID", containerID)
	}
}

func (m *Manager) get(containerID string) (*follower, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.followers[containerID]
	if f == nil {
		return nil, fmt.Errorf("container %s: %w", containerID, ErrNotFollowed)
	}
	return f, nil
}

func (m *Manager) all() []*follower {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*follower, 0, len(m.followers))
	for _, f := range m.followers {
		all = append(all, f)
	}
	return all
}

// finished ends the work for a dead container whose log is copied completely. f.mu is held.
func (m *Manager) finished(f *follower) error {
	if f.done {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unwatch(f) // openEvents watches finished logs too
		return nil
	}
	if err := f.save(); err != nil {
		return err
	}
	f.done = true
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unwatch(f)
	f.failing = false
	return nil
}

// watch is called with mu held.
func (m *Manager) watch(f *follower) {
	if m.events == nil {
		m.soon()
		return
	}
	watch, err := m.events.add(filepath.Dir(f.dockerPath))
	if err != nil {
		// Polling is good enough; the usual reason is the limit on watches.
		klog.V(2).InfoS("Container log is polled", "containerID", f.id, "err", err)
		m.soon()
		return
	}
	f.watch = watch
	m.watches[watch] = f
}

// unwatch is called with mu held.
func (m *Manager) unwatch(f *follower) {
	if f.watch != 0 {
		delete(m.watches, f.watch)
		m.events.remove(f.watch)
		f.watch = 0
	}
}

func (m *Manager) soon() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

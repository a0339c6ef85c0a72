package logs

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// readEvents queues the logs in which inotify reports changes until the instance closes.
func (m *Manager) readEvents(ctx context.Context, events *inotify) {
	buf := make([]byte, 64<<10)
	changed := map[int32]struct{}{}
	for {
		clear(changed)
		overflow, err := events.read(buf, changed)
		if err != nil {
			if ctx.Err() == nil {
				klog.ErrorS(err, "Log events cannot be read any more; logs are polled")
			}
			return
		}
		m.mu.Lock()
		if overflow {
			for _, f := range m.followers {
				m.enqueueUnlessFailing(f)
			}
		}
		for watch := range changed {
			if f := m.watches[watch]; f != nil {
				m.enqueueUnlessFailing(f)
			}
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(gather): // let events gather in the kernel
		}
	}
}

func (m *Manager) enqueueUnlessFailing(f *follower) {
	if !f.failing {
		m.enqueue(f)
	}
}

// enqueue queues a log for the pumps. It is called with mu held.
func (m *Manager) enqueue(f *follower) {
	switch f.state {
	case idle:
		f.state = queued
		m.ready = append(m.ready, f)
		m.dispatch()
	case running:
		f.state = again
	}
}

// dispatch starts as many pumps as are needed and allowed. It is called with mu held.
func (m *Manager) dispatch() {
	for m.running && m.pumps < min(maxPumps, len(m.ready)) {
		m.pumps++
		m.pumping.Go(m.pump)
	}
}

// pump copies the logs that are ready and ends when none is.
func (m *Manager) pump() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.running && len(m.ready) > 0 {
		f := m.ready[0]
		m.ready[0] = nil
		m.ready = m.ready[1:]
		f.state = running
		m.mu.Unlock()
		more := m.pumpOne(f)
		m.mu.Lock()
		if f.state == again || more {
			f.state = idle
			m.enqueue(f)
		} else {
			f.state = idle
		}
	}
	m.pumps--
}

func (m *Manager) pumpOne(f *follower) (more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	more, err := f.pump()
	if err == nil && !more && f.dead {
		err = m.finished(f)
	}
	changed := m.retry(f, err != nil)
	switch {
	case changed && err != nil:
		klog.ErrorS(err, "Container log cannot be copied for now; its lines wait in Docker's own log", "containerID", f.id, "path", f.criPath)
	case changed:
		klog.InfoS("Container log is copied again", "containerID", f.id, "path", f.criPath)
	}
	return more && err == nil
}

// retry notes whether a log is failing, so that a sweep tries it again, and reports whether
// that is new.
func (m *Manager) retry(f *follower, failing bool) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = f.failing != failing
	f.failing = failing
	if changed && failing {
		m.soon()
	}
	return changed
}

// sweep looks at all logs once: it saves positions, queues the logs that have changed
// without an event, and those that failed. It reports whether any log must be looked at again
// soon.
func (m *Manager) sweep() (soon bool) {
	for _, f := range m.all() {
		m.mu.Lock()
		failing, polled, busy := f.failing, f.watch == 0, f.state != idle
		m.mu.Unlock()
		if busy || !f.mu.TryLock() {
			soon = soon || failing
			continue
		}
		pending := failing || (!f.done && f.changed())
		if err := f.save(); err != nil {
			pending = true
		}
		soon = soon || failing || (polled && !f.done)
		f.mu.Unlock()
		if pending {
			m.mu.Lock()
			m.enqueue(f)
			m.mu.Unlock()
		}
	}
	return soon
}

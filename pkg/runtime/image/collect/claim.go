package collect

import (
	"context"
	"time"
)

// Claim keeps an image, which was there at that time, because a container is about to be made
// from it: it is not removed before the minimum age is over once more, and by then the container
// has it. It waits while the image is being removed. false says that the image may be gone
// since: look again.
func (m *Manager) Claim(ctx context.Context, id string, seen time.Time) bool {
	for {
		m.mu.Lock()
		going := m.going[id]
		if going == nil {
			break
		}
		m.mu.Unlock()
		select {
		case <-going:
		case <-ctx.Done():
			return false
		}
	}
	defer m.mu.Unlock()
	if since, ok := m.gone[id]; ok && !seen.After(since) {
		return false
	}
	now := time.Now()
	e := m.images[id]
	if e == nil {
		e = &entry{Image: Image{ID: id, Detected: now}}
		m.images[id] = e
	}
	e.Claimed, e.Used = now, now
	return true
}

// touch notes that an image is in use.
func (m *Manager) touch(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.images[id]; e != nil {
		e.Used = time.Now()
	}
}

// take begins the removal of an image: nobody can claim it until done is called, with whether it
// was removed. The entry is nil if the image has been claimed since a time, or is wanted
// now.
func (m *Manager) take(id string, since time.Time) (e *entry, done func(removed bool)) {
	wanted := normalizedSet(m.cfg.Wanted())
	m.mu.Lock()
	defer m.mu.Unlock()
	e = m.images[id]
	if e == nil || !e.Claimed.Before(since) || among(wanted, id, e.names) {
		return nil, nil
	}
	ended := make(chan struct{})
	m.going[id] = ended
	return e, func(removed bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		// Also one that failed may have succeeded in part.
		m.gone[id] = time.Now()
		if removed {
			delete(m.images, id)
		}
		delete(m.going, id)
		close(ended)
	}
}

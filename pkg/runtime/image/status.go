package image

import (
	"context"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// freshFor is how long a found image counts as present without asking again: long
// enough for the containers of a burst of equal pods. If the agent itself has removed it since,
// its Collector says so. The runtime is asked about a missing image every time.
const freshFor = 500 * time.Millisecond

// statuses asks the runtime for image statuses, once for all callers that want the
// same one at the same time.
type statuses struct {
	images Service
	now    func() time.Time

	mu     sync.Mutex
	known  map[string]found
	asking map[string]*question
}

// found is an answer of the runtime, and since when it is true: the time of the question.
type found struct {
	image *cri.Image // nil: it is not on the node
	at    time.Time
}

type question struct {
	done chan struct{}
	found
	err error
}

// get returns the image's status, nil if it is not on the node.
func (s *statuses) get(ctx context.Context, name string) (*cri.Image, error) {
	f, err := s.find(ctx, name)
	return f.image, err
}

// find is get, with the time.
func (s *statuses) find(ctx context.Context, name string) (found, error) {
	s.mu.Lock()
	if f, ok := s.known[name]; ok && s.now().Sub(f.at) < freshFor {
		s.mu.Unlock()
		return f, nil
	}
	q := s.asking[name]
	if q == nil {
		q = &question{done: make(chan struct{})}
		s.asking[name] = q
		// Others may wait for the answer too: do not cancel it with this caller.
		go s.ask(context.WithoutCancel(ctx), name, q)
	}
	s.mu.Unlock()
	select {
	case <-q.done:
		return q.found, q.err
	case <-ctx.Done():
		return found{}, context.Cause(ctx)
	}
}

func (s *statuses) ask(ctx context.Context, name string, q *question) {
	q.at = s.now()
	resp, err := s.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	q.err = err
	if err == nil && resp.GetImage().GetId() != "" {
		q.image = resp.GetImage()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking[name] == q {
		delete(s.asking, name)
		if q.image != nil {
			s.forgetOld(q.at)
			s.known[name] = q.found
			s.known[q.image.Id] = q.found
		}
	}
	close(q.done)
}

// forget makes the next get ask again, after a pull for example: the answer to a
// query under way may already be outdated.
func (s *statuses) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.known[name]; ok {
		delete(s.known, f.image.Id)
	}
	delete(s.known, name)
	delete(s.asking, name)
}

// forgetOld drops answers that are no longer fresh.
func (s *statuses) forgetOld(now time.Time) {
	for name, f := range s.known {
		if now.Sub(f.at) >= freshFor {
			delete(s.known, name)
		}
	}
}

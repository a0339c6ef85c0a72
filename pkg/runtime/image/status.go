package image

import (
	"context"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// freshFor is how long a found image counts as present without asking again: long
// enough for the containers of a burst of equal pods, far shorter than anything
// that removes images takes. The runtime is asked about a missing image every time.
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

type found struct {
	image *cri.Image
	at    time.Time
}

type question struct {
	done  chan struct{}
	image *cri.Image
	err   error
}

// get returns the image's status, nil if it is not on the node.
func (s *statuses) get(ctx context.Context, name string) (*cri.Image, error) {
	s.mu.Lock()
	if f, ok := s.known[name]; ok && s.now().Sub(f.at) < freshFor {
		s.mu.Unlock()
		return f.image, nil
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
		return q.image, q.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *statuses) ask(ctx context.Context, name string, q *question) {
	at := s.now()
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
			s.forgetOld(at)
			s.known[name] = found{q.image, at}
			s.known[q.image.Id] = found{q.image, at}
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

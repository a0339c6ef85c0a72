package image

import (
	"fmt"
	"slices"
	"sync"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Progress brings how far a pull is to all who wait for it: the journal's events of their pulls. The zero value is ready.
// Safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	pulls map[uint64]*waiting // by the event of the first who waited for it
}

type waiting struct {
	spans []*journal.Span
	last  fmt.Stringer
}

// Tell says how far the pull is that an event has begun. Others than pulls that somebody waits for are ignored.
func (p *Progress) Tell(pull uint64, far fmt.Stringer) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.pulls[pull]
	if w == nil {
		return
	}
	w.last = far
	for _, s := range w.spans {
		s.Tell(far)
	}
}

// wait has a span told how far a pull is until leave is called.
func (p *Progress) wait(pull uint64, s *journal.Span) (leave func()) {
	if p == nil || pull == 0 {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulls == nil {
		p.pulls = map[uint64]*waiting{}
	}
	w := p.pulls[pull]
	if w == nil {
		w = &waiting{}
		p.pulls[pull] = w
	}
	w.spans = append(w.spans, s)
	if w.last != nil {
		s.Tell(w.last)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(w.spans, s); i >= 0 {
			w.spans = slices.Delete(w.spans, i, i+1)
		}
		if len(w.spans) == 0 && p.pulls[pull] == w {
			delete(p.pulls, pull)
		}
	}
}

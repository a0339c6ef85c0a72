package stats

import (
	"sync"
	"time"
)

// leastInterval is how far two samples must be apart for a rate to say something.
const leastInterval = 100 * time.Millisecond

// Rates turns CPU times into CPU rates: each time that it is told one, it answers
// with the rate since the one before. Safe for concurrent use.
type Rates struct {
	mu   sync.Mutex
	last map[string]sample
}

type sample struct {
	at   time.Time
	cpu  uint64
	rate uint64
	any  bool // rate is known
}

// Of takes a sample and returns the rate in nanocores; false while there is but one.
func (r *Rates) Of(id string, cpu uint64, at time.Time) (nanoCores uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]sample{}
	}
	before, known := r.last[id]
	switch passed := at.Sub(before.at); {
	case !known || cpu < before.cpu:
		r.last[id] = sample{at: at, cpu: cpu}
	case passed < leastInterval:
		return before.rate, before.any
	default:
		rate := uint64(float64(cpu-before.cpu) / passed.Seconds())
		r.last[id] = sample{at, cpu, rate, true}
	}
	now := r.last[id]
	return now.rate, now.any
}

// Forget drops what is remembered of a container.
func (r *Rates) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, id)
}

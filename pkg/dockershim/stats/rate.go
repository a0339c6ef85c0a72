package stats

import (
	"sync"
	"time"
)

// leastInterval is how far apart two samples must be for a rate to be meaningful.
const leastInterval = 100 * time.Millisecond

// Rates turns CPU times into CPU rates: for each sample it returns the rate since the sample
// before. Its methods are safe for concurrent use.
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

// Of takes a sample and returns the rate in nanocores, or false for the first sample.
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

// Forget drops what is remembered about a container.
func (r *Rates) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, id)
}

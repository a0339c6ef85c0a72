package journal

import "time"

// Measured is a step that is measured once for all that show how long it takes: its event, and what the caller makes of
// the begin and of what End returns, an observation of a histogram or a span of OTLP.
type Measured struct {
	*Span           // nil without a journal, or if it is no event
	Began time.Time // with Go's monotonic clock
}

// Measure begins a step that is measured. It works without a journal.
func (j *Journal) Measure(e Event) Measured {
	m := Measured{Began: time.Now()}
	if j != nil && j.ring != nil {
		m.Span = j.begin(e, m.Began)
	}
	return m
}

// MeasureQuiet is Measure for what BeginQuiet is for.
func (j *Journal) MeasureQuiet(h *Handle, e Event) Measured {
	m := Measured{Began: time.Now()}
	if j != nil && j.ring != nil {
		m.Span = j.beginQuiet(h, e, m.Began)
	}
	return m
}

// End ends the step like Span.End, and returns how long it took: what its event says, to the nanosecond.
func (m Measured) End(err error) time.Duration { return m.EndWith(err, nil) }

// EndWith ends the step like Span.EndWith, and returns how long it took.
func (m Measured) EndWith(err error, set func(*Event)) time.Duration {
	now := time.Now()
	if m.Span != nil {
		m.Span.end(now, err, set)
	}
	return max(0, now.Sub(m.Began))
}

package probe

import (
	v1 "k8s.io/api/core/v1"
)

// kind tells a container's probes apart.
type kind int

const (
	liveness kind = iota
	readiness
	startup
	kinds
)

// String returns the kind as the kubelet's events write it.
func (k kind) String() string {
	if k < liveness || k >= kinds {
		return "Unknown"
	}
	return [...]string{"Liveness", "Readiness", "Startup"}[k]
}

// result is what one run of a probe says, or several in a row.
type result int

const (
	unknown result = iota
	success
	failure
)

// state is what one probe of one container has found out. It is a value; only the
// pure functions below change it.
type state struct {
	verdict result
	last    result // of the last run
	run     int    // how many runs in a row had the result last
	// assumed: the verdict does not come from a probe. The container ran before the
	// agent started, and nobody remembers what was known of it. The first run
	// decides.
	assumed bool
	// hold: not probed again until there is a new container.
	hold bool
}

// past is what was known of a container before this agent looked at it.
type past struct {
	ranBefore bool // it ran before the agent started
	known     bool // its last status is on record, which says:
	started   bool
	ready     bool
}

// begin returns the state of a probe before its first run. As in the kubelet,
// nothing is killed and nothing gets traffic before a probe has said so. A container
// that ran before the agent started keeps what it was: a restarted agent takes no
// pod out of service.
func begin(k kind, p past) state {
	switch {
	case k == liveness:
		return state{verdict: success}
	case k == startup && p.known && p.started:
		return state{verdict: success, hold: true}
	case k == readiness && p.known && p.ready:
		return state{verdict: success}
	case p.ranBefore && !p.known:
		return state{verdict: success, assumed: true}
	case k == readiness:
		return state{verdict: failure}
	}
	return state{}
}

// take returns the state after a run with the result r, success or failure.
func (s state) take(k kind, p *v1.Probe, r result) state {
	if s.last != r {
		s.last, s.run = r, 0
	}
	s.run++
	enough := int(p.FailureThreshold)
	if r == success {
		enough = int(p.SuccessThreshold)
	}
	if s.assumed {
		s.assumed = false
		switch {
		case k == readiness || r == success:
			enough = 1
		default:
			s.verdict = unknown // it has not started yet, which is no reason to kill it
		}
	}
	if s.run < enough {
		return s
	}
	s.verdict = r
	// A container that is about to be killed is left alone, and one that has started
	// is not asked again.
	s.hold = k == startup || k == liveness && r == failure
	return s
}

// quiet returns the state of a probe when its pod is being stopped: it no longer
// kills, and no longer runs. A container that has not started stays so.
func (s state) quiet() state {
	if s.verdict == failure {
		s.verdict = unknown
	}
	s.hold = true
	return s
}

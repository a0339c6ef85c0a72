package probe

import (
	v1 "k8s.io/api/core/v1"
)

// kind is which of a container's probes it is.
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

// result is what one run of a probe says, or many in a row.
type result int

const (
	unknown result = iota
	success
	failure
)

// state is what is known by one probe of one container. It is a value; what
// changes it are the pure functions below.
type state struct {
	verdict result
	last    result // of the last run
	run     int    // how many runs in a row came to last
	// assumed: the verdict is no probe's. The container ran before the agent did, and
	// nobody remembers what was known of it. The first run decides.
	assumed bool
	// hold: not probed any more until there is a new container.
	hold bool
}

// past is what was known of a container before this agent looked at it.
type past struct {
	ranBefore bool // it ran before the agent did
	known     bool // somebody has kept its status, which is:
	started   bool
	ready     bool
}

// begin is the state of a probe before its first run. As in the kubelet nothing is
// killed and nothing gets traffic before a probe has said so. A container that ran
// before the agent keeps what it was: a restarted agent takes no pod out of service.
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

// take is the state after a run came to r, a success or a failure.
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
			s.verdict = unknown // it has not started yet, which kills nothing
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

// quiet is the state of a probe of a pod that is being stopped: it neither kills
// nor is run any more. What has not started stays so.
func (s state) quiet() state {
	if s.verdict == failure {
		s.verdict = unknown
	}
	s.hold = true
	return s
}

package readiness

import (
	"errors"
	"fmt"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// How often the runtime is asked: usual is the kubelet's figure; a runtime that is not ready is
// asked more often, since pods wait for it.
const (
	usual = 5 * time.Second
	eager = time.Second
)

// lookLimit is how long a look at the runtime may take: a runtime that is silent for so long is
// down (kubelet behaviour).
const lookLimit = 30 * time.Second

// How long it takes until a pod CIDR is given to the runtime again: after a failure, doubling, and
// while the network is not ready, when the runtime may have been started anew.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// keptAfter is for how long nothing has to be known of the node until the pod CIDR of the last start is
// used. A node that was deleted and has joined again may have another one, which a network may not
// take in the place of one that it has.
const keptAfter = 10 * time.Second

// maxTold is how much of what a runtime says is repeated, in bytes: it may come from a plug-in.
const maxTold = 1 << 10

// errUnknown is the state of the network before the runtime has answered, in the kubelet's words.
var errUnknown = errors.New("network state unknown")

// health is what an answer of the runtime comes to.
type health struct {
	runtime bool  // it runs containers
	network error // why it cannot attach sandboxes; nil: it can
}

func (h health) ready() bool { return h.runtime && h.network == nil }

// healthOf reads the two conditions that CRI requires. One that is missing is not met.
func healthOf(s *cri.RuntimeStatus) health {
	h := health{network: errors.New("container runtime network not ready: network condition missing")}
	for _, c := range s.GetConditions() {
		switch {
		case c.GetType() == cri.RuntimeReady:
			h.runtime = c.Status
		case c.GetType() != cri.NetworkReady:
		case c.Status:
			h.network = nil
		default: // the kubelet's words, which tools look for
			h.network = fmt.Errorf("container runtime network not ready: %s=false reason:%s message:%s", cri.NetworkReady, bounds.Cut(c.Reason, maxTold), bounds.Cut(c.Message, maxTold))
		}
	}
	return h
}

// better reports whether something that was not ready now is: what waits for it has to know.
func better(was, is health) bool {
	return is.runtime && !was.runtime || is.network == nil && was.network != nil
}

// pause is how long to wait between two looks.
func pause(h health, answered bool) time.Duration {
	if answered && h.ready() {
		return usual
	}
	return eager
}

// wanted returns the pod CIDR that the runtime is to have, "" for none: that of the node, or the one
// that was kept when for so long nothing is known of the node. What a node that is known lacks it has
// yet to be given.
func wanted(known string, node bool, kept string, after time.Duration) string {
	if !node && after >= keptAfter {
		return kept
	}
	return known
}

// told is what the runtime has been told of the pod CIDR. The zero value has told nothing.
type told struct {
	accepted string    // by the runtime as it runs now, as far as is known
	tried    string    // last
	at       time.Time // when it was tried last
	failures int       // in a row, of tried
}

// due reports whether to tell the runtime the CIDR that is wanted.
func (t told) due(wanted string, ready bool, now time.Time) bool {
	switch {
	case wanted == "":
		return false
	case wanted == t.tried && t.failures > 0:
		return now.Sub(t.at) >= min(firstRetry<<min(t.failures-1, 10), lastRetry)
	case wanted != t.accepted:
		return true
	}
	return !ready && now.Sub(t.at) >= lastRetry
}

// took notes what became of telling a CIDR.
func (t told) took(cidr string, now time.Time, err error) told {
	if err == nil {
		return told{accepted: cidr, tried: cidr, at: now}
	}
	if t.tried != cidr {
		t.failures = 0
	}
	t.tried, t.at, t.failures = cidr, now, t.failures+1
	return t
}

// forgotten is t for a runtime that may have been started anew.
func (t told) forgotten() told { return told{} }

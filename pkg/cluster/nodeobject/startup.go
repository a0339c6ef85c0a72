package nodeobject

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// startup measures how long a machine takes from its start until it is a node that is ready, the first time it joins:
//
//	machine starts ──▶ agent starts ──▶ first attempt ──▶ registered ──▶ ready
//	         pre_kubelet     pre_registration    registration    post_registration
//
// The metrics stay 0 for an agent that finds its node registered: nothing starts up then. The Manager's goroutine alone
// uses it.
type startup struct {
	booted, started, attempted, created time.Time // zero: has not been, or is not known
	ready                               bool

	preKubelet, preRegistration, registration, postRegistration, all prometheus.Gauge
}

func newStartup(r prometheus.Registerer, booted, started time.Time) (*startup, error) {
	set := metricset.New(r)
	s := &startup{
		booted: booted, started: started,
		preKubelet: set.Gauge("kubelet_node_startup_pre_kubelet_duration_seconds",
			"How long it took from the start of the machine until the agent started; 0, as with the others: this node had been registered before"),
		preRegistration: set.Gauge("kubelet_node_startup_pre_registration_duration_seconds",
			"How long it took from the start of the agent until it first tried to register the node"),
		registration:     set.Gauge("kubelet_node_startup_registration_duration_seconds", "How long it took from the first try until the node was registered"),
		postRegistration: set.Gauge("kubelet_node_startup_post_registration_duration_seconds", "How long it took from when the node was registered until it was ready"),
		all:              set.Gauge("kubelet_node_startup_duration_seconds", "How long it took from the start of the machine until the node was ready"),
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("nodeobject: %w", err)
	}
	return s, nil
}

// attempt notes that the node is about to be registered.
func (s *startup) attempt(now time.Time) { s.attempted = now }

// registered notes that this agent has made the node's object.
func (s *startup) registered(now time.Time, made *v1.Node) {
	s.created = now
	setBetween(s.preKubelet, s.booted, s.started)
	setBetween(s.preRegistration, s.started, s.attempted)
	setBetween(s.registration, s.attempted, now)
	s.seen(now, made)
}

// seen notes what the API server has of the node now.
func (s *startup) seen(now time.Time, n *v1.Node) {
	if s.ready || s.created.IsZero() || !isReady(n) {
		return
	}
	s.ready = true
	setBetween(s.postRegistration, s.created, now)
	setBetween(s.all, s.booted, now)
}

func isReady(n *v1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

// setBetween sets the time between two moments, if both are known. The clock may have been set in between.
func setBetween(g prometheus.Gauge, from, to time.Time) {
	if !from.IsZero() && !to.IsZero() {
		g.Set(max(to.Sub(from), 0).Seconds())
	}
}

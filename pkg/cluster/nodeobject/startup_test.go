package nodeobject

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

func TestTheStartOfANodeIsMeasuredOnce(t *testing.T) {
	began := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	node := func(ready v1.ConditionStatus) *v1.Node {
		return &v1.Node{Status: v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: ready}}}}
	}
	for name, tc := range map[string]struct {
		booted, started time.Time
		do              func(*startup)
		want            string
	}{
		"a node that becomes ready, and again": {at(0), at(10), func(s *startup) {
			s.attempt(at(12))
			s.registered(at(15), node(v1.ConditionFalse))
			s.seen(at(16), node(v1.ConditionFalse))
			s.seen(at(20), node(v1.ConditionTrue))
			s.seen(at(30), node(v1.ConditionFalse))
			s.seen(at(40), node(v1.ConditionTrue))
		}, "pre_kubelet 10, pre_registration 2, registration 3, post_registration 5, all 20"},
		"one that is ready from the beginning": {at(0), at(10), func(s *startup) {
			s.attempt(at(12))
			s.registered(at(15), node(v1.ConditionTrue))
		}, "pre_kubelet 10, pre_registration 2, registration 3, post_registration 0, all 15"},
		"one that was registered before": {at(0), at(10), func(s *startup) {
			s.attempt(at(12))
			s.seen(at(20), node(v1.ConditionTrue))
		}, "pre_kubelet 0, pre_registration 0, registration 0, post_registration 0, all 0"},
		"a machine whose start is not known": {time.Time{}, at(10), func(s *startup) {
			s.attempt(at(12))
			s.registered(at(15), node(v1.ConditionTrue))
		}, "pre_kubelet 0, pre_registration 2, registration 3, post_registration 0, all 0"},
		"a clock that was set back": {at(100), at(90), func(s *startup) {
			s.attempt(at(12))
			s.registered(at(11), node(v1.ConditionTrue))
		}, "pre_kubelet 0, pre_registration 0, registration 0, post_registration 0, all 0"},
	} {
		r := prometheus.NewPedanticRegistry()
		s, err := newStartup(r, tc.booted, tc.started)
		if err != nil {
			t.Fatal(err)
		}
		tc.do(s)
		if got := durations(t, r); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// durations are those of a node's start, by what they are of.
func durations(t *testing.T, from prometheus.Gatherer) string {
	t.Helper()
	families, err := from.Gather()
	if err != nil || len(families) != 5 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	value := map[string]float64{}
	for _, f := range families {
		value[strings.TrimSuffix(strings.TrimPrefix(f.GetName(), "kubelet_node_startup_"), "duration_seconds")] = f.Metric[0].GetGauge().GetValue()
	}
	return fmt.Sprintf("pre_kubelet %g, pre_registration %g, registration %g, post_registration %g, all %g",
		value["pre_kubelet_"], value["pre_registration_"], value["registration_"], value["post_registration_"], value[""])
}

package metricset

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAllThatASetMakesIsExported(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	s := New(r)
	s.Counter("room_events_total", "Events.").Inc()
	s.Counters("room_kinds_total", "Events by kind.", "kind").WithLabelValues("a").Add(2)
	s.Gauge("room_level", "Level.").Set(3)
	s.Gauges("room_levels", "Levels.", "side").WithLabelValues("left").Set(4)
	s.Histogram("room_seconds", "Time.", []float64{1}).Observe(0.5)
	s.Histograms("room_steps_seconds", "Time by step.", []float64{1}, "step").WithLabelValues("one").Observe(2)
	now := 5.0
	s.Read("room_now", "Now.", func() float64 { return now })
	s.ReadAll("room_all", "All.", []string{"who"}, func(give Give) { give(6, "me"); give(now, "you") })
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	now = 7
	err := testutil.GatherAndCompare(r, strings.NewReader(`
# HELP room_all All.
# TYPE room_all gauge
room_all{who="me"} 6
room_all{who="you"} 7
# HELP room_events_total Events.
# TYPE room_events_total counter
room_events_total 1
# HELP room_kinds_total Events by kind.
# TYPE room_kinds_total counter
room_kinds_total{kind="a"} 2
# HELP room_level Level.
# TYPE room_level gauge
room_level 3
# HELP room_levels Levels.
# TYPE room_levels gauge
room_levels{side="left"} 4
# HELP room_now Now.
# TYPE room_now gauge
room_now 7
# HELP room_seconds Time.
# TYPE room_seconds histogram
room_seconds_bucket{le="1"} 1
room_seconds_bucket{le="+Inf"} 1
room_seconds_sum 0.5
room_seconds_count 1
# HELP room_steps_seconds Time by step.
# TYPE room_steps_seconds histogram
room_steps_seconds_bucket{step="one",le="1"} 0
room_steps_seconds_bucket{step="one",le="+Inf"} 1
room_steps_seconds_sum{step="one"} 2
room_steps_seconds_count{step="one"} 1
`))
	if err != nil {
		t.Error(err)
	}
}

func TestANameThatIsTakenIsTold(t *testing.T) {
	s := New(prometheus.NewRegistry())
	s.Counter("room_events_total", "Events.")
	s.Gauge("room_events_total", "Events again.")
	s.Counter("room_other_total", "Others.")
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "room_events_total") {
		t.Errorf("error %v", err)
	}
}

func TestWithoutARegistryEverythingWorks(t *testing.T) {
	s := New(nil)
	s.Counter("room_events_total", "Events.").Inc()
	s.Counter("room_events_total", "Events.").Inc()
	s.Read("room_now", "Now.", func() float64 { return 1 })
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

func TestWrongLabelsFailTheScrapeOnly(t *testing.T) {
	r := prometheus.NewRegistry()
	New(r).ReadAll("room_all", "All.", []string{"who"}, func(give Give) { give(1) })
	if _, err := r.Gather(); err == nil {
		t.Error("gathered")
	}
}

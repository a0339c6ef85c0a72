package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

// shown are the metrics of a registry, a line each: labels by name, and a count.
func shown(t *testing.T, from prometheus.Gatherer) []string {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			n := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			lines = append(lines, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, " "), n))
		}
	}
	return lines
}

func TestRunsAreCountedUntilThePodIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		w := newWorldWith(t, metrics)
		pod := podOf(v1.Container{ReadinessProbe: command("ready"), LivenessProbe: command("live")})
		w.Sync(pod, runs("1", time.Now()), nothing)
		after(0)
		w.say("ready", "bad")
		w.say("live", "broken") // no result
		after(25 * time.Second)
		want := []string{
			"prober_probe_duration_seconds{container=c namespace=n pod=p probe_type=Liveness} 1",
			"prober_probe_duration_seconds{container=c namespace=n pod=p probe_type=Readiness} 1",
			"prober_probe_total{container=c namespace=n pod=p pod_uid=u probe_type=Liveness result=successful} 1",
			"prober_probe_total{container=c namespace=n pod=p pod_uid=u probe_type=Readiness result=failed} 2",
			"prober_probe_total{container=c namespace=n pod=p pod_uid=u probe_type=Readiness result=successful} 1",
		}
		if got := shown(t, metrics); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		w.Sync(pod, runs("2", time.Now()), nothing) // counts go on with the next container
		after(0)
		want[3] = strings.Replace(want[3], "} 2", "} 3", 1)
		if got := shown(t, metrics); !slices.Equal(got, want) {
			t.Errorf("after a restart\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		w.Remove("u")
		after(time.Minute)
		if got := shown(t, metrics); len(got) > 0 {
			t.Errorf("after the pod's removal: %q", got)
		}
	})
}

// A pod that is deleted by force may be replaced by one of its name before it has ended here.
func TestAPodThatIsRemovedLeavesTheCountsOfOneOfItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		w := newWorldWith(t, metrics)
		old := podOf(v1.Container{LivenessProbe: command("live")})
		fresh := old.DeepCopy()
		fresh.UID = "fresh"
		w.Sync(old, runs("1", time.Now()), nothing)
		w.Sync(fresh, runs("2", time.Now()), nothing)
		after(0)
		w.Remove(old.UID)
		after(25 * time.Second) // two more runs
		want := []string{
			"prober_probe_duration_seconds{container=c namespace=n pod=p probe_type=Liveness} 4",
			"prober_probe_total{container=c namespace=n pod=p pod_uid=fresh probe_type=Liveness result=successful} 3",
		}
		if got := shown(t, metrics); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		w.Remove(fresh.UID)
		if got := shown(t, metrics); len(got) > 0 {
			t.Errorf("after the removal of both: %q", got)
		}
	})
}

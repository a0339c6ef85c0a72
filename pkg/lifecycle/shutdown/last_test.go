package shutdown

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTheLastShutdownIsToldAfterIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shutdown.json")
	told := func(want string) *lastShutdown {
		t.Helper()
		r := prometheus.NewPedanticRegistry()
		l, err := newLastShutdown(file, r)
		if err != nil {
			t.Fatal(err)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range families {
			got = append(got, f.GetName()+" "+time.Unix(0, int64(f.Metric[0].Gauge.GetValue()*1e9)).UTC().Format(time.DateTime))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s, want %s", text, want)
		}
		return l
	}
	l := told("kubelet_graceful_shutdown_end_time_seconds 1970-01-01 00:00:00, kubelet_graceful_shutdown_start_time_seconds 1970-01-01 00:00:00")
	start := time.Date(2026, 11, 30, 4, 0, 0, 0, time.UTC)
	l.set(times{Start: start})
	if got := testutil.ToFloat64(l.start); got != float64(start.Unix()) {
		t.Errorf("start %v", got)
	}
	l = told("kubelet_graceful_shutdown_end_time_seconds 1970-01-01 00:00:00, kubelet_graceful_shutdown_start_time_seconds 2026-11-30 04:00:00")
	l.set(times{Start: start, End: start.Add(time.Minute)})
	told("kubelet_graceful_shutdown_end_time_seconds 2026-11-30 04:01:00, kubelet_graceful_shutdown_start_time_seconds 2026-11-30 04:00:00")
}

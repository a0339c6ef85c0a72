package shutdown

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// times are when a shutdown began to end pods, and when none was left or their time was up. In a file they
// are the kubelet's.
type times struct {
	Start time.Time `json:"startTime"`
	End   time.Time `json:"endTime"`
}

// lastShutdown tells when the last shutdown was, also after it: the machine has been started anew by then.
type lastShutdown struct {
	file       string
	start, end prometheus.Gauge
}

func newLastShutdown(file string, r prometheus.Registerer) (*lastShutdown, error) {
	set := metricset.New(r)
	l := &lastShutdown{
		file:  file,
		start: set.Gauge("kubelet_graceful_shutdown_start_time_seconds", "When the last shutdown of the machine began to end pods; 0: none is known"),
		end:   set.Gauge("kubelet_graceful_shutdown_end_time_seconds", "When the last shutdown of the machine had ended its pods, or their time was up; 0: it did not get there"),
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("shutdown: %w", err)
	}
	if file == "" {
		return l, nil
	}
	var known times
	err := durable.Load(file, "When the machine was last shut down.", func(text []byte) error { return json.Unmarshal(text, &known) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read when the machine was last shut down: %w", err)
	}
	l.show(known)
	return l, nil
}

func (l *lastShutdown) show(t times) {
	l.start.Set(seconds(t.Start))
	l.end.Set(seconds(t.End))
}

// set keeps the times. A shutdown does not wait for a disk that is full: what cannot be kept is only shown.
func (l *lastShutdown) set(t times) {
	l.show(t)
	if l.file == "" {
		return
	}
	text, err := json.Marshal(t)
	if err == nil {
		err = durable.Write(l.file, text)
	}
	if err != nil {
		klog.ErrorS(err, "Could not note when the machine is shut down", "file", l.file)
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / float64(time.Second)
}

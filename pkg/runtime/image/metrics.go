package image

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

type metrics struct {
	ensured *prometheus.CounterVec
	pulls   *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	set := metricset.New(r)
	m := metrics{
		ensured: set.Counters("kubelet_image_manager_ensure_image_requests_total", "How many times an image was wanted, and whether it was there and had to be pulled",
			"pull_policy", "present_locally", "pull_required"),
		pulls: set.Histograms("kubelet_image_pull_duration_seconds", "How long pulls took, the wait for their turn included, by the size of the image",
			[]float64{1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}, "image_size_in_bytes"),
	}
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("image manager: %w", err)
	}
	return m, nil
}

// answer is yes, no, or that nobody knows.
type answer string

const (
	unknown answer = "unknown"
	yes     answer = "true"
	no      answer = "false"
)

func answerOf(is bool) answer {
	if is {
		return yes
	}
	return no
}

func (m metrics) ensure(policy v1.PullPolicy, present, pull answer) {
	m.ensured.WithLabelValues(strings.ToLower(string(policy)), string(present), string(pull)).Inc()
}

func (m metrics) pulled(size uint64, took time.Duration) {
	m.pulls.WithLabelValues(sizeClass(size)).Observe(took.Seconds())
}

// sizeClass is the kubelet's class of an image's size, in bytes; 0 is not known.
func sizeClass(size uint64) string {
	const mb, gb = 1 << 20, 1 << 30
	if size == 0 {
		return "N/A"
	}
	for _, class := range []struct {
		most uint64
		name string
	}{
		{10 * mb, "0-10MB"}, {100 * mb, "10MB-100MB"}, {500 * mb, "100MB-500MB"}, {gb, "500MB-1GB"}, {5 * gb, "1GB-5GB"}, {10 * gb, "5GB-10GB"},
		{20 * gb, "10GB-20GB"}, {30 * gb, "20GB-30GB"}, {40 * gb, "30GB-40GB"}, {60 * gb, "40GB-60GB"}, {100 * gb, "60GB-100GB"},
	} {
		if size <= class.most {
			return class.name
		}
	}
	return "GT100GB"
}

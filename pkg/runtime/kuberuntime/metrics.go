package kuberuntime

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// metrics counts what was tried at the runtime, under the kubelet's names.
type metrics struct {
	pods, podErrors             prometheus.Counter
	containers, containerErrors *prometheus.CounterVec
	sandboxes                   *prometheus.HistogramVec
	sandboxErrors               *prometheus.CounterVec
	resizes                     *prometheus.HistogramVec

	imageVolumes, imageVolumesMounted, imageVolumeErrors prometheus.Counter

	streams, streamErrors prometheus.Counter // of events
	eventAge              prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	set := metricset.New(r)
	m := metrics{
		pods:            set.Counter("kubelet_started_pods_total", "How many times a pod's sandbox was to be created"),
		podErrors:       set.Counter("kubelet_started_pods_errors_total", "How many times a pod's sandbox could not be created"),
		containers:      set.Counters("kubelet_started_containers_total", "How many times a container was to be started", "container_type"),
		containerErrors: set.Counters("kubelet_started_containers_errors_total", "How many times a container could not be started, by what it waits for since", "container_type", "code"),
		sandboxes:       set.Histograms("kubelet_run_podsandbox_duration_seconds", "How long the runtime took to create a sandbox, by the handler of its RuntimeClass", nil, "runtime_handler"),
		sandboxErrors:   set.Counters("kubelet_run_podsandbox_errors_total", "How many times the runtime did not create a sandbox, by the handler of its RuntimeClass", "runtime_handler"),
		resizes: set.Histograms("kubelet_pod_resize_duration_milliseconds", "How long it took to give a running pod's containers other resources",
			[]float64{10, 50, 100, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000}, "success"),
		streams:             set.Counter("kubelet_evented_pleg_connection_success_count", "How many times the runtime's event stream was opened"),
		streamErrors:        set.Counter("kubelet_evented_pleg_connection_error_count", "How many times the runtime's event stream could not be opened, or broke"),
		eventAge:            set.Histogram("kubelet_evented_pleg_connection_latency_seconds", "How old the runtime's events are when they arrive", nil),
		imageVolumes:        set.Counter("kubelet_image_volume_requested_total", "How many volumes of images containers were to be started with"),
		imageVolumesMounted: set.Counter("kubelet_image_volume_mounted_succeed_total", "How many mounts of images' volumes succeeded"),
		imageVolumeErrors:   set.Counter("kubelet_image_volume_mounted_errors_total", "How many mounts of images' volumes failed"),
	}
	return m, set.Err()
}

// runSandbox counts a call of RunPodSandbox.
func (m *metrics) runSandbox(handler string, took time.Duration, err error) {
	m.sandboxes.WithLabelValues(handler).Observe(took.Seconds())
	if err != nil {
		m.sandboxErrors.WithLabelValues(handler).Inc()
	}
}

// failedToStart counts a container that could not be started, by the reason for which it waits now, if it
// does; there are few of these. A try that was given up because the pod must go is no failure.
func (m *metrics) failedToStart(ctx context.Context, kind, reason string) {
	if reason != "" && ctx.Err() == nil {
		m.containerErrors.WithLabelValues(kind, reason).Inc()
	}
}

// imagesMounted counts the images that a container has as volumes, after a try to start it.
func (m *metrics) imagesMounted(c *v1.Container, images map[string]*cri.ImageSpec, reason, message string) {
	m.imageVolumes.Add(float64(len(images)))
	for i := range c.VolumeMounts {
		if images[c.VolumeMounts[i].Name] == nil {
			continue
		}
		if reason == reasonCreate && strings.HasPrefix(message, crierrors.ErrImageVolumeMountFailed.Error()) {
			m.imageVolumeErrors.Inc()
		} else {
			m.imageVolumesMounted.Inc()
		}
	}
}

// resized counts one pass over the containers of a pod that is resized.
func (m *metrics) resized(ok bool, took time.Duration) {
	m.resizes.WithLabelValues(strconv.FormatBool(ok)).Observe(float64(took.Milliseconds()))
}

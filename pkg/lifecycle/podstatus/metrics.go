package podstatus

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

type metrics struct{ terminated *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (metrics, error) {
	set := metricset.New(r)
	m := metrics{terminated: set.Counters("kubelet_terminated_containers_total", "How many containers have ended, by kind, exit code and reason",
		"container_type", "exit_code", "reason")}
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("pod statuses: %w", err)
	}
	return m, nil
}

// ended counts the containers that have ended by the new status and had not by the old one.
func (m metrics) ended(old, now v1.PodStatus) {
	m.endedOf(pods.InitContainer, old.InitContainerStatuses, now.InitContainerStatuses)
	m.endedOf(pods.RegularContainer, old.ContainerStatuses, now.ContainerStatuses)
	m.endedOf(pods.EphemeralContainer, old.EphemeralContainerStatuses, now.EphemeralContainerStatuses)
}

func (m metrics) endedOf(kind pods.ContainerKind, old, now []v1.ContainerStatus) {
	for i := range now {
		end := now[i].State.Terminated
		if end == nil {
			continue
		}
		if before := pods.ContainerStatus(old, now[i].Name); before != nil && before.State.Terminated != nil {
			continue
		}
		m.terminated.WithLabelValues(kind.Label(), strconv.Itoa(int(end.ExitCode)), end.Reason).Inc()
	}
}

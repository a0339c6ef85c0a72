package loop

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// metrics count what admission says, under the kubelet's names.
type metrics struct{ rejections, admitted *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (metrics, error) {
	set := metricset.New(r)
	m := metrics{
		rejections: set.Counters("kubelet_admission_rejections_total", "How many pods were not admitted, by reason", "reason"),
		admitted: set.Counters("kubelet_pod_level_resources_admission_total", "How many pods were admitted, by where they say what they need and by QoS class",
			"config_mode", "qos_class"),
	}
	if err := set.Err(); err != nil {
		return m, fmt.Errorf("loop: %w", err)
	}
	return m, nil
}

func (m metrics) reject(r pods.Rejection) {
	m.rejections.WithLabelValues(rejectionLabel(r.Reason)).Inc()
}

func (m metrics) admit(pod *v1.Pod) {
	m.admitted.WithLabelValues(configMode(pod), strings.ToLower(string(pods.QOSClass(pod)))).Inc()
}

// rejectionLabel bounds the reasons that are told apart: those of the kubelet's list.
func rejectionLabel(reason string) string {
	switch reason {
	case "AppArmor", "PodOSSelectorNodeLabelDoesNotMatch", "PodOSNotSupported", "InvalidNodeInfo", "InitContainerRestartPolicyForbidden",
		"SupplementalGroupsPolicyNotSupported", "UnexpectedAdmissionError", "UnknownReason", "UnexpectedPredicateFailureType", "OutOfcpu",
		"OutOfmemory", "OutOfephemeral-storage", "OutOfpods", "PodLevelResourcesNotSupported", "PodFeatureUnsupported",
		"node(s) had taints that the pod didn't tolerate", "Evicted", "SysctlForbidden", "TopologyAffinityError", "NodeShutdown",
		"VolumeAttachmentLimitExceeded":
		return reason
	}
	if strings.HasPrefix(reason, "OutOf") {
		return "OutOfExtendedResources"
	}
	return "Other"
}

// configMode says where a pod's spec has requests and limits.
func configMode(pod *v1.Pod) string {
	ofPod, ofContainers := resource.IsPodLevelResourcesSet(pod), false
	for _, c := range pods.Containers(pod) {
		ofContainers = ofContainers || len(c.Resources.Requests) > 0 || len(c.Resources.Limits) > 0
	}
	switch {
	case ofPod && ofContainers:
		return "pod_and_container_level"
	case ofPod:
		return "pod_level"
	case ofContainers:
		return "container_level"
	}
	return ""
}

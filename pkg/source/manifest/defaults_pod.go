package manifest

import (
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// SetDefaults sets what the API server would set when a pod is created, field by
// field as Kubernetes 1.37 does with its default feature gates. Fields that
// admission plug-ins of the API server would set stay as they are.
func SetDefaults(pod *v1.Pod) {
	spec := &pod.Spec
	defaultTo(&spec.DNSPolicy, v1.DNSClusterFirst)
	defaultTo(&spec.RestartPolicy, v1.RestartPolicyAlways)
	defaultTo(&spec.SchedulerName, v1.DefaultSchedulerName)
	defaultPointer(&spec.EnableServiceLinks, v1.DefaultEnableServiceLinks)
	defaultPointer(&spec.TerminationGracePeriodSeconds, int64(v1.DefaultTerminationGracePeriodSeconds))
	if *spec.TerminationGracePeriodSeconds < 0 {
		spec.TerminationGracePeriodSeconds = ptr.To(int64(1))
	}
	if spec.SecurityContext == nil {
		spec.SecurityContext = &v1.PodSecurityContext{}
	}
	// The old name of the field is an alias; the new one wins.
	defaultTo(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName

	for _, c := range pods.Containers(pod) {
		requestLimits(c)
	}
	defaultPodResources(pod)

	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for _, c := range pods.Containers(pod) {
		defaultContainer(c, spec.HostNetwork)
	}
	for i := range spec.EphemeralContainers {
		c := v1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c, false)
		spec.EphemeralContainers[i].EphemeralContainerCommon = v1.EphemeralContainerCommon(c)
	}
	roundUp(spec.Overhead)
	if spec.Resources != nil {
		roundUp(spec.Resources.Limits)
		roundUp(spec.Resources.Requests)
	}
	for _, gone := range []string{ // where init containers were before 1.8
		"pod.beta.kubernetes.io/init-containers", "pod.alpha.kubernetes.io/init-containers",
		"pod.beta.kubernetes.io/init-container-statuses", "pod.alpha.kubernetes.io/init-container-statuses",
	} {
		delete(pod.Annotations, gone)
	}
}

// requestLimits sets a container's missing requests to its limits.
func requestLimits(c *v1.Container) {
	if c.Resources.Limits == nil {
		return
	}
	if c.Resources.Requests == nil {
		c.Resources.Requests = v1.ResourceList{}
	}
	for name, limit := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			c.Resources.Requests[name] = limit.DeepCopy()
		}
	}
}

// defaultPodResources completes the resources of the pod as a whole (KEP-2837), if
// it has any: the limits of huge pages are the sum of the containers', and the
// requests are the sum of theirs, or else the pod's limits.
func defaultPodResources(pod *v1.Pod) {
	r := pod.Spec.Resources
	if r == nil || len(r.Limits) == 0 && len(r.Requests) == 0 {
		return
	}
	for name, sum := range resourcehelper.AggregateContainerLimits(pod, resourcehelper.PodResourcesOptions{}) {
		if _, requested := r.Requests[name]; pods.IsHugePages(name) && !requested {
			putMissing(&r.Limits, name, sum)
		}
	}
	if len(r.Limits) == 0 {
		return
	}
	for name, sum := range resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{}) {
		if resourcehelper.IsSupportedPodLevelResource(name) && !pods.IsHugePages(name) {
			putMissing(&r.Requests, name, sum)
		}
	}
	for name, limit := range r.Limits {
		if resourcehelper.IsSupportedPodLevelResource(name) {
			putMissing(&r.Requests, name, limit)
		}
	}
}

// roundUp rounds up to thousandths, the finest unit that the API keeps.
func roundUp(list v1.ResourceList) {
	for name, q := range list {
		q.RoundUp(-3)
		list[name] = q
	}
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func defaultPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

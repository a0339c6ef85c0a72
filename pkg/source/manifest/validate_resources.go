package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// validateRequirements checks the resources of a container, or of something
// similar.
func validateRequirements(r *v1.ResourceRequirements, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	pages, sized := false, false
	each := func(list v1.ResourceList, path *field.Path) {
		for name, q := range list {
			errs = append(errs, validateQuantity(name, q, path.Key(string(name)))...)
			pages = pages || pods.IsHugePages(name)
			sized = sized || name == v1.ResourceCPU || name == v1.ResourceMemory
		}
	}
	each(r.Limits, limits)
	each(r.Requests, requests)
	for name, request := range r.Requests {
		limit, ok := r.Limits[name]
		switch {
		case !ok && !overcommitted(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		case !ok:
		case !overcommitted(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	if pages && !sized {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

// native reports whether a resource is one of Kubernetes' own.
func native(name v1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), v1.ResourceDefaultNamespacePrefix)
}

// overcommitted reports whether containers may be promised more than there is.
func overcommitted(name v1.ResourceName) bool { return native(name) && !pods.IsHugePages(name) }

func validateQuantity(name v1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	errs := nameErrors(validation.IsQualifiedName(string(name)), string(name), path)
	if len(errs) == 0 {
		switch {
		case !strings.Contains(string(name), "/"):
			if name != v1.ResourceCPU && name != v1.ResourceMemory && name != v1.ResourceEphemeralStorage && !pods.IsHugePages(name) {
				errs = append(errs, field.Invalid(path, string(name), "must be a standard resource for containers"))
			}
		case !native(name) && (strings.HasPrefix(string(name), v1.DefaultResourceRequestsPrefix) ||
			len(validation.IsQualifiedName(v1.DefaultResourceRequestsPrefix+string(name))) > 0):
			errs = append(errs, field.Invalid(path, string(name), "doesn't follow extended resource name standard"))
		}
	}
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be greater than or equal to 0"))
	}
	if !native(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be an integer"))
	}
	if pods.IsHugePages(name) {
		switch page, ok := pods.HugePageSize(name); {
		case !ok:
			errs = append(errs, field.Invalid(path, q.String(), fmt.Sprintf("resource name: %s is an invalid hugepage name", name)))
		case q.MilliValue()%1000 != 0 || q.Value()%page != 0:
			errs = append(errs, field.Invalid(path, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name)))
		}
	}
	return errs
}

func (s *containerSet) validateResizePolicy(c *v1.Container, path *field.Path, init bool) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, p := range c.ResizePolicy {
		at := path.Index(i)
		errs = append(errs, unique(seen, string(p.ResourceName), at)...)
		errs = append(errs, oneOf(p.ResourceName, at.Child("resourceName"), v1.ResourceCPU, v1.ResourceMemory)...)
		errs = append(errs, oneOf(p.RestartPolicy, at.Child("restartPolicy"), v1.NotRequired, v1.RestartContainer)...)
		switch {
		case s.pod.RestartPolicy == v1.RestartPolicyNever && p.RestartPolicy != v1.NotRequired:
			errs = append(errs, field.Invalid(at.Child("restartPolicy"), p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		case init && !pods.IsSidecar(c) && p.RestartPolicy == v1.RestartContainer:
			errs = append(errs, field.Invalid(at.Child("restartPolicy"), p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers"))
		}
	}
	return errs
}

// What a container's environment and the downward API can show of its resources,
// and in which units.
var (
	resourceFields = []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}
	cpuUnits       = []string{"1m", "1"}
	byteUnits      = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

func validateResourceField(r *v1.ResourceFieldSelector, path *field.Path) field.ErrorList {
	_, of, _ := strings.Cut(r.Resource, ".")
	pages := pods.IsHugePages(v1.ResourceName(of)) && (strings.HasPrefix(r.Resource, "limits.") || strings.HasPrefix(r.Resource, "requests."))
	if !pages {
		if errs := oneOf(r.Resource, path.Child("resource"), resourceFields...); len(errs) > 0 {
			return errs
		}
	}
	units, kind := byteUnits, map[string]string{"memory": "memory", "ephemeral-storage": "local ephemeral storage"}[of]
	switch {
	case of == "cpu":
		units, kind = cpuUnits, "cpu"
	case pages:
		kind = "hugepages"
	}
	if !r.Divisor.IsZero() && !slices.Contains(units, r.Divisor.String()) {
		return field.ErrorList{field.Invalid(path.Child("divisor"), r.Resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", listed(units), kind))}
	}
	return nil
}

// listed joins words as the API server's messages do: two by "and", more by commas.
func listed(words []string) string {
	if len(words) == 2 {
		return words[0] + " and " + words[1]
	}
	return strings.Join(words, ", ")
}

// validatePodResources checks the resources of the pod as a whole, and that the
// containers fit into them (API validation of KEP-2837).
func validatePodResources(s *v1.PodSpec, path *field.Path) field.ErrorList {
	if s.Resources == nil {
		return nil
	}
	path = path.Child("resources")
	errs := validateRequirements(s.Resources, path)
	if s.Resources.Claims != nil {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	for what, list := range map[string]v1.ResourceList{"limits": s.Resources.Limits, "requests": s.Resources.Requests} {
		for name := range list {
			if !resourcehelper.IsSupportedPodLevelResource(name) {
				errs = append(errs, field.NotSupported(path.Child(what), name, slices.Sorted(maps.Keys(resourcehelper.SupportedPodLevelResources()))))
			}
		}
	}
	pod := &v1.Pod{Spec: *s}
	for name, sum := range resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{}) {
		if q, ok := s.Resources.Requests[name]; ok && sum.Cmp(q) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), q.String(),
				"must be greater than or equal to aggregate container requests of "+sum.String()))
		}
	}
	for name, sum := range resourcehelper.AggregateContainerLimits(pod, resourcehelper.PodResourcesOptions{}) {
		if q, ok := s.Resources.Limits[name]; ok && pods.IsHugePages(name) && sum.Cmp(q) > 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), q.String(),
				"must be greater than or equal to aggregate container limits of "+sum.String()))
		}
	}
	for i := range s.Containers {
		for name, limit := range s.Containers[i].Resources.Limits {
			if q, ok := s.Resources.Limits[name]; ok && limit.Cmp(q) > 0 {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", q.String())))
			}
		}
	}
	return errs
}

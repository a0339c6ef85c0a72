package source

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"
)

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
		if q, ok := s.Resources.Limits[name]; ok && strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) && sum.Cmp(q) > 0 {
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

package manifest

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/stopsignal"
)

func validateLifecycle(l *v1.Lifecycle, pod *v1.PodSpec, path *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	for _, hook := range []struct {
		name string
		*v1.LifecycleHandler
	}{{"postStart", l.PostStart}, {"preStop", l.PreStop}} {
		h, at := hook.LifecycleHandler, path.Child(hook.name)
		if h == nil {
			continue
		}
		errs = append(errs, validateHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, at)...)
		if grace := pod.TerminationGracePeriodSeconds; h.Sleep != nil && grace != nil && (h.Sleep.Seconds < 0 || h.Sleep.Seconds > *grace) {
			errs = append(errs, field.Invalid(at.Child("sleep"), h.Sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace)))
		}
	}
	if l.StopSignal != nil {
		errs = append(errs, validateStopSignal(*l.StopSignal, pod.OS, path.Child("stopSignal"))...)
	}
	return errs
}

func validateStopSignal(s v1.Signal, os *v1.PodOS, path *field.Path) field.ErrorList {
	if os == nil || os.Name == "" {
		return field.ErrorList{field.Forbidden(path, "may not be set for containers with empty `spec.os.name`")}
	}
	// The API's signals are those that CRI has names for.
	var known []v1.Signal
	for _, name := range stopsignal.Names() {
		known = append(known, v1.Signal(name))
	}
	slices.Sort(known)
	return oneOf(s, path, known...)
}

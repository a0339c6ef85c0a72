package criconfig

import (
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/stopsignal"
)

func stopSignal(c *v1.Container) (cri.Signal, error) {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return cri.Signal_SIGNAL_RUNTIME_DEFAULT, nil
	}
	s, ok := stopsignal.Parse(string(*c.Lifecycle.StopSignal))
	if !ok {
		return 0, containerErrorf("stop signal %q is not known", *c.Lifecycle.StopSignal)
	}
	return s, nil
}

package criconfig

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The API writes real-time signals as SIGRTMIN+1 and SIGRTMAX-1, whereas CRI's
// names must be identifiers.
var (
	toCRISignal   = strings.NewReplacer("MIN+", "MINPLUS", "MAX-", "MAXMINUS")
	fromCRISignal = strings.NewReplacer("MINPLUS", "MIN+", "MAXMINUS", "MAX-")
)

// SignalName returns the API's name of a signal.
func SignalName(s cri.Signal) v1.Signal { return v1.Signal(fromCRISignal.Replace(s.String())) }

func stopSignal(c *v1.Container) (cri.Signal, error) {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return cri.Signal_RUNTIME_DEFAULT, nil
	}
	s, ok := cri.Signal_value[toCRISignal.Replace(string(*c.Lifecycle.StopSignal))]
	if !ok {
		return 0, containerErrorf("stop signal %q is not known", *c.Lifecycle.StopSignal)
	}
	return cri.Signal(s), nil
}

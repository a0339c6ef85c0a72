package convert

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSignalsOfDocker(t *testing.T) {
	for given, want := range map[string]cri.Signal{
		"": cri.Signal_SIGNAL_SIGTERM, "TERM": cri.Signal_SIGNAL_SIGTERM, "sigterm": cri.Signal_SIGNAL_SIGTERM, "9": cri.Signal_SIGNAL_SIGKILL,
		"RTMIN+3": cri.Signal_SIGNAL_SIGRTMINPLUS3, "SIGXYZ": cri.Signal_SIGNAL_RUNTIME_DEFAULT, "99": cri.Signal_SIGNAL_RUNTIME_DEFAULT,
	} {
		if got := criSignal(given); got != want {
			t.Errorf("criSignal(%q) = %v, want %v", given, got, want)
		}
	}
}

package convert

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestStopSignalsComeBack(t *testing.T) {
	for value, name := range cri.Signal_name {
		s := cri.Signal(value)
		if s == cri.Signal_RUNTIME_DEFAULT {
			continue
		}
		if got := criSignal(stopSignal(s)); got != s {
			t.Errorf("%s becomes %q and %v", name, stopSignal(s), got)
		}
	}
	for given, want := range map[string]cri.Signal{"": cri.Signal_SIGTERM, "TERM": cri.Signal_SIGTERM, "9": cri.Signal_SIGKILL, "SIGXYZ": cri.Signal_RUNTIME_DEFAULT, "99": cri.Signal_RUNTIME_DEFAULT} {
		if got := criSignal(given); got != want {
			t.Errorf("criSignal(%q) = %v, want %v", given, got, want)
		}
	}
}

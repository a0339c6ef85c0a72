package criconfig

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestStopSignal(t *testing.T) {
	for name, want := range map[v1.Signal]cri.Signal{
		v1.SIGUSR1: cri.Signal_SIGNAL_SIGUSR1, v1.SIGRTMIN: cri.Signal_SIGNAL_SIGRTMIN,
		v1.SIGRTMINPLUS3: cri.Signal_SIGNAL_SIGRTMINPLUS3, v1.SIGRTMAXMINUS14: cri.Signal_SIGNAL_SIGRTMAXMINUS14,
	} {
		if got, err := stopSignal(&v1.Container{Lifecycle: &v1.Lifecycle{StopSignal: &name}}); err != nil || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, err, want)
		}
	}
	if got, err := stopSignal(&v1.Container{}); err != nil || got != cri.Signal_SIGNAL_RUNTIME_DEFAULT {
		t.Errorf("no signal is %v (%v)", got, err)
	}
	if got, err := stopSignal(&v1.Container{Lifecycle: &v1.Lifecycle{StopSignal: new(v1.Signal("SIGNONE"))}}); err == nil {
		t.Errorf("SIGNONE is %v", got)
	}
}

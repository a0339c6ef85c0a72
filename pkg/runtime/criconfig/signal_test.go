package criconfig

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSignals(t *testing.T) {
	for name, want := range map[v1.Signal]cri.Signal{
		v1.SIGUSR1: cri.Signal_SIGUSR1, v1.SIGRTMIN: cri.Signal_SIGRTMIN,
		v1.SIGRTMINPLUS3: cri.Signal_SIGRTMINPLUS3, v1.SIGRTMAXMINUS14: cri.Signal_SIGRTMAXMINUS14,
	} {
		got, err := stopSignal(&v1.Container{Lifecycle: &v1.Lifecycle{StopSignal: &name}})
		if err != nil || got != want || SignalName(want) != name {
			t.Errorf("%s is %v (%v), and back %s", name, got, err, SignalName(want))
		}
	}
	for n := range cri.Signal_name {
		want := cri.Signal(n)
		name := SignalName(want)
		if got, err := stopSignal(&v1.Container{Lifecycle: &v1.Lifecycle{StopSignal: &name}}); err != nil || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, err, want)
		}
	}
}

package agent

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func TestTheHostOffersLocalStorageUnlessThatIsSwitchedOff(t *testing.T) {
	for name, tc := range map[string]struct {
		isolation *bool
		want      bool
	}{
		"unset": {nil, true}, "on": {ptr.To(true), true}, "off": {ptr.To(false), false},
	} {
		cfg := &config.Config{RootDir: t.TempDir()}
		cfg.NodeStatusUpdateFrequency.Duration = time.Second
		cfg.LocalStorageCapacityIsolation = tc.isolation
		gauge, err := newGauge(cfg, nodeobject.Reserved{})
		if err != nil {
			t.Fatal(err)
		}
		h := &host{machine: gauge}
		for what, list := range map[string]v1.ResourceList{
			"capacity": gauge.Capacity(), "allocatable": gauge.Allocatable(), "offer": h.offer(cfg, &supplies{}).Allocatable,
		} {
			if _, got := list[v1.ResourceEphemeralStorage]; got != tc.want {
				t.Errorf("%s: %s has ephemeral storage: %v", name, what, got)
			}
			if list.Cpu().IsZero() {
				t.Errorf("%s: %s has no CPUs", name, what)
			}
		}
	}
}

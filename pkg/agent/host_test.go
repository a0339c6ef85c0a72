package agent

import (
	"testing"

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
		cfg.LocalStorageCapacityIsolation = tc.isolation
		measured, err := measure(cfg, nodeobject.Reserved{})
		if err != nil {
			t.Fatal(err)
		}
		h := &host{measured: measured}
		for what, list := range map[string]v1.ResourceList{
			"capacity": measured.Capacity, "allocatable": measured.Allocatable, "offer": h.offer(cfg, &supplies{}).Allocatable,
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

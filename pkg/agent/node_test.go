package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func TestNodeOffersLocalStorageUnlessThatIsSwitchedOff(t *testing.T) {
	for name, tc := range map[string]struct {
		isolation *bool
		want      bool
	}{
		"unset": {nil, true}, "on": {ptr.To(true), true}, "off": {ptr.To(false), false},
	} {
		cfg := &config.Config{RootDir: t.TempDir()}
		cfg.LocalStorageCapacityIsolation = tc.isolation
		n := &node{}
		if err := n.measure(cfg); err != nil {
			t.Fatal(err)
		}
		for what, list := range map[string]v1.ResourceList{
			"capacity": n.machine.Capacity, "allocatable": n.Allocatable, "offer": n.offer.Allocatable,
		} {
			if _, got := list[v1.ResourceEphemeralStorage]; got != tc.want {
				t.Errorf("%s: %s has ephemeral storage: %v", name, what, got)
			}
			if list.Cpu().IsZero() {
				t.Errorf("%s: %s has no CPUs", name, what)
			}
		}
		parts, err := newEviction(cfg, nil, nil, nil, nil, nil, nil)
		if tc.isolation != nil && !*tc.isolation && (len(parts) > 0 || err != nil) {
			t.Errorf("%s: parts %v, %v", name, parts, err)
		}
	}
}

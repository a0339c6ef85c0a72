package nodeobject

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// Each look is compared with what was told last, so that what grows slowly is told as well.
func TestALittleMoreOrLessIsNotTold(t *testing.T) {
	g, err := NewGauge(GaugeConfig{Root: t.TempDir(), MaxPods: 1, Period: time.Second, Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	var list v1.ResourceList
	g.measure = func() (Machine, error) { return Machine{Capacity: list.DeepCopy()}, nil }
	for _, step := range []struct {
		name            string
		memory, storage string
		huge            string
		told            bool
	}{
		{"at first", "1000Mi", "1000Gi", "0", true},
		{"files of others", "1000Mi", "991Gi", "0", false},
		{"and more of them", "1000Mi", "990Gi", "0", true},
		{"they go", "1000Mi", "999Gi", "0", false},
		{"a balloon", "991Mi", "990Gi", "0", false},
		{"that grows", "989Mi", "990Gi", "0", true},
		{"a page more of what is counted in pages", "989Mi", "990Gi", "2Mi", true},
		{"no storage", "989Mi", "0", "2Mi", true},
		{"still none", "989Mi", "0", "2Mi", false},
		{"a little storage", "989Mi", "1", "2Mi", true},
	} {
		list = resources("memory", step.memory, "ephemeral-storage", step.storage, "hugepages-2Mi", step.huge)
		if _, _, told := g.look(); told != step.told {
			t.Errorf("%s: told %v, want %v", step.name, told, step.told)
		}
	}
}

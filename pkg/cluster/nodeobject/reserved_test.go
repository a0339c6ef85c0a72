package nodeobject

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// What reservedMemory has to come to: more is missing in allocatable where there are huge pages.
func TestWhatTheNodeKeepsIsWithoutHugePages(t *testing.T) {
	g, err := NewGauge(GaugeConfig{Root: t.TempDir(), MaxPods: 1, Period: time.Second, Clock: clock.RealClock{}, Reserved: Reserved{
		System: resources("memory", "512Mi", "pid", "100"), Kube: resources("memory", "256Mi", "cpu", "1"),
		Eviction: []options.Threshold{
			{Signal: options.MemoryAvailable, Amount: options.Amount{Quantity: 256 << 20}},
			{Signal: options.MemoryAvailable, Amount: options.Amount{Quantity: 2 << 30}, Grace: time.Minute},
			{Signal: options.NodefsAvailable, Amount: options.Amount{Percent: 10}},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.measure = func() (Machine, error) {
		return Machine{Capacity: resources("cpu", "4", "memory", "8Gi", "hugepages-1Gi", "2Gi", "ephemeral-storage", "10Gi")}, nil
	}
	g.look()
	if got, want := g.Kept(), resources("cpu", "1", "memory", "1Gi", "ephemeral-storage", "1Gi"); !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if list := g.Allocatable(); list.Memory().Value() != 5<<30 {
		t.Errorf("allocatable memory %v, want 5Gi", list[v1.ResourceMemory])
	}
}

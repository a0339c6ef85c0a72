package nodeobject

import (
	"maps"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestParseThresholds(t *testing.T) {
	tests := []struct {
		name string
		in   map[string]string
		want []Threshold
		bad  bool
	}{
		{name: "none"},
		{name: "quantity and percentage, in order", in: map[string]string{"nodefs.available": "10%", "memory.available": "100Mi"},
			want: []Threshold{{Signal: memoryAvailable, Quantity: 100 << 20}, {Signal: nodefsAvailable, Percent: 10}}},
		{name: "switched off", in: map[string]string{"nodefs.available": "0%", "imagefs.available": "100%", "memory.available": "0"}},
		{name: "a signal that is not observed", in: map[string]string{"allocatableMemory.available": "1"}},
		{name: "part of a percent", in: map[string]string{"nodefs.inodesFree": "0.5%"}, want: []Threshold{{Signal: nodefsInodesFree, Percent: 0.5}}},
		{name: "text", in: map[string]string{"memory.available": "little"}, bad: true},
		{name: "negative", in: map[string]string{"memory.available": "-1"}, bad: true},
		{name: "negative percentage", in: map[string]string{"memory.available": "-1%"}, bad: true},
		{name: "more than all", in: map[string]string{"memory.available": "101%"}, bad: true},
		{name: "no number", in: map[string]string{"memory.available": "NaN%"}, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseThresholds(tt.in)
			if (err != nil) != tt.bad || !slices.Equal(got, tt.want) {
				t.Errorf("ParseThresholds() = %v, %v; want %v, error %v", got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestPressing(t *testing.T) {
	thresholds := []Threshold{
		{Signal: memoryAvailable, Quantity: 100}, {Signal: nodefsAvailable, Percent: 10}, {Signal: imagefsInodesFree, Percent: 5}, {Signal: pidAvailable, Quantity: 10},
	}
	tests := []struct {
		name string
		seen map[string]Observation
		want []v1.NodeConditionType
	}{
		{"nothing is known", nil, nil},
		{"just enough", map[string]Observation{memoryAvailable: {100, 1000}, nodefsAvailable: {10, 100}}, nil},
		{"memory", map[string]Observation{memoryAvailable: {99, 1000}}, []v1.NodeConditionType{v1.NodeMemoryPressure}},
		{"percentage", map[string]Observation{nodefsAvailable: {9, 100}}, []v1.NodeConditionType{v1.NodeDiskPressure}},
		{"inodes", map[string]Observation{imagefsInodesFree: {4, 100}, nodefsAvailable: {50, 100}}, []v1.NodeConditionType{v1.NodeDiskPressure}},
		{"processes", map[string]Observation{pidAvailable: {9, 100}}, []v1.NodeConditionType{v1.NodePIDPressure}},
		{"no threshold", map[string]Observation{nodefsInodesFree: {0, 100}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := slices.Sorted(maps.Keys(pressing(thresholds, tt.seen))); !slices.Equal(got, tt.want) {
				t.Errorf("pressing() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPressureHolds(t *testing.T) {
	memory := map[v1.NodeConditionType]bool{v1.NodeMemoryPressure: true}
	p := pressure{hold: 5 * time.Minute}
	steps := []struct {
		at      time.Duration
		crossed map[v1.NodeConditionType]bool
		want    bool
	}{
		{0, nil, false}, {time.Minute, memory, true}, {2 * time.Minute, nil, true}, {6*time.Minute - time.Second, nil, true},
		{6 * time.Minute, nil, false}, {7 * time.Minute, nil, false}, {8 * time.Minute, memory, true},
		{12 * time.Minute, memory, true}, {16 * time.Minute, nil, true}, {17 * time.Minute, nil, false},
	}
	for _, s := range steps {
		if got := p.update(s.crossed, noon.Add(s.at))[v1.NodeMemoryPressure]; got != s.want {
			t.Errorf("after %v: pressure %v, want %v", s.at, got, s.want)
		}
	}
	none := pressure{}
	if !none.update(memory, noon)[v1.NodeMemoryPressure] || none.update(nil, noon)[v1.NodeMemoryPressure] {
		t.Error("without a hold the condition is not just what is crossed now")
	}
}

func TestObserve(t *testing.T) {
	seen := observe(t.TempDir(), "")
	for _, signal := range []string{memoryAvailable, nodefsAvailable, imagefsAvailable, pidAvailable} {
		if o, ok := seen[signal]; !ok || o.Available <= 0 || o.Available > o.Capacity {
			t.Errorf("%s = %+v, %v; want something between nothing and all", signal, o, ok)
		}
	}
	if seen := observe("/no/such/directory", ""); len(seen) == 0 || seen[nodefsAvailable].Capacity != 0 {
		t.Errorf("of a directory that is not there: %v, want the rest only", seen)
	}
}

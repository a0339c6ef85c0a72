package cgroup

import (
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestLimitsOfAllPods(t *testing.T) {
	capacity := list("cpu", "4", "memory", "8Gi", "pid", "32768", "hugepages-2Mi", "64Mi", "ephemeral-storage", "1Ti")
	reserved := []v1.ResourceList{list("cpu", "500m", "memory", "1Gi", "pid", "1000"), list("memory", "1Gi")}
	huge := map[int64]int64{2 << 20: 64 << 20}
	for name, tt := range map[string]struct {
		capacity v1.ResourceList
		reserved []v1.ResourceList
		enforce  bool
		want     Values
	}{
		"what is reserved is taken off": {capacity, reserved, true,
			Values{CPUShares: ref[int64](3584), Memory: ref[int64](6 << 30), PIDs: ref[int64](31768), HugePages: huge}},
		"not enforced, the capacity": {capacity, reserved, false,
			Values{CPUShares: ref[int64](4096), Memory: ref[int64](8 << 30), PIDs: ref[int64](32768), HugePages: huge}},
		"more reserved than there is": {list("cpu", "1"), []v1.ResourceList{list("cpu", "2")}, true,
			Values{CPUShares: ref[int64](2), HugePages: map[int64]int64{}}},
		"what is not known is not limited": {nil, reserved, true, Values{HugePages: map[int64]int64{}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := forAllPods(tt.capacity, tt.reserved, tt.enforce); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestValuesOfTheClasses(t *testing.T) {
	sizes := []int64{2 << 20, 1 << 30}
	open := map[int64]int64{2 << 20: unbounded, 1 << 30: unbounded}
	for name, tt := range map[string]struct {
		class v1.PodQOSClass
		milli int64
		want  int64
	}{
		"burstable, by the requests": {v1.PodQOSBurstable, 1500, 1536},
		"burstable without pods":     {v1.PodQOSBurstable, 0, 2},
		"best effort":                {v1.PodQOSBestEffort, 1500, 2},
		"no more than the kernel's":  {v1.PodQOSBurstable, 1000000, 262144},
	} {
		t.Run(name, func(t *testing.T) {
			got := forClass(tt.class, tt.milli, sizes)
			if want := (Values{CPUShares: &tt.want, HugePages: open}); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestWeightsStandForShares(t *testing.T) {
	for shares, want := range map[int64]uint64{0: 1, 2: 1, 102: 4, 1024: 39, 2048: 79, 262144: 10000, 1 << 30: 10000} {
		if got := cpuWeight(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
}

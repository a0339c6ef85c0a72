package options

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEvictionThresholds(t *testing.T) {
	type pairs = map[string]string
	for name, tc := range map[string]struct {
		in   Eviction
		want []Threshold
		err  string // what the error begins with
	}{
		"none": {},
		"quantity and percentage": {in: Eviction{Hard: pairs{"nodefs.available": "10%", "memory.available": "100Mi"}}, want: []Threshold{
			{Signal: MemoryAvailable, Amount: Amount{Quantity: 100 << 20}}, {Signal: NodefsAvailable, Amount: Amount{Percent: 10}}}},
		"part of a percent": {in: Eviction{Hard: pairs{"nodefs.inodesFree": "0.5%"}}, want: []Threshold{{Signal: NodefsInodesFree, Amount: Amount{Percent: 0.5}}}},
		"switched off":      {in: Eviction{Hard: pairs{"nodefs.available": "0%", "imagefs.available": "100%"}}},
		"soft, with its grace": {in: Eviction{Soft: pairs{"pid.available": "10"}, SoftGracePeriod: pairs{"pid.available": "1m30s", "memory.available": "1s"}},
			want: []Threshold{{Signal: PIDAvailable, Amount: Amount{Quantity: 10}, Grace: 90 * time.Second}}},
		"least to reclaim": {in: Eviction{Hard: pairs{"imagefs.available": "15%"}, MinimumReclaim: pairs{"imagefs.available": "2Gi"}},
			want: []Threshold{{Signal: ImagefsAvailable, Amount: Amount{Percent: 15}, Reclaim: Amount{Quantity: 2 << 30}}}},
		"memory of all pods, where that is limited": {in: Eviction{Hard: pairs{"memory.available": "1Mi"}, Soft: pairs{"memory.available": "2Mi"},
			SoftGracePeriod: pairs{"memory.available": "1s"}, Allocatable: true}, want: []Threshold{
			{Signal: MemoryAvailable, Amount: Amount{Quantity: 1 << 20}}, {Signal: MemoryAvailable, Amount: Amount{Quantity: 2 << 20}, Grace: time.Second},
			{Signal: AllocatableMemoryAvailable, Amount: Amount{Quantity: 1 << 20}}}},

		"unknown signal":       {in: Eviction{Hard: pairs{"memory.free": "1"}}, err: `evictionHard: "memory.free"`},
		"text":                 {in: Eviction{Hard: pairs{"memory.available": "little"}}, err: "evictionHard: memory.available"},
		"negative":             {in: Eviction{Hard: pairs{"memory.available": "-1"}}, err: "evictionHard: memory.available"},
		"nothing":              {in: Eviction{Hard: pairs{"memory.available": "0"}}, err: "evictionHard: memory.available"},
		"negative percentage":  {in: Eviction{Hard: pairs{"memory.available": "-1%"}}, err: "evictionHard: memory.available"},
		"more than all":        {in: Eviction{Soft: pairs{"memory.available": "101%"}}, err: "evictionSoft: memory.available"},
		"no number":            {in: Eviction{Hard: pairs{"memory.available": "NaN%"}}, err: "evictionHard: memory.available"},
		"soft without a grace": {in: Eviction{Soft: pairs{"memory.available": "1"}}, err: "evictionSoft: memory.available"},
		"negative grace":       {in: Eviction{SoftGracePeriod: pairs{"memory.available": "-1s"}}, err: "evictionSoftGracePeriod: memory.available"},
		"a grace of nothing":   {in: Eviction{SoftGracePeriod: pairs{"memory": "1s"}}, err: `evictionSoftGracePeriod: "memory"`},
		"negative reclaim":     {in: Eviction{MinimumReclaim: pairs{"memory.available": "-1"}}, err: "evictionMinimumReclaim: memory.available"},
		"no percent reclaimed": {in: Eviction{MinimumReclaim: pairs{"memory.available": "0%"}}, err: "evictionMinimumReclaim: memory.available"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.in.Thresholds()
			if tc.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tc.err) {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("%+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

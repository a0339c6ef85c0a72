package agent

import (
	"reflect"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

func TestWhoseMemoryIsProtectedAndThrottled(t *testing.T) {
	asked := criconfig.MemoryQoS{Reserve: true}
	for name, tc := range map[string]struct {
		on, v2, docker bool
		want           memoryQoS
	}{
		"on":             {true, true, false, memoryQoS{pods: true, containers: &asked}},
		"on, Docker":     {true, true, true, memoryQoS{pods: true}},
		"on, cgroup v1":  {true, false, false, memoryQoS{}},
		"off":            {false, true, false, memoryQoS{containers: &criconfig.MemoryQoS{Off: true}}},
		"off, Docker":    {false, true, true, memoryQoS{}},
		"off, cgroup v1": {false, false, false, memoryQoS{}},
	} {
		if got := memoryQoSOf(tc.on, tc.v2, tc.docker, asked); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

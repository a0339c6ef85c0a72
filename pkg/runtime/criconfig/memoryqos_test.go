package criconfig

import (
	"maps"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// The machine that this was written on has no cgroup v2: the test checks the
// values, not their effect in the kernel. Pages have 4 KiB.
func TestMemoryQoS(t *testing.T) {
	none, tiered := &MemoryQoS{Throttling: new(0.9)}, &MemoryQoS{Throttling: new(0.9), Reserve: true}
	guaranteed, bestEffort := list("1", "1Gi"), map[string]string{"memory.min": "0", "memory.low": "0", "memory.high": "3865468928"}
	for name, tt := range map[string]struct {
		qos              *MemoryQoS
		requests, limits v1.ResourceList
		pod              v1.ResourceList // limits of the pod as a whole
		want             map[string]string
	}{
		"nothing asked for":          {none, nil, nil, nil, bestEffort},
		"nothing to be protected":    {tiered, nil, nil, nil, bestEffort},
		"guaranteed":                 {none, guaranteed, guaranteed, nil, map[string]string{"memory.min": "0", "memory.low": "0"}},
		"guaranteed, protected":      {tiered, guaranteed, guaranteed, nil, map[string]string{"memory.min": "1073741824"}},
		"all it may have, burstable": {tiered, list("", "1Gi"), list("", "1Gi"), nil, map[string]string{"memory.low": "1073741824"}},
		"switched off":               {&MemoryQoS{Off: true}, list("", "100000"), list("", "200000"), nil, map[string]string{"memory.high": "max"}},
		// 100000 + 0.9 * 100000 = 190000, 46.4 pages.
		"between request and limit": {none, list("", "100000"), list("", "200000"), nil, map[string]string{"memory.min": "0", "memory.low": "0", "memory.high": "188416"}},
		"protected":                 {tiered, list("", "100000"), list("", "200000"), nil, map[string]string{"memory.low": "100000", "memory.high": "188416"}},
		"a limit alone":             {tiered, nil, list("", "1Mi"), nil, map[string]string{"memory.min": "0", "memory.low": "0", "memory.high": "942080"}},
		// 1 GiB + 0.9 * 3 GiB of the node's 4 GiB, in whole pages.
		"a request alone, by the node": {tiered, list("", "1Gi"), nil, nil, map[string]string{"memory.low": "1073741824", "memory.high": "3972841472"}},
		"less than a page apart":       {none, list("", "100000"), list("", "100100"), nil, map[string]string{"memory.min": "0", "memory.low": "0"}},
		"another factor":               {&MemoryQoS{Throttling: new(0.5)}, list("", "1Mi"), list("", "2Mi"), nil, map[string]string{"memory.min": "0", "memory.low": "0", "memory.high": "1572864"}},
		"no factor":                    {&MemoryQoS{Reserve: true}, list("", "100000"), list("", "200000"), nil, map[string]string{"memory.low": "100000"}},
		// The pod's cgroup has memory.high then.
		"a limit of the pod alone": {none, list("", "1Mi"), nil, list("", "4Mi"), map[string]string{"memory.min": "0", "memory.low": "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Resources: v1.ResourceRequirements{Requests: tt.requests, Limits: tt.limits}}}}}
			if tt.pod != nil {
				pod.Spec.Resources = &v1.ResourceRequirements{Limits: tt.pod}
			}
			if got := tt.qos.unified(pod, &pod.Spec.Containers[0], 4<<30); !maps.Equal(got, tt.want) {
				t.Errorf("unified %v, want %v", got, tt.want)
			}
		})
	}
}

func TestMemoryQoSIsOfContainersOnly(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: list("", "1Mi")}}}}}
	p.Name, p.Namespace, p.UID = "p", "ns", "u"
	n := NodeConfig{Allocatable: func() v1.ResourceList { return list("", "1Gi") }, MemoryQoS: &MemoryQoS{Throttling: new(0.9)}}
	if r := Resources(p, &p.Spec.Containers[0], n); r.Unified["memory.high"] == "" {
		t.Errorf("the container's files: %v", r.Unified)
	}
	sandbox, err := Sandbox(p, 0, n)
	if err != nil || len(sandbox.GetLinux().GetResources().GetUnified()) > 0 {
		t.Errorf("the sandbox's files: %v, %v", sandbox.GetLinux().GetResources().GetUnified(), err)
	}
	n.MemoryQoS = nil
	if r := Resources(p, &p.Spec.Containers[0], n); r.Unified != nil {
		t.Errorf("not asked for: %v", r.Unified)
	}
}

package pods

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func TestSwapLimit(t *testing.T) {
	memory := func(request, limit string) v1.Container {
		var r v1.ResourceRequirements
		if request != "" {
			r.Requests = v1.ResourceList{v1.ResourceMemory: resource.MustParse(request)}
		}
		if limit != "" {
			r.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse(limit)}
		}
		return v1.Container{Resources: r}
	}
	critical := ptr.To[int32](2000000000)
	for name, tt := range map[string]struct {
		c        v1.Container
		priority *int32
		want     int64
	}{
		"a quarter of memory: a quarter of swap": {memory("250", "500"), nil, 100},
		"also without a limit":                   {memory("250", ""), nil, 100},
		"all of its limit requested":             {memory("250", "250"), nil, 0},
		"a limit alone is a request":             {memory("", "250"), nil, 0},
		"nothing requested":                      {memory("", ""), nil, 0},
		"more than there is":                     {memory("1001", ""), nil, 0},
		"critical":                               {memory("250", ""), critical, 0},
	} {
		// The second container makes the pod Burstable.
		p := &v1.Pod{Spec: v1.PodSpec{Priority: tt.priority, Containers: []v1.Container{tt.c, memory("500", "600")}}}
		if got := SwapLimit(p, &p.Spec.Containers[0], 1000, 400); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
		p.Annotations = map[string]string{AnnotationConfigSource: SourceFile}
		if got := SwapLimitOfAll(p, 1000, 400); got != 0 {
			t.Errorf("%s: %d for all of a static pod, want none", name, got)
		}
		p.Annotations = nil
		other := int64(200)
		if tt.priority != nil {
			other = 0
		}
		if got := SwapLimitOfAll(p, 1000, 400); got != tt.want+other {
			t.Errorf("%s: %d for all, want %d", name, got, tt.want+other)
		}
	}
}

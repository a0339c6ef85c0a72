package pods

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func testPod() *v1.Pod {
	return &v1.Pod{Spec: v1.PodSpec{
		InitContainers: []v1.Container{{Name: "i"}, {Name: "s", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}},
		Containers:     []v1.Container{{Name: "a", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}, {Name: "b"}},
		EphemeralContainers: []v1.EphemeralContainer{
			{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e"}},
		},
	}}
}

func TestContainersComeInTheirOrderWithTheirKinds(t *testing.T) {
	pod := testPod()
	type one struct {
		kind ContainerKind
		name string
	}
	var got []one
	for kind, c := range AllContainers(pod) {
		got = append(got, one{kind, c.Name})
	}
	want := []one{{InitContainer, "i"}, {SidecarContainer, "s"}, {RegularContainer, "a"}, {RegularContainer, "b"}, {EphemeralContainer, "e"}}
	if !slices.Equal(got, want) {
		t.Errorf("AllContainers = %v, want %v", got, want)
	}
	got = nil
	for kind, c := range Containers(pod) {
		if c.Image = "x"; c.Name == "b" {
			break
		}
		got = append(got, one{kind, c.Name})
	}
	if !slices.Equal(got, want[:3]) || pod.Spec.Containers[0].Image != "x" {
		t.Errorf("Containers until b = %v, want %v, and pointers into the pod", got, want[:3])
	}
}

func TestAContainerIsFoundByName(t *testing.T) {
	pod := testPod()
	for name, want := range map[string]ContainerKind{"i": InitContainer, "s": SidecarContainer, "b": RegularContainer, "e": EphemeralContainer} {
		if c, kind := Container(pod, name); c == nil || c.Name != name || kind != want {
			t.Errorf("Container(%s) = %v, %v", name, c, kind)
		}
	}
	if c, _ := Container(pod, "x"); c != nil {
		t.Errorf("found %v", c)
	}
	if c, _ := Container(nil, "i"); c != nil {
		t.Errorf("found %v in no pod", c)
	}
	statuses := []v1.ContainerStatus{{Name: "a"}, {Name: "b"}}
	if s := ContainerStatus(statuses, "b"); s != &statuses[1] || ContainerStatus(statuses, "c") != nil {
		t.Errorf("ContainerStatus(b) = %v", s)
	}
}

func TestHugePageSize(t *testing.T) {
	for name, want := range map[v1.ResourceName]int64{
		"hugepages-2Mi": 2 << 20, "hugepages-1Gi": 1 << 30, "hugepages-": 0, "hugepages-x": 0, "hugepages-0": 0, "hugepages--2Mi": 0,
		"hugepages-1e300000000": 0, "memory": 0,
	} {
		if got, ok := HugePageSize(name); got != want || ok != (want > 0) {
			t.Errorf("HugePageSize(%s) = %d, %v; want %d", name, got, ok, want)
		}
	}
}

func TestWhoAPodIs(t *testing.T) {
	of := func(annotation, value string) *v1.Pod {
		p := &v1.Pod{}
		p.Annotations = map[string]string{annotation: value}
		return p
	}
	for name, tt := range map[string]struct {
		pod                      *v1.Pod
		static, mirror, critical bool
	}{
		"of the API server":    {of(AnnotationConfigSource, SourceAPI), false, false, false},
		"of a file":            {of(AnnotationConfigSource, SourceFile), true, false, true},
		"of a URL":             {of(AnnotationConfigSource, SourceHTTP), true, false, true},
		"a mirror":             {of(AnnotationConfigMirror, "hash"), false, true, true},
		"of the system's rank": {&v1.Pod{Spec: v1.PodSpec{Priority: ptr.To[int32](SystemCriticalPriority)}}, false, false, true},
		"just below it":        {&v1.Pod{Spec: v1.PodSpec{Priority: ptr.To[int32](SystemCriticalPriority - 1)}}, false, false, false},
	} {
		if s, m, c := IsStatic(tt.pod), IsMirror(tt.pod), IsCritical(tt.pod); s != tt.static || m != tt.mirror || c != tt.critical {
			t.Errorf("%s: static %v, mirror %v, critical %v", name, s, m, c)
		}
	}
}

func TestWhosePriorityIsCritical(t *testing.T) {
	for name, tt := range map[string]struct {
		source, class string
		priority      *int32
		want          bool
	}{
		"none":                              {SourceFile, "", nil, false},
		"the lowest":                        {SourceAPI, "", new(int32(2_000_000_000)), true},
		"one less":                          {SourceAPI, "system-node-critical", new(int32(1_999_999_999)), false},
		"a manifest names the node's class": {SourceFile, "system-node-critical", nil, true},
		"a manifest names the cluster's":    {SourceFile, "system-cluster-critical", nil, true},
		"a manifest names another":          {SourceFile, "high", nil, false},
		"the API server has not computed":   {SourceAPI, "system-node-critical", nil, false},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{PriorityClassName: tt.class, Priority: tt.priority}}
		pod.Annotations = map[string]string{AnnotationConfigSource: tt.source}
		if got := HasCriticalPriority(pod); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

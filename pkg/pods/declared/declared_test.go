package declared

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/nodedeclaredfeatures"
	"k8s.io/utils/ptr"
)

const release = "v1.37.2"

func TestUpstreamKnowsWhatTheNodeDeclares(t *testing.T) {
	f := nodedeclaredfeatures.DefaultFramework
	if _, err := f.MapSorted(Features()); err != nil || !slices.IsSorted(Features()) {
		t.Errorf("%v: %v", Features(), err)
	}
}

func TestMissing(t *testing.T) {
	restarting := v1.Container{Name: "c", RestartPolicyRules: []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestartAllContainers}}}
	for name, tt := range map[string]struct {
		spec v1.PodSpec
		want string
	}{
		"an ordinary pod":        {v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}, ""},
		"what the node has":      {v1.PodSpec{Containers: []v1.Container{restarting}}, ""},
		"what it has not":        {v1.PodSpec{HostNetwork: true, HostUsers: ptr.To(false)}, "Pod requires node features that are not available: UserNamespacesHostNetworkSupport"},
		"a release that is none": {v1.PodSpec{}, "Failed to match"},
	} {
		of := release
		if strings.HasPrefix(tt.want, "Failed") {
			of = "none"
		}
		got := Missing(&v1.Pod{Spec: tt.spec}, of)
		if got != tt.want && !(of == "none" && strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestMissingForUpdate(t *testing.T) {
	with := func(cpu string) *v1.Pod {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
		return &v1.Pod{Spec: v1.PodSpec{Resources: &v1.ResourceRequirements{Requests: list}}}
	}
	if got := MissingForUpdate(with("1"), with("1"), release); got != "" {
		t.Errorf("nothing has changed: %q", got)
	}
	if got, want := MissingForUpdate(with("1"), with("2"), release), "Pod requires node features that are not available: InPlacePodLevelResourcesVerticalScaling"; got != want {
		t.Errorf("the pod's own resources: %q, want %q", got, want)
	}
}

func TestAManifestWithOtherInitContainersIsNoResize(t *testing.T) {
	of := func(names ...string) *v1.Pod {
		p := &v1.Pod{}
		for _, name := range names {
			p.Spec.InitContainers = append(p.Spec.InitContainers, v1.Container{Name: name})
		}
		return p
	}
	for name, pods := range map[string][2]*v1.Pod{"one less": {of("a", "b"), of("a")}, "none": {of("a"), of()}, "one more": {of(), of("a")}} {
		if got := MissingForUpdate(pods[0], pods[1], release); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

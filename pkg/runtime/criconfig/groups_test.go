package criconfig

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// ofGroups are volumes whose files belong to groups.
type ofGroups struct{ places }

func (ofGroups) Groups(*v1.Pod) []int64 { return []int64{5, 7} }

func TestAContainerIsInTheGroupsOfItsVolumes(t *testing.T) {
	for name, tt := range map[string]struct {
		context *v1.PodSecurityContext
		want    []int64
	}{
		"no others":        {nil, []int64{5, 7}},
		"beside the pod's": {&v1.PodSecurityContext{FSGroup: ptr.To(int64(9)), SupplementalGroups: []int64{5}}, []int64{9, 5, 7}},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{SecurityContext: tt.context}}
		s, err := containerSecurity(pod, &v1.Container{}, ContainerInput{Volumes: ofGroups{}})
		if err != nil || !slices.Equal(s.SupplementalGroups, tt.want) {
			t.Errorf("%s: groups %d, want %d, error %v", name, s.GetSupplementalGroups(), tt.want, err)
		}
	}
}

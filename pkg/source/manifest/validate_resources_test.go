package manifest

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestPodLevelResources(t *testing.T) {
	list := func(pairs ...string) v1.ResourceList {
		l := v1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return l
	}
	for name, tt := range map[string]struct {
		pod, container v1.ResourceRequirements
		want           string // part of the only error; "" for none
	}{
		"containers fit":            {v1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "2")}, v1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "2")}, ""},
		"containers request more":   {v1.ResourceRequirements{Requests: list("cpu", "1")}, v1.ResourceRequirements{Requests: list("cpu", "2")}, "must be greater than or equal to aggregate container requests of 2"},
		"a container's limit above": {v1.ResourceRequirements{Limits: list("memory", "1Mi")}, v1.ResourceRequirements{Limits: list("memory", "2Mi")}, "must be less than or equal to pod limits of 1Mi"},
		"the largest of pages":      {v1.ResourceRequirements{Limits: list("hugepages-4Ei", "1Gi", "cpu", "1")}, v1.ResourceRequirements{}, "1Gi is not positive integer multiple of hugepages-4Ei"},
		"huge pages alone":          {v1.ResourceRequirements{Limits: list("hugepages-2Mi", "2Mi")}, v1.ResourceRequirements{}, "HugePages require cpu or memory"},
		"huge pages above":          {v1.ResourceRequirements{Limits: list("hugepages-2Mi", "2Mi", "cpu", "1")}, v1.ResourceRequirements{Limits: list("hugepages-2Mi", "2Mi")}, ""},
		"requests above limits":     {v1.ResourceRequirements{Requests: list("cpu", "3"), Limits: list("cpu", "2")}, v1.ResourceRequirements{}, "must be less than or equal to cpu limit of 2"},
		"no such resource of a pod": {v1.ResourceRequirements{Limits: list("ephemeral-storage", "1Mi")}, v1.ResourceRequirements{}, `supported values: "cpu", "hugepages-", "memory"`},
	} {
		t.Run(name, func(t *testing.T) {
			errs := validatePodResources(&v1.PodSpec{Resources: &tt.pod, Containers: []v1.Container{{Resources: tt.container}}}, field.NewPath("spec"))
			switch {
			case tt.want == "" && len(errs) > 0:
				t.Errorf("refused: %v", errs)
			case tt.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want)):
				t.Errorf("got %v, want %s", errs, tt.want)
			}
		})
	}
}

package bounds

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestParseQuantity(t *testing.T) {
	for _, good := range []string{"1", "100Mi", "1e3", "5E", "1.5e-3", "1e99", "1e007"} {
		if _, err := ParseQuantity(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "x", "1e1000", "1e-300000000", "1e300000000", "+.5E-02147483648", "123456789012345678901234e30000000"} {
		if q, err := ParseQuantity(bad); err == nil {
			t.Errorf("%q is %v", bad, q)
		}
	}
}

func TestHugeExponents(t *testing.T) {
	for document, want := range map[string]bool{
		`{"a": "1e30000000"}`:                      true,
		`{"a": [1, {"b": 1E-30000000}]}`:           true,
		`{"a": "-1.5e+1234567"}`:                   true,
		`{"a": "1e123456", "b": 1e99, "c": "5E"}`:  false,
		`{"a": "12e4567", "b": "x1e30000000"}`:     false, // a commit; a word
		`{"a": "{\"b\": \"1e30000000\"}"}`:         false,
		`{"a": "sha256:12e4567890", "b": "1e3Gi"}`: false,
		`not JSON`: false,
		`{"1e30000000": ` + strings.Repeat("[", 5000): true,
	} {
		if got := HugeExponents([]byte(document)); got != want {
			t.Errorf("%.50s: %v", document, got)
		}
	}
}

func TestQuantities(t *testing.T) {
	q := resource.MustParse
	huge := q("1e300000000")
	pod := &v1.Pod{Spec: v1.PodSpec{
		Containers: []v1.Container{{
			Name: "c",
			Resources: v1.ResourceRequirements{
				Limits:   v1.ResourceList{"cpu": q("1e17"), "memory": q("1e19"), "hugepages-2Mi": q("-1e30")},
				Requests: v1.ResourceList{"cpu": q("9e15"), "memory": q("9e18"), "ephemeral-storage": q("1m")},
			},
			Env: []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Divisor: huge}}}},
		}},
		Volumes:  []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: &huge}}}},
		Overhead: v1.ResourceList{"memory": huge},
	}}
	var got []string
	Quantities(pod, "", func(path string, err error) { got = append(got, path+": "+err.Error()) })
	const more = " is more than 64 bits hold"
	want := []string{
		"spec.volumes[0].emptyDir.sizeLimit: 1e300000000" + more,
		"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: 1e300000000" + more,
		"spec.containers[0].resources.limits[cpu]: 100e15" + more,
		"spec.containers[0].resources.limits[hugepages-2Mi]: -1e30" + more,
		"spec.containers[0].resources.limits[memory]: 10e18" + more,
		"spec.overhead[memory]: 1e300000000" + more,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	Quantities((*v1.Pod)(nil), "", func(path string, err error) { t.Error(path, err) })
	Quantities(nil, "", func(path string, err error) { t.Error(path, err) })
}

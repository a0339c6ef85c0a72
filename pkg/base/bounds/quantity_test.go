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
	for _, bad := range []string{"", "x", "1e1000", "1e-300000000", "1e300000000", "+.5E-02147483648", "123456789012345678901234e30000000", "12345678901234567890123e999999", strings.Repeat("1", 1000)} {
		if q, err := ParseQuantity(bad); err == nil {
			t.Errorf("%q is %v", bad, q)
		}
	}
}

func TestUnreadableQuantity(t *testing.T) {
	for document, want := range map[string]bool{
		`{"spec": {"limits": {"memory": "1e30000000"}}}`:                       true,
		`{"spec": {"limits": {"memory": 1E-30000000}}}`:                        true,
		`{"spec": [{"sizeLimit": "12345678901234567890123e999999"}]}`:          true,
		`{"capacity": {"storage": "` + strings.Repeat("1", 1000) + `"}}`:       true,
		`{"requests": {"cpu": "+1.5E+0001000"}}`:                               true,
		`{"requests": {"cpu": "1e-3", "memory": 1e99, "storage": "5E"}}`:       false,
		`{"labels": {"commit": "12e45678901"}, "data": {"build": 1e30000000}}`: false,
		`{"env": [{"value": "1e30000000"}], "divisor": "1Mi"}`:                 false,
		`not JSON`: false,
	} {
		if got := UnreadableQuantity([]byte(document)); got != want {
			t.Errorf("%.80s: %v", document, got)
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
		"spec.volumes[0].emptyDir.sizeLimit: +Inf" + more,
		"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: +Inf" + more,
		"spec.containers[0].resources.limits[cpu]: 1e+17" + more,
		"spec.containers[0].resources.limits[hugepages-2Mi]: -1e+30" + more,
		"spec.containers[0].resources.limits[memory]: 1e+19" + more,
		"spec.overhead[memory]: +Inf" + more,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, most := range []string{"9223372036854775807", "8Ei", "100Ei", "-9223372036854775807"} { // the library caps them
		if err := Quantity(q(most), false); err != nil {
			t.Errorf("%s: %v", most, err)
		}
	}
	// It is fast where the library is not.
	if err := Quantity(q("12345678901234567890123e999999"), false); err == nil {
		t.Error("a number of a million digits fits 64 bits")
	}
	Quantities((*v1.Pod)(nil), "", func(path string, err error) { t.Error(path, err) })
	Quantities(nil, "", func(path string, err error) { t.Error(path, err) })
}

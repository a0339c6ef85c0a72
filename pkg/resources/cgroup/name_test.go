package cgroup

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// list reads "cpu" and "memory" amounts by name, in pairs.
func list(pairs ...string) v1.ResourceList {
	l := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func container(requests, limits v1.ResourceList) v1.Container {
	return v1.Container{Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func podOf(uid types.UID, containers ...v1.Container) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: v1.PodSpec{Containers: containers}}
}

func TestParent(t *testing.T) {
	const uid = "0a1b-22c3-4d"
	best := podOf(uid, container(nil, nil))
	burst := podOf(uid, container(list("cpu", "100m"), nil))
	guaranteed := podOf(uid, container(nil, list("cpu", "1", "memory", "1Gi")))
	for name, tt := range map[string]struct {
		root    string
		systemd bool
		pod     *v1.Pod
		want    string
	}{
		"guaranteed":             {"", false, guaranteed, "/kubepods/pod0a1b-22c3-4d"},
		"burstable":              {"/", false, burst, "/kubepods/burstable/pod0a1b-22c3-4d"},
		"best effort":            {"", false, best, "/kubepods/besteffort/pod0a1b-22c3-4d"},
		"below a root":           {"/a-b/c/", false, best, "/a-b/c/kubepods/besteffort/pod0a1b-22c3-4d"},
		"systemd, guaranteed":    {"", true, guaranteed, "/kubepods.slice/kubepods-pod0a1b_22c3_4d.slice"},
		"systemd, burstable":     {"", true, burst, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b_22c3_4d.slice"},
		"systemd, below a root":  {"/a-b", true, best, "/a_b.slice/a_b-kubepods.slice/a_b-kubepods-besteffort.slice/a_b-kubepods-besteffort-pod0a1b_22c3_4d.slice"},
		"a root without a slash": {"x", false, best, "/x/kubepods/besteffort/pod0a1b-22c3-4d"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := NewLayout(tt.root, tt.systemd)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Parent(tt.pod); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestRootsThatNameNoCgroup(t *testing.T) {
	for root, systemd := range map[string]bool{"/a/../..": false, "/a_b": true} {
		if _, err := NewLayout(root, systemd); err == nil {
			t.Errorf("%s: taken", root)
		}
	}
}

func TestUIDOfADirectory(t *testing.T) {
	for name, tt := range map[string]struct {
		systemd bool
		class   v1.PodQOSClass
		dir     string
		want    types.UID
	}{
		"a pod":                            {false, v1.PodQOSBurstable, "pod12-34", "12-34"},
		"a QoS class":                      {false, v1.PodQOSGuaranteed, "burstable", ""},
		"a foreign cgroup":                 {false, v1.PodQOSGuaranteed, "podman-1", "man-1"}, // as in the kubelet
		"nothing but the prefix":           {false, v1.PodQOSBestEffort, "pod", ""},
		"systemd, a pod":                   {true, v1.PodQOSBurstable, "kubepods-burstable-pod12_34.slice", "12-34"},
		"systemd, a QoS class":             {true, v1.PodQOSGuaranteed, "kubepods-burstable.slice", ""},
		"systemd, a pod of another parent": {true, v1.PodQOSBurstable, "kubepods-pod12_34.slice", ""},
		"systemd, a scope":                 {true, v1.PodQOSGuaranteed, "kubepods-pod12.scope", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := NewLayout("", tt.systemd)
			if err != nil {
				t.Fatal(err)
			}
			got, err := l.uid(l.qos(tt.class), tt.dir)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

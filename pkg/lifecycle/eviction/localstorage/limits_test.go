package localstorage

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const mib = 1 << 20

// bounded is a pod that a test bounds.
type bounded struct{ v1.Pod }

func (b *bounded) emptyDir(name string, medium v1.StorageMedium, limit string) *bounded {
	e := &v1.EmptyDirVolumeSource{Medium: medium}
	if limit != "" {
		q := resource.MustParse(limit)
		e.SizeLimit = &q
	}
	b.Spec.Volumes = append(b.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: e}})
	return b
}

func container(name, limit string) v1.Container {
	c := v1.Container{Name: name}
	if limit != "" {
		c.Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(limit)}
	}
	return c
}

func (b *bounded) container(name, limit string) *bounded {
	b.Spec.Containers = append(b.Spec.Containers, container(name, limit))
	return b
}

func (b *bounded) init(name, limit string) *bounded {
	b.Spec.InitContainers = append(b.Spec.InitContainers, container(name, limit))
	return b
}

func (b *bounded) sidecar(name, limit string) *bounded {
	b.init(name, limit).Spec.InitContainers[len(b.Spec.InitContainers)-1].RestartPolicy = new(v1.ContainerRestartPolicyAlways)
	return b
}

func pod() *bounded { return &bounded{} }

func TestExceeded(t *testing.T) {
	type bytes = map[string]uint64
	for name, tc := range map[string]struct {
		pod  *bounded
		use  use
		want excess // zero: nothing
		none bool   // the pod has no limits at all
	}{
		"no limits":                         {pod: pod().emptyDir("v", "", "").container("c", ""), none: true, use: use{total: 1 << 40}},
		"an emptyDir as large as it may be": {pod: pod().emptyDir("v", "", "1Mi"), use: use{emptyDirs: bytes{"v": mib}}},
		"an emptyDir larger than that": {
			pod: pod().emptyDir("u", "", "1Mi").emptyDir("v", "", "1Mi"), use: use{emptyDirs: bytes{"v": mib + 1}},
			want: excess{"emptydirfs.limit", `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		},
		"an emptyDir that is too deep to be measured": {
			pod: pod().emptyDir("u", "", "1Mi").emptyDir("v", "", "1Mi"), use: use{tooDeep: map[string]bool{"v": true}},
			want: excess{"emptydirfs.limit", `EmptyDir volume "v" cannot be measured against its limit "1Mi": more than 4096 directories below each other. `},
		},
		"one without a limit counts to the pod's": {
			pod: pod().emptyDir("v", "", "").container("c", "1Mi"), use: use{tooDeep: map[string]bool{"v": true}},
			want: excess{"ephemeralpodfs.limit", `Volume "v" cannot be measured against the total limit of containers 1Mi: more than 4096 directories below each other. `},
		},
		"an emptyDir in memory is the kernel's to bound": {pod: pod().emptyDir("v", v1.StorageMediumMemory, "1Mi"), none: true, use: use{emptyDirs: bytes{"v": 9 * mib}}},
		"an emptyDir in huge pages is not": {
			pod: pod().emptyDir("v", "HugePages-2Mi", "2Mi"), use: use{emptyDirs: bytes{"v": 4 * mib}},
			want: excess{"emptydirfs.limit", `Usage of EmptyDir volume "v" exceeds the limit "2Mi". `},
		},
		"a sizeLimit of none limits nothing":      {pod: pod().emptyDir("v", "", "0"), none: true, use: use{emptyDirs: bytes{"v": mib}}},
		"a volume that could not be measured yet": {pod: pod().emptyDir("v", "", "1Mi")},
		"a container within its limit":            {pod: pod().container("c", "1Mi"), use: use{total: mib, containers: bytes{"c": mib}}},
		"the only container beyond its limit is the pod beyond it": {
			pod: pod().container("c", "1Mi"), use: use{total: mib + 1, containers: bytes{"c": mib + 1}},
			want: excess{"ephemeralpodfs.limit", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		},
		"a sidecar beyond its own": {
			pod: pod().sidecar("s", "1Mi").container("c", "5Mi"), use: use{total: 2 * mib, containers: bytes{"s": 2 * mib}},
			want: excess{"ephemeralcontainerfs.limit", `Container s exceeded its local ephemeral storage limit "1Mi". `},
		},
		"one of two containers beyond its own": {
			pod: pod().container("c", "1Mi").container("d", "5Mi"), use: use{total: 2 * mib, containers: bytes{"c": 2 * mib}},
			want: excess{"ephemeralcontainerfs.limit", `Container c exceeded its local ephemeral storage limit "1Mi". `},
		},
		"volumes of the pod beyond the sum of its containers' limits": {
			pod: pod().emptyDir("v", "", "").container("c", "1Mi").container("d", "1Mi"), use: use{total: 3 * mib, containers: bytes{"c": 1}},
			want: excess{"ephemeralpodfs.limit", "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "},
		},
		"a container without a limit counts against those of the others": {
			pod: pod().container("c", "1Mi").container("d", ""), use: use{total: 2 * mib, containers: bytes{"d": 2 * mib}},
			want: excess{"ephemeralpodfs.limit", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		},
		"an init container's larger limit is the pod's": {
			pod: pod().init("i", "4Mi").container("c", "1Mi"), use: use{total: 3 * mib},
		},
		"an init container's limit is not looked at for itself": {
			pod: pod().init("i", "1Mi").container("c", "4Mi"), use: use{total: 3 * mib, containers: bytes{"i": 3 * mib}},
		},
		"a limit of nothing allows nothing": {
			pod: pod().container("c", "0"), use: use{total: 1},
			want: excess{"ephemeralpodfs.limit", "Pod ephemeral local storage usage exceeds the total limit of containers 0. "},
		},
		"the volume comes before the pod": {
			pod: pod().emptyDir("v", "", "1Mi").container("c", "1Mi"), use: use{total: 9 * mib, emptyDirs: bytes{"v": 9 * mib}},
			want: excess{"emptydirfs.limit", `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := limitsOf(&tc.pod.Pod)
			if l.none() != tc.none {
				t.Errorf("none is %v", l.none())
			}
			var got excess
			if x := exceeded(&tc.pod.Pod, l, tc.use); x != nil {
				got = *x
			}
			if got != tc.want {
				t.Errorf("exceeded %+v, want %+v", got, tc.want)
			}
		})
	}
}

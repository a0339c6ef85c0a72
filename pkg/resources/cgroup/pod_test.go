package cgroup

import (
	"reflect"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func with(pod *v1.Pod, change func(*v1.PodSpec)) *v1.Pod {
	change(&pod.Spec)
	return pod
}

func sidecar(requests, limits v1.ResourceList) v1.Container {
	c := container(requests, limits)
	c.RestartPolicy = ref(v1.ContainerRestartPolicyAlways)
	return c
}

func TestForPod(t *testing.T) {
	quota := PodSettings{CFSQuota: true}
	half := list("cpu", "500m", "memory", "64Mi")
	one := list("cpu", "1", "memory", "128Mi")
	none := map[int64]int64{}
	// Shares, quota of 100 ms, memory, processes.
	values := func(shares, quota, memory, pids int64) Values {
		return Values{CPUShares: &shares, CPUPeriod: ref[int64](100000), CPUQuota: &quota, Memory: &memory, PIDs: &pids, HugePages: none}
	}
	for name, tt := range map[string]struct {
		pod  *v1.Pod
		set  PodSettings
		want Values
	}{
		"best effort":                   {podOf("u", container(nil, nil)), quota, values(2, -1, -1, -1)},
		"best effort with a pids limit": {podOf("u", container(nil, nil)), PodSettings{PIDs: 100}, values(2, -1, -1, 100)},
		"best effort with overhead": {with(podOf("u", container(nil, nil)), func(s *v1.PodSpec) { s.Overhead = half }), quota,
			values(2, -1, -1, -1)},
		"guaranteed": {podOf("u", container(one, one)), quota, values(1024, 100000, 128<<20, -1)},
		"guaranteed with CPUs to itself": {podOf("u", container(one, one)), PodSettings{CFSQuota: true, ExclusiveCPUs: func(p *v1.Pod) bool { return p.UID == "u" }},
			values(1024, -1, 128<<20, -1)},
		"guaranteed without quotas": {podOf("u", container(one, one)), PodSettings{}, values(1024, -1, 128<<20, -1)},
		"requests alone":            {podOf("u", container(half, nil)), quota, values(512, -1, -1, -1)},
		"the containers' sum":       {podOf("u", container(half, one), container(half, one)), quota, values(1024, 200000, 256<<20, -1)},
		"one container without limits": {podOf("u", container(half, one), container(half, nil)), quota,
			values(1024, -1, -1, -1)},
		"one without a memory limit": {podOf("u", container(half, one), container(half, list("cpu", "1"))), quota,
			values(1024, 200000, -1, -1)},
		"an init container that asks for more": {with(podOf("u", container(half, half)), func(s *v1.PodSpec) {
			s.InitContainers = []v1.Container{container(one, one)}
		}), quota, values(1024, 100000, 128<<20, -1)},
		"an init container without limits": {with(podOf("u", container(half, half)), func(s *v1.PodSpec) {
			s.InitContainers = []v1.Container{container(nil, nil)}
		}), quota, values(512, -1, -1, -1)},
		"a sidecar counts beside": {with(podOf("u", container(half, half)), func(s *v1.PodSpec) {
			s.InitContainers = []v1.Container{sidecar(half, one)}
		}), quota, values(1024, 150000, 192<<20, -1)},
		"overhead is added to requests and limits": {with(podOf("u", container(half, half)), func(s *v1.PodSpec) { s.Overhead = half }), quota,
			values(1024, 100000, 128<<20, -1)},
		"the pod's own resources": {with(podOf("u", container(nil, nil), container(half, nil)), func(s *v1.PodSpec) {
			s.Resources = &v1.ResourceRequirements{Requests: one, Limits: list("cpu", "2", "memory", "1Gi")}
		}), quota, values(1024, 200000, 1<<30, -1)},
		"the pod's own CPU limit alone": {with(podOf("u", container(half, nil)), func(s *v1.PodSpec) {
			s.Resources = &v1.ResourceRequirements{Limits: list("cpu", "2")}
		}), quota, values(512, 200000, -1, -1)},
		"a limit too small for the kernel": {podOf("u", container(nil, list("cpu", "1m"))), quota, values(2, 1000, -1, -1)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ForPod(tt.pod, tt.set); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %s\nwant %s", text(got), text(tt.want))
			}
		})
	}
}

func TestPeriodScalesTheQuota(t *testing.T) {
	got := ForPod(podOf("u", container(nil, list("cpu", "500m"))), PodSettings{CFSQuota: true, CFSPeriod: 20 * time.Millisecond})
	if *got.CPUPeriod != 20000 || *got.CPUQuota != 10000 {
		t.Errorf("quota %d of %d µs", *got.CPUQuota, *got.CPUPeriod)
	}
}

func TestHugePagesOfAPod(t *testing.T) {
	huge := list("cpu", "1", "memory", "1Gi", "hugepages-2Mi", "4Mi", "hugepages-1Gi", "1Gi")
	got := ForPod(podOf("u", container(huge, huge), container(list("hugepages-2Mi", "2Mi"), list("hugepages-2Mi", "2Mi"))), PodSettings{})
	if want := map[int64]int64{2 << 20: 6 << 20, 1 << 30: 1 << 30}; !reflect.DeepEqual(got.HugePages, want) {
		t.Errorf("got %v, want %v", got.HugePages, want)
	}
}

// The machine on which this test was written has no cgroup v2: the values are
// checked, not what the kernel does with them.
func TestMemoryThatIsKeptForPods(t *testing.T) {
	keep := PodSettings{ReserveMemory: true}
	for name, tt := range map[string]struct {
		pod  *v1.Pod
		set  PodSettings
		want map[string]string
	}{
		"guaranteed, hard": {podOf("u", container(list("cpu", "1", "memory", "1Mi"), list("cpu", "1", "memory", "1Mi"))), keep, map[string]string{"memory.min": "1048576"}},
		"burstable, soft":  {podOf("u", container(list("memory", "1Mi"), nil)), keep, map[string]string{"memory.low": "1048576"}},
		"best effort":      {podOf("u", container(nil, nil)), keep, nil},
		"not asked for":    {podOf("u", container(list("memory", "1Mi"), nil)), PodSettings{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ForPod(tt.pod, tt.set).Unified; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// text shows values without their pointers.
func text(v Values) map[string]any {
	m := map[string]any{"huge pages": v.HugePages, "unified": v.Unified}
	for name, p := range map[string]*int64{"shares": v.CPUShares, "quota": v.CPUQuota, "period": v.CPUPeriod, "memory": v.Memory, "pids": v.PIDs} {
		if p != nil {
			m[name] = *p
		}
	}
	return m
}

func TestPodsSwapIsLimitedWhereTheKernelCan(t *testing.T) {
	pod := podOf("p", container(list("memory", "1Mi"), nil))
	if v := ForPod(pod, PodSettings{}); v.Unified != nil {
		t.Errorf("not said: %v", v.Unified)
	}
	v := ForPod(pod, PodSettings{ReserveMemory: true, Swap: func(*v1.Pod) int64 { return 4096 }})
	if v.Unified["memory.swap.max"] != "4096" || v.Unified["memory.low"] != "1048576" {
		t.Errorf("%v", v.Unified)
	}
}

package criconfig

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func list(cpu, memory string) v1.ResourceList {
	l := v1.ResourceList{}
	if cpu != "" {
		l[v1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[v1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func TestCPU(t *testing.T) {
	for name, tt := range map[string]struct {
		requests, limits      v1.ResourceList
		node                  NodeConfig
		shares, quota, period int64
	}{
		"nothing":                             {shares: 2, period: 100000},
		"request":                             {requests: list("250m", ""), shares: 256, period: 100000},
		"a tiny request":                      {requests: list("1m", ""), shares: 2, period: 100000},
		"a huge request":                      {requests: list("1000", ""), shares: 262144, period: 100000},
		"a limit is a request too":            {limits: list("500m", ""), shares: 512, quota: 50000, period: 100000},
		"a request of zero stays zero":        {requests: list("0", ""), limits: list("500m", ""), shares: 2, quota: 50000, period: 100000},
		"the least quota the kernel takes":    {limits: list("1m", ""), shares: 2, quota: 1000, period: 100000},
		"another period":                      {limits: list("500m", ""), node: NodeConfig{CFSQuotaPeriod: 10 * time.Millisecond}, shares: 512, quota: 5000, period: 10000},
		"quota switched off":                  {limits: list("500m", ""), node: NodeConfig{DisableCFSQuota: true}, shares: 512},
		"request below the limit":             {requests: list("100m", ""), limits: list("2", ""), shares: 102, quota: 200000, period: 100000},
		"a fraction of a milliCPU rounded up": {requests: list("100u", ""), shares: 2, period: 100000},
	} {
		t.Run(name, func(t *testing.T) {
			r := linuxResources(tt.requests, tt.limits, tt.node)
			if r.CpuShares != tt.shares || r.CpuQuota != tt.quota || r.CpuPeriod != tt.period {
				t.Errorf("shares %d quota %d period %d, want %d %d %d", r.CpuShares, r.CpuQuota, r.CpuPeriod, tt.shares, tt.quota, tt.period)
			}
		})
	}
}

func TestCPUsOfContainers(t *testing.T) {
	limited := v1.ResourceRequirements{Limits: list("1", "64Mi")}
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "own", Resources: limited}, {Name: "shares", Resources: limited}}}}
	p.UID = "u"
	n := NodeConfig{CPUs: func(pod types.UID, container string) (string, bool) {
		if pod == "u" && container == "own" {
			return "3", true
		}
		return "0-2", false
	}}
	for i, want := range []struct {
		cpus  string
		quota int64
	}{{"3", -1}, {"0-2", 100000}} {
		r := Resources(p, &p.Spec.Containers[i], n)
		if r.CpusetCpus != want.cpus || r.CpuQuota != want.quota || r.CpuShares != 1024 {
			t.Errorf("container %s: CPUs %q, quota %d, shares %d; want %q, %d", p.Spec.Containers[i].Name, r.CpusetCpus, r.CpuQuota, r.CpuShares, want.cpus, want.quota)
		}
	}
	n.DisableCFSQuota = true
	if r := Resources(p, &p.Spec.Containers[0], n); r.CpuQuota != 0 || r.CpuPeriod != 0 {
		t.Errorf("without quotas: %d of %d", r.CpuQuota, r.CpuPeriod)
	}
	n.DisableCFSQuota = false
	if !n.ExclusiveCPUs(p) {
		t.Error("the pod has a container with CPUs to itself")
	}
	p.UID = "other"
	if n.ExclusiveCPUs(p) || (NodeConfig{}).ExclusiveCPUs(p) {
		t.Error("the pod has no container with CPUs to itself")
	}
}

func TestMemoryLimitsAreThePodsWhereTheContainerHasNone(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Resources: &v1.ResourceRequirements{Limits: list("2", "1Gi")}}}
	for name, tt := range map[string]struct {
		pod    *v1.Pod
		limits v1.ResourceList
		memory int64
	}{
		"no limit":                        {&v1.Pod{}, nil, 0},
		"the pod's limit bounds":          {pod, nil, 1 << 30},
		"the container's own comes first": {pod, list("", "1Mi"), 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			c := &v1.Container{Resources: v1.ResourceRequirements{Limits: tt.limits}}
			if r := Resources(tt.pod, c, NodeConfig{}); r.MemoryLimitInBytes != tt.memory || r.MemorySwapLimitInBytes != 0 {
				t.Errorf("memory %d, with swap %d; want %d, 0", r.MemoryLimitInBytes, r.MemorySwapLimitInBytes, tt.memory)
			}
		})
	}
}

func TestARuntimeThatLimitsNoHugePagesIsNotToldTo(t *testing.T) {
	c := &v1.Container{Resources: v1.ResourceRequirements{Limits: v1.ResourceList{"hugepages-2Mi": resource.MustParse("4Mi")}}}
	if got := Resources(&v1.Pod{}, c, NodeConfig{}).HugepageLimits; len(got) != 1 || got[0].Limit != 4<<20 {
		t.Errorf("a runtime that does: %v", got)
	}
	if got := Resources(&v1.Pod{}, c, NodeConfig{NoHugePageLimits: true}).HugepageLimits; got != nil {
		t.Errorf("one that does not: %v", got)
	}
}

func TestPageSizeName(t *testing.T) {
	for bytes, want := range map[int64]string{64 << 10: "64KB", 2 << 20: "2MB", 32 << 20: "32MB", 1 << 30: "1GB", 16 << 30: "16GB"} {
		if got := pods.PageSizeName(bytes); got != want {
			t.Errorf("PageSizeName(%d) = %s, want %s", bytes, got, want)
		}
	}
}

func TestQOSClass(t *testing.T) {
	c := func(requests, limits v1.ResourceList) v1.Container {
		return v1.Container{Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
	}
	full := list("1", "1Gi")
	for name, tt := range map[string]struct {
		spec v1.PodSpec
		want v1.PodQOSClass
	}{
		"nothing":                            {v1.PodSpec{Containers: []v1.Container{{}}}, v1.PodQOSBestEffort},
		"only zeros":                         {v1.PodSpec{Containers: []v1.Container{c(list("0", "0"), nil)}}, v1.PodQOSBestEffort},
		"only other resources":               {v1.PodSpec{Containers: []v1.Container{c(nil, v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("1Gi")})}}, v1.PodQOSBestEffort},
		"equal in every container":           {v1.PodSpec{Containers: []v1.Container{c(full, full), c(full, full)}}, v1.PodQOSGuaranteed},
		"limits alone are requests":          {v1.PodSpec{Containers: []v1.Container{c(nil, full)}}, v1.PodQOSGuaranteed},
		"requests alone":                     {v1.PodSpec{Containers: []v1.Container{c(full, nil)}}, v1.PodQOSBurstable},
		"one container without":              {v1.PodSpec{Containers: []v1.Container{c(full, full), {}}}, v1.PodQOSBurstable},
		"one init container without":         {v1.PodSpec{Containers: []v1.Container{c(full, full)}, InitContainers: []v1.Container{{}}}, v1.PodQOSBurstable},
		"only memory":                        {v1.PodSpec{Containers: []v1.Container{c(list("", "1Gi"), list("", "1Gi"))}}, v1.PodQOSBurstable},
		"request below limit":                {v1.PodSpec{Containers: []v1.Container{c(list("1", "1Mi"), full)}}, v1.PodQOSBurstable},
		"pod-level equal":                    {v1.PodSpec{Containers: []v1.Container{{}}, Resources: &v1.ResourceRequirements{Requests: full, Limits: full}}, v1.PodQOSGuaranteed},
		"pod-level only requests":            {v1.PodSpec{Containers: []v1.Container{c(full, full)}, Resources: &v1.ResourceRequirements{Requests: full}}, v1.PodQOSBurstable},
		"pod-level without cpu and memory":   {v1.PodSpec{Containers: []v1.Container{c(full, full)}, Resources: &v1.ResourceRequirements{}}, v1.PodQOSGuaranteed},
		"no containers (cannot be, but ask)": {v1.PodSpec{}, v1.PodQOSBestEffort},
	} {
		if got := pods.QOSClass(&v1.Pod{Spec: tt.spec}); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestOOMScoreAdj(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	c := func(name, memory string) v1.Container {
		return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: list("", memory)}}
	}
	sidecar := func(memory string) v1.Container {
		s := c("side", memory)
		s.RestartPolicy = &always
		return s
	}
	high, low := int32(2000001000), int32(1000)
	full := v1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("1", "1Gi")}
	static := map[string]string{"kubernetes.io/config.source": "file"}
	for name, tt := range map[string]struct {
		spec        v1.PodSpec
		annotations map[string]string
		container   string
		want        int
	}{
		"BestEffort":                               {spec: v1.PodSpec{Containers: []v1.Container{c("a", "")}}, want: 1000},
		"Guaranteed":                               {spec: v1.PodSpec{Containers: []v1.Container{{Name: "a", Resources: full}}}, want: -997},
		"node-critical by priority":                {spec: v1.PodSpec{PriorityClassName: "system-node-critical", Priority: &high, Containers: []v1.Container{c("a", "")}}, want: -997},
		"node-critical by being static":            {spec: v1.PodSpec{PriorityClassName: "system-node-critical", Containers: []v1.Container{c("a", "")}}, annotations: static, want: -997},
		"the class's name alone is not enough":     {spec: v1.PodSpec{PriorityClassName: "system-node-critical", Priority: &low, Containers: []v1.Container{c("a", "")}}, want: 1000},
		"cluster-critical is not node-critical":    {spec: v1.PodSpec{PriorityClassName: "system-cluster-critical", Priority: &high, Containers: []v1.Container{c("a", "")}}, want: 1000},
		"Burstable by share of the node":           {spec: v1.PodSpec{Containers: []v1.Container{c("a", "2Gi")}}, want: 750},
		"Burstable without a request of its own":   {spec: v1.PodSpec{Containers: []v1.Container{c("a", ""), c("b", "2Gi")}}, want: 999},
		"Burstable with a tiny request":            {spec: v1.PodSpec{Containers: []v1.Container{c("a", "1")}}, want: 999},
		"Burstable with all of the node":           {spec: v1.PodSpec{Containers: []v1.Container{c("a", "8Gi")}}, want: 3},
		"Burstable with more than the node":        {spec: v1.PodSpec{Containers: []v1.Container{c("a", "80Gi")}}, want: 3},
		"a sidecar scores no higher than the main": {spec: v1.PodSpec{Containers: []v1.Container{c("a", "2Gi"), c("b", "4Gi")}, InitContainers: []v1.Container{sidecar("")}}, container: "side", want: 750},
		"a large sidecar keeps its own score":      {spec: v1.PodSpec{Containers: []v1.Container{c("a", "2Gi")}, InitContainers: []v1.Container{sidecar("4Gi")}}, container: "side", want: 500},
		"an init container is no sidecar":          {spec: v1.PodSpec{Containers: []v1.Container{c("a", "2Gi")}, InitContainers: []v1.Container{c("init", "")}}, container: "init", want: 999},
		"a pod-level request is shared out":        {spec: v1.PodSpec{Containers: []v1.Container{c("a", "1Gi"), c("b", "")}, Resources: &v1.ResourceRequirements{Requests: list("", "3Gi")}}, want: 750},
		"init containers have a share, too":        {spec: v1.PodSpec{Containers: []v1.Container{c("a", "1Gi"), c("b", "")}, InitContainers: []v1.Container{c("i", ""), c("j", "")}, Resources: &v1.ResourceRequirements{Requests: list("", "5Gi")}}, want: 750},
		"a sidecar of a pod with its own request":  {spec: v1.PodSpec{Containers: []v1.Container{c("a", "1Gi")}, InitContainers: []v1.Container{sidecar("")}, Resources: &v1.ResourceRequirements{Requests: list("", "3Gi")}}, container: "side", want: 750},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: tt.spec}
			pod.Annotations = tt.annotations
			container := &pod.Spec.Containers[0]
			if tt.container != "" {
				container = &pod.Spec.InitContainers[0]
			}
			if got := OOMScoreAdj(pod, container, 8<<30); got != tt.want {
				t.Errorf("oom_score_adj = %d, want %d", got, tt.want)
			}
		})
	}
	if got := OOMScoreAdj(&v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{c("a", "1Gi")}}}, &v1.Container{}, 0); got != 999 {
		t.Errorf("without knowing the node's memory: %d, want 999", got)
	}
}

func TestMemoryOfCertainNodes(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "own"}, {Name: "shares"}}}}
	p.UID = "p"
	n := NodeConfig{MemoryNodes: func(pod types.UID, container string) string {
		return map[string]string{"p/own": "0-1"}[string(pod)+"/"+container]
	}}
	for i, want := range []string{"0-1", ""} {
		if got := Resources(p, &p.Spec.Containers[i], n).CpusetMems; got != want {
			t.Errorf("container %d: NUMA nodes %q, want %q", i, got, want)
		}
	}
}

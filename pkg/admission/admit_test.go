package admission

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
)

func amounts(cpu, memory string) v1.ResourceList {
	return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
}

func requesting(uid, cpu, memory string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, Spec: v1.PodSpec{Containers: []v1.Container{{
		Resources: v1.ResourceRequirements{Requests: amounts(cpu, memory)}}}}}
}

func listening(uid string, ports ...v1.ContainerPort) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, Spec: v1.PodSpec{Containers: []v1.Container{{Ports: ports}}}}
}

func spec(s v1.PodSpec) *v1.Pod { return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "new"}, Spec: s} }

func hostNet(p *v1.Pod) *v1.Pod {
	p.Spec.HostNetwork = true
	return p
}

func phase(p *v1.Pod, phase v1.PodPhase) *v1.Pod {
	p.Status.Phase = phase
	return p
}

func sidecar(p *v1.Pod) *v1.Pod {
	always := v1.ContainerRestartPolicyAlways
	p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil
	p.Spec.InitContainers[0].RestartPolicy = &always
	return p
}

func initOnly(p *v1.Pod) *v1.Pod {
	p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil
	return p
}

func TestNobodyIsAdmittedWhileTheMachineShutsDown(t *testing.T) {
	pod := &v1.Pod{}
	if r := Admit(pod, nil, Node{}); r != nil {
		t.Fatalf("rejected before: %v", r)
	}
	if r := Admit(pod, nil, Node{ShuttingDown: true}); r == nil || r.Reason != "NodeShutdown" || !r.Shutdown {
		t.Errorf("rejected with %v, want NodeShutdown", r)
	}
}

func TestAPodThatNeedsWhatTheNodeDoesNotDeclareIsNotAdmitted(t *testing.T) {
	needs := spec(v1.PodSpec{Containers: []v1.Container{{VolumeMounts: []v1.VolumeMount{{BindMountOptions: []string{"noexec"}}}}}})
	node := Node{Release: "v1.37.2", Allocatable: v1.ResourceList{v1.ResourcePods: resource.MustParse("3")}}
	if r := Admit(spec(v1.PodSpec{}), nil, node); r != nil {
		t.Errorf("a pod that needs nothing: %v", r)
	}
	const why = "Pod requires node features that are not available: VolumeBindMountOptions"
	if r := Admit(needs, nil, node); r == nil || r.Reason != "PodFeatureUnsupported" || r.Message != why {
		t.Errorf("rejected with %v, want %s", r, why)
	}
	node.Release = ""
	if r := Admit(needs, nil, node); r == nil || r.Reason != reasonUnsupported {
		t.Errorf("where nothing is declared, the field is refused, not %v", r)
	}
}

func TestAdmit(t *testing.T) {
	testNode := Node{
		Name:   "n",
		Labels: map[string]string{"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "zone": "a"},
		Allocatable: v1.ResourceList{v1.ResourcePods: resource.MustParse("3"), v1.ResourceCPU: resource.MustParse("2"),
			v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceEphemeralStorage: resource.MustParse("10Gi")},
		AllowedUnsafeSysctls: []string{"net.core.somaxconn", "kernel.msg*", "vm.swappiness"},
		Taints:               []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoExecute}, {Key: "other", Effect: v1.TaintEffectNoSchedule}},
	}
	tolerates := []v1.Toleration{{Key: "k", Operator: v1.TolerationOpExists}}
	sysctl := func(name string, s v1.PodSpec) *v1.Pod {
		s.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: name}}}
		return spec(s)
	}
	confined := &v1.SecurityContext{AppArmorProfile: &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}}
	const noPorts = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	const noMatch = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"

	for name, tt := range map[string]struct {
		pod             *v1.Pod
		others          []*v1.Pod
		node            *Node
		reason, message string
	}{
		"an ordinary pod": {pod: requesting("new", "500m", "64Mi"), others: []*v1.Pod{requesting("a", "1", "64Mi")}},

		"fits exactly":                        {pod: requesting("new", "1", "1Mi"), others: []*v1.Pod{requesting("a", "1", "1Mi")}},
		"too much cpu":                        {pod: requesting("new", "1001m", "1Mi"), others: []*v1.Pod{requesting("a", "1", "1Mi")}, reason: "OutOfcpu", message: "Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000"},
		"too much memory":                     {pod: requesting("new", "1", "1Gi"), others: []*v1.Pod{requesting("a", "1", "1Mi")}, reason: "OutOfmemory", message: "Node didn't have enough resource: memory, requested: 1073741824, used: 1048576, capacity: 1073741824"},
		"too many pods":                       {pod: spec(v1.PodSpec{}), others: []*v1.Pod{requesting("a", "0", "0"), requesting("b", "0", "0"), requesting("c", "0", "0")}, reason: "OutOfpods", message: "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		"the pod itself does not count":       {pod: requesting("new", "2", "1Mi"), others: []*v1.Pod{requesting("new", "2", "1Mi")}},
		"a pod that ends still counts":        {pod: requesting("new", "2", "1Mi"), others: []*v1.Pod{phase(requesting("a", "2", "1Mi"), v1.PodFailed)}, reason: "OutOfcpu", message: "Node didn't have enough resource: cpu, requested: 2000, used: 2000, capacity: 2000"},
		"asking for nothing fits a full node": {pod: spec(v1.PodSpec{}), others: []*v1.Pod{requesting("a", "9", "9Gi")}},
		"overhead counts": {pod: spec(v1.PodSpec{Overhead: amounts("1m", "0"), Containers: []v1.Container{{Resources: v1.ResourceRequirements{Requests: amounts("2", "0")}}}}),
			reason: "OutOfcpu", message: "Node didn't have enough resource: cpu, requested: 2001, used: 0, capacity: 2000"},
		"a node of which nothing is known": {pod: requesting("new", "999", "1Ti"), node: &Node{Name: "n"}},
		"a resource the node does not offer": {pod: requesting("new", "1", "1"), node: &Node{Name: "n", Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}},
			reason: "OutOfmemory", message: "Node didn't have enough resource: memory, requested: 1, used: 0, capacity: 0"},

		"same host port":                      {pod: listening("new", v1.ContainerPort{HostPort: 80}), others: []*v1.Pod{listening("a", v1.ContainerPort{HostPort: 80, Protocol: v1.ProtocolTCP})}, reason: "NodePorts", message: noPorts},
		"same port of another protocol":       {pod: listening("new", v1.ContainerPort{HostPort: 80}), others: []*v1.Pod{listening("a", v1.ContainerPort{HostPort: 80, Protocol: v1.ProtocolUDP})}},
		"same port on other addresses":        {pod: listening("new", v1.ContainerPort{HostPort: 80, HostIP: "127.0.0.1"}), others: []*v1.Pod{listening("a", v1.ContainerPort{HostPort: 80, HostIP: "10.0.0.1"})}},
		"same port, one on all addresses":     {pod: listening("new", v1.ContainerPort{HostPort: 80, HostIP: "127.0.0.1"}), others: []*v1.Pod{listening("a", v1.ContainerPort{HostPort: 80})}, reason: "NodePorts", message: noPorts},
		"same container port only":            {pod: listening("new", v1.ContainerPort{ContainerPort: 80}), others: []*v1.Pod{listening("a", v1.ContainerPort{ContainerPort: 80, HostPort: 81})}},
		"host network takes container ports":  {pod: hostNet(listening("new", v1.ContainerPort{ContainerPort: 80})), others: []*v1.Pod{listening("a", v1.ContainerPort{ContainerPort: 8080, HostPort: 80})}, reason: "NodePorts", message: noPorts},
		"a sidecar's port is taken":           {pod: listening("new", v1.ContainerPort{HostPort: 80}), others: []*v1.Pod{sidecar(listening("a", v1.ContainerPort{HostPort: 80}))}, reason: "NodePorts", message: noPorts},
		"an init container's is not":          {pod: listening("new", v1.ContainerPort{HostPort: 80}), others: []*v1.Pod{initOnly(listening("a", v1.ContainerPort{HostPort: 80}))}},
		"the port of a pod that ends":         {pod: listening("new", v1.ContainerPort{HostPort: 80}), others: []*v1.Pod{phase(listening("a", v1.ContainerPort{HostPort: 80}), v1.PodFailed)}, reason: "NodePorts", message: noPorts},
		"the port of the pod's earlier state": {pod: listening("new", v1.ContainerPort{HostPort: 80}), others: []*v1.Pod{listening("new", v1.ContainerPort{HostPort: 80})}},

		"node selector matches":        {pod: spec(v1.PodSpec{NodeSelector: map[string]string{"kubernetes.io/os": "linux", "zone": "a"}})},
		"node selector does not match": {pod: spec(v1.PodSpec{NodeSelector: map[string]string{"zone": "b"}}), reason: "NodeAffinity", message: noMatch},
		"another architecture":         {pod: spec(v1.PodSpec{NodeSelector: map[string]string{"kubernetes.io/arch": "arm64"}}), reason: "NodeAffinity", message: noMatch},
		"required affinity": {pod: spec(v1.PodSpec{Affinity: &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
			NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{{Key: "zone", Operator: v1.NodeSelectorOpNotIn, Values: []string{"a"}}}}}}}}}), reason: "NodeAffinity", message: noMatch},
		"a node with another system is meant": {pod: spec(v1.PodSpec{NodeSelector: map[string]string{"kubernetes.io/os": "windows"}}), reason: "NodeAffinity", message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		"another operating system by label":   {pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"kubernetes.io/os": "windows"}}}, reason: "PodOSSelectorNodeLabelDoesNotMatch", message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"},
		"another operating system by field":   {pod: spec(v1.PodSpec{OS: &v1.PodOS{Name: v1.Windows}}), reason: "PodOSNotSupported", message: "Failed to admit pod as the OS field doesn't match node OS"},
		"linux by field":                      {pod: spec(v1.PodSpec{OS: &v1.PodOS{Name: v1.Linux}})},
		"another node":                        {pod: spec(v1.PodSpec{NodeName: "m"}), reason: "NodeName", message: "Predicate NodeName failed: node(s) didn't match the requested node name"},
		"this node":                           {pod: spec(v1.PodSpec{NodeName: "n"})},

		"the pod's own resources count":           {pod: spec(v1.PodSpec{Containers: []v1.Container{{}}, Resources: &v1.ResourceRequirements{Requests: amounts("3", "1Mi")}}), node: &Node{Allocatable: testNode.Allocatable, Fields: podfields.Features{Cgroups: true}}, reason: "OutOfcpu", message: "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"},
		"the pod's own resources without cgroups": {pod: spec(v1.PodSpec{Resources: &v1.ResourceRequirements{Requests: amounts("1", "1Mi")}}), reason: "UnsupportedPodFields", message: "this node cannot do what the pod asks for: spec.resources: resources of the pod as a whole are held by its cgroup, and this node makes none (cgroupsPerQOS)"},
		"huge pages that nothing limits":          {pod: spec(v1.PodSpec{Containers: []v1.Container{{Resources: v1.ResourceRequirements{Requests: v1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}}}}}), reason: "UnsupportedPodFields", message: "this node cannot do what the pod asks for: hugepages-2Mi: there is no cgroup of the pod with the kernel's hugetlb controller to limit them"},
		"huge pages that the node does not have":  {pod: spec(v1.PodSpec{Containers: []v1.Container{{Resources: v1.ResourceRequirements{Requests: v1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}}}}}), node: &Node{Allocatable: testNode.Allocatable, HugePages: true}, reason: "OutOfhugepages-2Mi", message: "Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"},

		"a safe sysctl":                      {pod: sysctl("kernel.shm_rmid_forced", v1.PodSpec{})},
		"a safe sysctl in its slashed form":  {pod: sysctl("net/ipv4/tcp_syncookies", v1.PodSpec{})},
		"an unsafe sysctl":                   {pod: sysctl("net.ipv4.tcp_max_syn_backlog", v1.PodSpec{}), reason: "SysctlForbidden", message: `forbidden sysctl: "net.ipv4.tcp_max_syn_backlog" not allowlisted`},
		"an allowed unsafe sysctl":           {pod: sysctl("net.core.somaxconn", v1.PodSpec{})},
		"an allowed pattern":                 {pod: sysctl("kernel.msgmax", v1.PodSpec{})},
		"beside an allowed name":             {pod: sysctl("net.core.somaxconn2", v1.PodSpec{}), reason: "SysctlForbidden", message: `forbidden sysctl: "net.core.somaxconn2" not allowlisted`},
		"a sysctl of the node's network":     {pod: sysctl("net.ipv4.tcp_syncookies", v1.PodSpec{HostNetwork: true}), reason: "SysctlForbidden", message: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		"a sysctl of the node's IPC":         {pod: sysctl("kernel.msgmax", v1.PodSpec{HostIPC: true}), reason: "SysctlForbidden", message: `forbidden sysctl: "kernel.msgmax" not allowed with host IPC enabled`},
		"a sysctl of the pod's IPC":          {pod: sysctl("kernel.msgmax", v1.PodSpec{HostNetwork: true})},
		"a sysctl of the node, even allowed": {pod: sysctl("vm.swappiness", v1.PodSpec{}), reason: "SysctlForbidden", message: `forbidden sysctl: "vm.swappiness" not allowlisted`},

		"AppArmor where there is none":        {pod: spec(v1.PodSpec{Containers: []v1.Container{{SecurityContext: confined}}}), reason: "AppArmor", message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		"AppArmor where it is enforced":       {pod: spec(v1.PodSpec{Containers: []v1.Container{{SecurityContext: confined}}}), node: &Node{AppArmor: true}},
		"no AppArmor asked for in plain text": {pod: spec(v1.PodSpec{SecurityContext: &v1.PodSecurityContext{AppArmorProfile: &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}}})},

		"a field that is refused": {pod: spec(v1.PodSpec{ResourceClaims: []v1.PodResourceClaim{{}}, ImagePullSecrets: nil}),
			reason: "UnsupportedPodFields", message: "this node cannot do what the pod asks for: spec.resourceClaims: dynamic resource allocation is not implemented yet"},
	} {
		t.Run(name, func(t *testing.T) {
			n := testNode
			if tt.node != nil {
				n = *tt.node
			}
			tt.pod.Spec.Tolerations = tolerates
			got := Admit(tt.pod, tt.others, n)
			switch {
			case got == nil && tt.reason != "":
				t.Errorf("admitted, want %s", tt.reason)
			case got != nil && (got.Reason != tt.reason || got.Message != tt.message):
				t.Errorf("rejected with %s: %s\nwant          %s: %s", got.Reason, got.Message, tt.reason, tt.message)
			}
		})
	}

	t.Run("taints", func(t *testing.T) {
		pod := spec(v1.PodSpec{})
		if got := Admit(pod, nil, testNode); got == nil || got.Reason != "TaintToleration" {
			t.Errorf("not tolerated: %v", got)
		}
		pod.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
		if got := Admit(pod, nil, testNode); got != nil {
			t.Errorf("a static pod: %v", got)
		}
	})
}

func TestRejectionsThatANewerNodeObjectMayOverturnSaySo(t *testing.T) {
	picky := spec(v1.PodSpec{NodeSelector: map[string]string{"new": "label"}})
	if r := Admit(picky, nil, Node{}); r == nil || !r.OfNode {
		t.Errorf("a label: %+v", r)
	}
	if r := Admit(spec(v1.PodSpec{}), nil, Node{Taints: []v1.Taint{{Key: "t", Effect: v1.TaintEffectNoExecute}}}); r == nil || !r.OfNode {
		t.Errorf("a taint: %+v", r)
	}
	picky.Spec.NodeName = "elsewhere"
	picky.Spec.NodeSelector = nil
	if r := Admit(picky, nil, Node{}); r == nil || r.OfNode {
		t.Errorf("a node's name: %+v", r)
	}
}

func TestStaticPodsReferToNothingOfTheAPIServer(t *testing.T) {
	cluster := Node{Fields: podfields.Features{Objects: true, Tokens: true}}
	pod := spec(v1.PodSpec{ImagePullSecrets: []v1.LocalObjectReference{{Name: "s"}}})
	if r := Admit(pod, nil, cluster); r != nil {
		t.Errorf("a pod of the API server: %v", r)
	}
	if r := Admit(pod, nil, Node{}); r == nil {
		t.Error("a standalone node admitted what it cannot do")
	}
	pod.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
	if r := Admit(pod, nil, cluster); r == nil || !strings.Contains(r.Message, "spec.imagePullSecrets: a static pod on a node of a cluster cannot refer to objects of the API server") {
		t.Errorf("a static pod: %v", r)
	}
	if r := Admit(pod, nil, Node{StaticFields: podfields.Features{Objects: true}}); r != nil {
		t.Errorf("a static pod of a standalone node: %v", r)
	}
}

func TestExtendedResourcesThatTheNodeDoesNotHaveAreNotItsBusiness(t *testing.T) {
	node := Node{Name: "n", Allocatable: v1.ResourceList{"example.com/gpu": resource.MustParse("1"), "example.com/none": resource.MustParse("0")}}
	for name, want := range map[v1.ResourceName]string{
		"example.com/gpu": "", "example.com/cluster": "", "example.com/none": "OutOfexample.com/none", v1.ResourceCPU: "OutOfcpu",
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{Tolerations: []v1.Toleration{{Operator: v1.TolerationOpExists}}, Containers: []v1.Container{{Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{name: resource.MustParse("1")}, Limits: v1.ResourceList{name: resource.MustParse("1")},
		}}}}}
		got := ""
		if r := Admit(pod, nil, node); r != nil {
			got = r.Reason
		}
		if got != want {
			t.Errorf("%s: rejected %q, want %q", name, got, want)
		}
	}
}

package nodeobject

import (
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func resources(pairs ...string) v1.ResourceList {
	l := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func testMachine() Machine {
	return Machine{
		Capacity: resources("cpu", "2", "memory", "8Gi", "pods", "110"), Allocatable: resources("cpu", "1", "memory", "7Gi", "pods", "110"),
		Info: v1.NodeSystemInfo{BootID: "boot-1", OperatingSystem: "linux", Architecture: "amd64"}, NoLocalStorage: true,
	}
}

func conditionOfType(s v1.NodeStatus, t v1.NodeConditionType) v1.NodeCondition {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c
		}
	}
	return v1.NodeCondition{}
}

func TestStatusOfANewNode(t *testing.T) {
	in := Input{
		Machine: testMachine(), Addresses: Addresses([]string{"192.0.2.1", "2001:db8::1"}, "n1"), Port: 10250, Now: noon.Add(300 * time.Millisecond),
		Images:   []*cri.Image{{Id: "a", Size: 5, RepoTags: []string{"a:1"}}},
		Features: &cri.RuntimeFeatures{SupplementalGroupsPolicy: true},
		Handlers: []*cri.RuntimeHandler{{Name: "z"}, {Name: "", Features: &cri.RuntimeHandlerFeatures{UserNamespaces: true}}},
	}
	in.MaxImages = -1
	in.Versions.Kubelet, in.Versions.Runtime = "v1.37.2", "docker://27.0"
	s := Status(in)
	var types []v1.NodeConditionType
	for _, c := range s.Conditions {
		types = append(types, c.Type)
		if !c.LastTransitionTime.Time.Equal(noon) || !c.LastHeartbeatTime.Time.Equal(noon) {
			t.Errorf("%s: times %v and %v, want %v", c.Type, c.LastTransitionTime, c.LastHeartbeatTime, noon)
		}
	}
	if want := []v1.NodeConditionType{"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"}; !slices.Equal(types, want) {
		t.Errorf("conditions = %v, want %v", types, want)
	}
	if c := conditionOfType(s, v1.NodeReady); c.Status != v1.ConditionTrue || c.Reason != "KubeletReady" || c.Message != "kubelet is posting ready status" {
		t.Errorf("Ready = %+v", c)
	}
	if c := conditionOfType(s, v1.NodeDiskPressure); c.Status != v1.ConditionFalse || c.Reason != "KubeletHasNoDiskPressure" {
		t.Errorf("DiskPressure = %+v", c)
	}
	want := []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}, {Type: v1.NodeInternalIP, Address: "2001:db8::1"}, {Type: v1.NodeHostName, Address: "n1"}}
	if !slices.Equal(s.Addresses, want) {
		t.Errorf("addresses = %v, want %v", s.Addresses, want)
	}
	if s.NodeInfo.KubeletVersion != "v1.37.2" || s.NodeInfo.ContainerRuntimeVersion != "docker://27.0" || s.NodeInfo.BootID != "boot-1" || s.DaemonEndpoints.KubeletEndpoint.Port != 10250 {
		t.Errorf("info = %+v, port %d", s.NodeInfo, s.DaemonEndpoints.KubeletEndpoint.Port)
	}
	if len(s.RuntimeHandlers) != 2 || s.RuntimeHandlers[0].Name != "" || !*s.RuntimeHandlers[0].Features.UserNamespaces {
		t.Errorf("handlers = %+v, want them in order", s.RuntimeHandlers)
	}
	if s.Features == nil || !*s.Features.SupplementalGroupsPolicy {
		t.Errorf("features = %+v", s.Features)
	}
}

func TestStatusKeepsWhatIsOfOthersAndWhatIsNotKnown(t *testing.T) {
	old := v1.NodeStatus{
		Capacity:        resources("cpu", "4", "example.com/gpu", "2", "hugepages-2Mi", "4Mi"),
		Allocatable:     resources("cpu", "4", "example.com/gpu", "1"),
		Images:          []v1.ContainerImage{{Names: []string{"kept"}}},
		VolumesInUse:    []v1.UniqueVolumeName{"v"},
		VolumesAttached: []v1.AttachedVolume{{Name: "v"}},
		Conditions: []v1.NodeCondition{
			{Type: "NetworkUnavailable", Status: v1.ConditionFalse, Reason: "RouteCreated", LastHeartbeatTime: metav1.NewTime(noon)},
			{Type: v1.NodeReady, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon)},
			{Type: v1.NodeMemoryPressure, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon)},
		},
	}
	given := *old.DeepCopy()
	now := noon.Add(time.Hour)
	s := Status(Input{Old: old, Machine: testMachine(), Now: now})
	if !equality.Semantic.DeepEqual(old, given) {
		t.Error("Status modified what it was given")
	}
	if !equality.Semantic.DeepEqual(s.Capacity, resources("cpu", "2", "memory", "8Gi", "pods", "110", "example.com/gpu", "2")) {
		t.Errorf("capacity = %v, want ours with the foreign resource, without huge pages that are no more", s.Capacity)
	}
	if q := s.Allocatable["example.com/gpu"]; q.Value() != 2 {
		t.Errorf("allocatable = %v, want all of the foreign resource", s.Allocatable)
	}
	if len(s.Images) != 1 || len(s.VolumesInUse) != 1 || len(s.VolumesAttached) != 1 {
		t.Errorf("images %v, volumes %v and %v: want them kept", s.Images, s.VolumesInUse, s.VolumesAttached)
	}
	if c := conditionOfType(s, "NetworkUnavailable"); c != old.Conditions[0] {
		t.Errorf("foreign condition = %+v, want it untouched", c)
	}
	if c := conditionOfType(s, v1.NodeReady); !c.LastTransitionTime.Time.Equal(noon) || !c.LastHeartbeatTime.Time.Equal(now) {
		t.Errorf("Ready = %+v, want only its heartbeat renewed", c)
	}
	if c := conditionOfType(s, v1.NodeMemoryPressure); c.Status != v1.ConditionFalse || !c.LastTransitionTime.Time.Equal(now) {
		t.Errorf("MemoryPressure = %+v, want a transition now", c)
	}
	if s := Status(Input{Old: old, Machine: testMachine(), Images: []*cri.Image{}, Now: now}); len(s.Images) != 0 {
		t.Errorf("images = %v, want none: it is known that there are none", s.Images)
	}
}

func TestConditionsSayWhy(t *testing.T) {
	tests := []struct {
		name     string
		problems []string
		pressure v1.NodeConditionType
		of       v1.NodeConditionType
		want     v1.NodeCondition
	}{
		{"one problem", []string{"a"}, "", v1.NodeReady, v1.NodeCondition{Status: v1.ConditionFalse, Reason: "KubeletNotReady", Message: "a"}},
		{"two problems", []string{"a", "b"}, "", v1.NodeReady, v1.NodeCondition{Status: v1.ConditionFalse, Reason: "KubeletNotReady", Message: "[a, b]"}},
		{"memory", nil, v1.NodeMemoryPressure, v1.NodeMemoryPressure, v1.NodeCondition{Status: v1.ConditionTrue, Reason: "KubeletHasInsufficientMemory", Message: "kubelet has insufficient memory available"}},
		{"disk", nil, v1.NodeDiskPressure, v1.NodeDiskPressure, v1.NodeCondition{Status: v1.ConditionTrue, Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure"}},
		{"process IDs", nil, v1.NodePIDPressure, v1.NodePIDPressure, v1.NodeCondition{Status: v1.ConditionTrue, Reason: "KubeletHasInsufficientPID", Message: "kubelet has insufficient PID available"}},
		{"pressure leaves it ready", nil, v1.NodeMemoryPressure, v1.NodeReady, v1.NodeCondition{Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Status(Input{Machine: testMachine(), Problems: tt.problems, Pressure: []v1.NodeConditionType{tt.pressure}, Now: noon})
			got := conditionOfType(s, tt.of)
			if got.Status != tt.want.Status || got.Reason != tt.want.Reason || got.Message != tt.want.Message {
				t.Errorf("%s = %+v, want %+v", tt.of, got, tt.want)
			}
		})
	}
}

func TestANodeThatDoesNotKnowWhatItHasIsNotReady(t *testing.T) {
	for message, m := range map[string]Machine{
		"kubelet is posting ready status":                             {Capacity: resources("cpu", "2", "memory", "8Gi", "pods", "110", "ephemeral-storage", "1Gi")},
		"missing node capacity for resources: ephemeral-storage":      {Capacity: resources("cpu", "2", "memory", "8Gi", "pods", "110")},
		"missing node capacity for resources: cpu, memory, pods":      {NoLocalStorage: true},
		"[CSINode, missing node capacity for resources: cpu, memory]": {Capacity: resources("pods", "1"), NoLocalStorage: true},
	} {
		in := Input{Machine: m, Now: noon}
		if strings.Contains(message, "CSINode") {
			in.Problems = []string{"CSINode"}
		}
		if got := conditionOfType(Status(in), v1.NodeReady).Message; got != message {
			t.Errorf("%v: %q, want %q", m.Capacity, got, message)
		}
	}
}

func TestImages(t *testing.T) {
	many := &cri.Image{Id: "many", Size: 9, RepoDigests: []string{"d1", "d2"}, RepoTags: []string{"t1", "t2", "t3", "t4"}}
	small, large := &cri.Image{Id: "b", Size: 1, RepoTags: []string{"small"}}, &cri.Image{Id: "c", Size: 50}
	twin := &cri.Image{Id: "a", Size: 1, RepoTags: []string{"twin"}}
	in := []*cri.Image{small, many, large, twin}
	got := images(in, 50)
	names := func(list []v1.ContainerImage) (out []string) {
		for _, i := range list {
			out = append(out, strings.Join(i.Names, " "))
		}
		return out
	}
	if want := []string{"", "d1 d2 t1 t2 t3", "twin", "small"}; !slices.Equal(names(got), want) {
		t.Errorf("images = %q, want the largest first, of one five names at most: %q", names(got), want)
	}
	if got := images(in, 2); len(got) != 2 || got[0].SizeBytes != 50 {
		t.Errorf("at most two = %+v, want the two largest", got)
	}
	if got := images(in, -1); len(got) != 4 {
		t.Errorf("without a bound = %d images, want 4", len(got))
	}
	if got := images(in, 0); len(got) != 0 {
		t.Errorf("at most none = %d images, want 0", len(got))
	}
	if len(many.RepoTags) != 4 || in[0] != small {
		t.Error("images modified what it was given")
	}
}

func TestChanged(t *testing.T) {
	base := Status(Input{Machine: testMachine(), Now: noon})
	beat := Status(Input{Old: base, Machine: testMachine(), Now: noon.Add(time.Minute)})
	if changed(base, beat) {
		t.Error("only the heartbeat's time differs, and that counted as a change")
	}
	for name, in := range map[string]Input{
		"a problem": {Problems: []string{"x"}}, "an address": {Addresses: Addresses(nil, "n1")}, "the port": {Port: 1},
		"an image": {Images: []*cri.Image{{Id: "a"}}}, "pressure": {Pressure: []v1.NodeConditionType{v1.NodePIDPressure}},
	} {
		in.Old, in.Machine, in.Now, in.MaxImages = base, testMachine(), noon, -1
		if !changed(base, Status(in)) {
			t.Errorf("%s did not count as a change", name)
		}
	}
}

func TestEventsOfAChange(t *testing.T) {
	with := func(boot string, conditions ...v1.NodeCondition) v1.NodeStatus {
		return v1.NodeStatus{NodeInfo: v1.NodeSystemInfo{BootID: boot}, Conditions: conditions}
	}
	is := func(t v1.NodeConditionType, s v1.ConditionStatus) v1.NodeCondition {
		return v1.NodeCondition{Type: t, Status: s}
	}
	tests := []struct {
		name     string
		old, now v1.NodeStatus
		want     []event
	}{
		{"nothing", with("b", is(v1.NodeReady, v1.ConditionTrue)), with("b", is(v1.NodeReady, v1.ConditionTrue)), nil},
		{"ready", with("b", is(v1.NodeReady, v1.ConditionFalse)), with("b", is(v1.NodeReady, v1.ConditionTrue)), []event{{"Normal", "NodeReady", "Node n1 status is now: NodeReady"}}},
		{"no longer ready", with("b", is(v1.NodeReady, v1.ConditionTrue)), with("b", is(v1.NodeReady, v1.ConditionFalse)), []event{{"Normal", "NodeNotReady", "Node n1 status is now: NodeNotReady"}}},
		{"after the controller set Unknown", with("b", is(v1.NodeReady, v1.ConditionUnknown)), with("b", is(v1.NodeReady, v1.ConditionTrue)), []event{{"Normal", "NodeReady", "Node n1 status is now: NodeReady"}}},
		{"disk", with("b", is(v1.NodeDiskPressure, v1.ConditionFalse)), with("b", is(v1.NodeDiskPressure, v1.ConditionTrue)), []event{{"Normal", "NodeHasDiskPressure", "Node n1 status is now: NodeHasDiskPressure"}}},
		{"new", with(""), with("b", is(v1.NodeMemoryPressure, v1.ConditionFalse)), []event{{"Normal", "NodeHasSufficientMemory", "Node n1 status is now: NodeHasSufficientMemory"}}},
		{"new and ready", with(""), with("b", is(v1.NodeReady, v1.ConditionTrue)), []event{{"Normal", "NodeReady", "Node n1 status is now: NodeReady"}}},
		{"new and not ready yet", with(""), with("b", is(v1.NodeReady, v1.ConditionFalse)), nil},
		{"foreign", with("b"), with("b", is("NetworkUnavailable", v1.ConditionTrue)), nil},
		{"rebooted", with("a"), with("b"), []event{{"Warning", "Rebooted", "Node n1 has been rebooted, boot id: b"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := events("n1", tt.old, tt.now); !slices.Equal(got, tt.want) {
				t.Errorf("events = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestResources(t *testing.T) {
	got, err := Resources("systemReserved", map[string]string{"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "2Gi", "pid": "1000"})
	if err != nil || !equality.Semantic.DeepEqual(got, resources("cpu", "500m", "memory", "1Gi", "ephemeral-storage", "2Gi", "pid", "1000")) {
		t.Errorf("Resources() = %v, %v", got, err)
	}
	for _, bad := range []map[string]string{{"cpu": "much"}, {"memory": "-1"}, {"pods": "3"}} {
		if _, err := Resources("kubeReserved", bad); err == nil || !strings.HasPrefix(err.Error(), "kubeReserved: ") {
			t.Errorf("Resources(%v): error %v, want one that names the field", bad, err)
		}
	}
}

func TestExtendedResourcesAreOfPlugInsOrOfOthers(t *testing.T) {
	in := Input{Machine: testMachine(), Now: noon, Old: v1.NodeStatus{
		Capacity: resources("cpu", "2", "example.com/patched", "3", "example.com/gpu", "9"),
		// An operator patches the capacity; what is allocatable follows, and goes with it.
		Allocatable: resources("cpu", "2", "example.com/removed", "1"),
	}}
	in.Devices.Capacity, in.Devices.Allocatable = resources("example.com/gpu", "4"), resources("example.com/gpu", "2")
	own := []string{"cpu", "2", "memory", "8Gi", "pods", "110"}
	s := Status(in)
	if want := resources(append(own, "example.com/patched", "3", "example.com/gpu", "4")...); !equality.Semantic.DeepEqual(s.Capacity, want) {
		t.Errorf("capacity = %v, want %v", s.Capacity, want)
	}
	patched, gpu := s.Allocatable["example.com/patched"], s.Allocatable["example.com/gpu"]
	if _, removed := s.Allocatable["example.com/removed"]; removed || patched.Value() != 3 || gpu.Value() != 2 {
		t.Errorf("allocatable = %v", s.Allocatable)
	}
	in.Reset = true
	s = Status(in)
	patched, gpu = s.Capacity["example.com/patched"], s.Capacity["example.com/gpu"]
	if none := s.Allocatable["example.com/patched"]; patched.Value() != 0 || none.Value() != 0 || gpu.Value() != 4 {
		t.Errorf("on a node that was set up anew: %v of %v", s.Allocatable, s.Capacity)
	}
}

package nodeobject

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/declared"
)

// Input is everything that a node's status is made from.
type Input struct {
	Old       v1.NodeStatus // as the API server has it
	Addresses []v1.NodeAddress
	Machine   Machine
	Devices   struct{ Capacity, Allocatable v1.ResourceList } // by device plug-ins
	// Reset has extended resources that are not the device plug-ins' begin anew, with zero.
	Reset        bool
	Port         int32                  // of the kubelet API; 0: not served
	Images       []*cri.Image           // nil: not known, the old list stays
	MaxImages    int                    // negative: all
	Handlers     []*cri.RuntimeHandler  // of the runtime
	Features     *cri.RuntimeFeatures   // of the runtime
	Pressure     []v1.NodeConditionType // those that hold
	Problems     []string               // why the node is not ready; none: it is ready
	VolumesInUse []v1.UniqueVolumeName  // nil: not known, the old list stays
	Versions     struct{ Kubelet, Runtime string }
	Now          time.Time
}

// Status makes the node's status. Conditions of others stay as they are. It does
// not modify its input.
func Status(in Input) v1.NodeStatus {
	s := *in.Old.DeepCopy()
	s.Addresses = in.Addresses
	s.Capacity, s.Allocatable = extended(in)
	s.NodeInfo = in.Machine.Info
	s.NodeInfo.KubeletVersion, s.NodeInfo.ContainerRuntimeVersion = in.Versions.Kubelet, in.Versions.Runtime
	s.DaemonEndpoints.KubeletEndpoint.Port = in.Port
	if in.Images != nil {
		s.Images = images(in.Images, in.MaxImages)
	}
	s.RuntimeHandlers = handlers(in.Handlers)
	if in.Features != nil {
		policy := in.Features.SupplementalGroupsPolicy
		s.Features = &v1.NodeFeatures{SupplementalGroupsPolicy: &policy}
	}
	s.DeclaredFeatures = declared.Features()
	if in.VolumesInUse != nil {
		s.VolumesInUse = in.VolumesInUse
	}
	for _, c := range conditions(in) {
		setCondition(&s, c, in.Now)
	}
	return s
}

// extended returns the node's capacity, with the extended resources that others have put into the old one, and
// what of it pods may have: of theirs all, of the device plug-ins' what is healthy. A resource that is gone
// from the capacity is gone from both.
func extended(in Input) (capacity, allocatable v1.ResourceList) {
	capacity, allocatable = in.Machine.Capacity.DeepCopy(), in.Machine.Allocatable.DeepCopy()
	for name, q := range in.Old.Capacity {
		if _, ours := capacity[name]; ours || !strings.Contains(string(name), "/") {
			continue
		}
		if in.Reset && pods.IsExtendedResource(name) {
			q = *resource.NewQuantity(0, resource.DecimalSI)
		}
		capacity[name], allocatable[name] = q, q
	}
	maps.Copy(capacity, in.Devices.Capacity)
	maps.Copy(allocatable, in.Devices.Allocatable)
	return capacity, allocatable
}

// conditions returns the node's own conditions, in the kubelet's order and words.
func conditions(in Input) []v1.NodeCondition {
	of := func(t v1.NodeConditionType, yes, no, yesText, noText string) v1.NodeCondition {
		if slices.Contains(in.Pressure, t) {
			return v1.NodeCondition{Type: t, Status: v1.ConditionTrue, Reason: yes, Message: yesText}
		}
		return v1.NodeCondition{Type: t, Status: v1.ConditionFalse, Reason: no, Message: noText}
	}
	ready := v1.NodeCondition{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	problems := in.Problems
	if names := missing(in.Machine); len(names) > 0 {
		problems = append(slices.Clone(problems), "missing node capacity for resources: "+strings.Join(names, ", "))
	}
	if len(problems) > 0 {
		ready = v1.NodeCondition{Type: v1.NodeReady, Status: v1.ConditionFalse, Reason: "KubeletNotReady", Message: list(problems)}
	}
	return []v1.NodeCondition{
		of(v1.NodeMemoryPressure, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "kubelet has insufficient memory available", "kubelet has sufficient memory available"),
		of(v1.NodeDiskPressure, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "kubelet has disk pressure", "kubelet has no disk pressure"),
		of(v1.NodePIDPressure, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "kubelet has insufficient PID available", "kubelet has sufficient PID available"),
		ready,
	}
}

// list joins problems as the API machinery joins errors.
func list(problems []string) string {
	if len(problems) == 1 {
		return problems[0]
	}
	return "[" + strings.Join(problems, ", ") + "]"
}

// setCondition sets a condition in place. Its transition time changes only with its
// status.
func setCondition(s *v1.NodeStatus, c v1.NodeCondition, now time.Time) {
	c.LastHeartbeatTime = metav1.NewTime(now.Truncate(time.Second))
	c.LastTransitionTime = c.LastHeartbeatTime
	for i := range s.Conditions {
		if s.Conditions[i].Type == c.Type {
			if s.Conditions[i].Status == c.Status {
				c.LastTransitionTime = s.Conditions[i].LastTransitionTime
			}
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

// maxNames is how many names of an image are listed, as in the kubelet.
const maxNames = 5

// images lists the largest images, which matter most to the scheduler.
func images(in []*cri.Image, most int) []v1.ContainerImage {
	sorted := slices.SortedFunc(slices.Values(in), func(a, b *cri.Image) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Id, b.Id))
	})
	if most >= 0 && len(sorted) > most {
		sorted = sorted[:most]
	}
	out := make([]v1.ContainerImage, 0, len(sorted))
	for _, i := range sorted {
		names := append(slices.Clone(i.RepoDigests), i.RepoTags...)
		out = append(out, v1.ContainerImage{Names: names[:min(len(names), maxNames)], SizeBytes: int64(i.Size)})
	}
	return out
}

func handlers(in []*cri.RuntimeHandler) []v1.NodeRuntimeHandler {
	var out []v1.NodeRuntimeHandler
	for _, h := range in {
		rro, userns := h.GetFeatures().GetRecursiveReadOnlyMounts(), h.GetFeatures().GetUserNamespaces()
		out = append(out, v1.NodeRuntimeHandler{Name: h.Name, Features: &v1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &rro, UserNamespaces: &userns}})
	}
	slices.SortFunc(out, func(a, b v1.NodeRuntimeHandler) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// changed reports whether two statuses differ in more than times.
func changed(a, b v1.NodeStatus) bool {
	a, b = *a.DeepCopy(), *b.DeepCopy()
	for _, s := range []*v1.NodeStatus{&a, &b} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return !equality.Semantic.DeepEqual(a, b)
}

// event is something to be recorded about the node.
type event struct{ kind, reason, message string }

// isNow is the kubelet's event for a node whose state has changed to reason.
func isNow(name, reason string) event {
	return event{v1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", name, reason)}
}

// schedulable is the event for a node that was cordoned or uncordoned.
func schedulable(name string, is bool) event {
	if is {
		return isNow(name, "NodeSchedulable")
	}
	return isNow(name, "NodeNotSchedulable")
}

// events returns what has happened between two statuses, in the kubelet's words.
func events(name string, old, now v1.NodeStatus) []event {
	var out []event
	words := map[v1.NodeConditionType][2]string{
		v1.NodeReady:          {"NodeReady", "NodeNotReady"},
		v1.NodeMemoryPressure: {"NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
		v1.NodeDiskPressure:   {"NodeHasDiskPressure", "NodeHasNoDiskPressure"},
		v1.NodePIDPressure:    {"NodeHasInsufficientPID", "NodeHasSufficientPID"},
	}
	for _, c := range now.Conditions {
		word, ours := words[c.Type]
		i := slices.IndexFunc(old.Conditions, func(o v1.NodeCondition) bool { return o.Type == c.Type })
		if !ours || i >= 0 && old.Conditions[i].Status == c.Status {
			continue
		}
		reason := word[1]
		if c.Status == v1.ConditionTrue {
			reason = word[0]
		} else if i < 0 && c.Type == v1.NodeReady {
			continue // it has not been ready yet
		}
		out = append(out, isNow(name, reason))
	}
	if was := old.NodeInfo.BootID; was != "" && was != now.NodeInfo.BootID {
		out = append(out, event{v1.EventTypeWarning, "Rebooted", fmt.Sprintf("Node %s has been rebooted, boot id: %s", name, now.NodeInfo.BootID)})
	}
	return out
}

// DefaultLabels returns the labels that every node has, in a cluster or not, and the given ones, which
// win.
func DefaultLabels(hostname string, info v1.NodeSystemInfo, given map[string]string) map[string]string {
	l := map[string]string{
		v1.LabelHostname: hostname, v1.LabelOSStable: info.OperatingSystem, v1.LabelArchStable: info.Architecture,
		"beta.kubernetes.io/os": info.OperatingSystem, "beta.kubernetes.io/arch": info.Architecture,
	}
	maps.Copy(l, given)
	return l
}

// Addresses returns the node's addresses from its IPs, primary first, and its host
// name.
func Addresses(ips []string, hostname string) []v1.NodeAddress {
	var out []v1.NodeAddress
	for _, ip := range ips {
		out = append(out, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	return append(out, v1.NodeAddress{Type: v1.NodeHostName, Address: hostname})
}

// HostIPs returns the addresses of a node object that its pods report as the host's, as the
// kubelet chooses them: internal ones before external ones, the primary first, and at most one
// of each family. None for a node that is nil or has none.
func HostIPs(n *v1.Node) []string {
	if n == nil {
		return nil
	}
	var all []string
	for _, of := range []v1.NodeAddressType{v1.NodeInternalIP, v1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == of {
				all = append(all, a.Address)
			}
		}
	}
	return pods.Addresses(all, all[:min(len(all), 1)])
}

// ResourcePIDs is the kubelet's name for processes among reserved resources.
const ResourcePIDs v1.ResourceName = "pid"

// Resources reads a ResourceList in the form of systemReserved. Process IDs ("pid")
// are a reservation that is not part of allocatable.
func Resources(field string, in map[string]string) (v1.ResourceList, error) {
	out := v1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		q, err := resource.ParseQuantity(in[name])
		if err != nil || q.Sign() < 0 {
			return nil, fmt.Errorf("%s: %s: %q is not a quantity", field, name, in[name])
		}
		switch v1.ResourceName(name) {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage, ResourcePIDs:
			out[v1.ResourceName(name)] = q
		default:
			return nil, fmt.Errorf("%s: %q cannot be reserved: only cpu, memory, ephemeral-storage and pid can", field, name)
		}
	}
	return out, nil
}

package admission

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/declared"
)

// Node is what a pod is checked against.
type Node struct {
	Name   string
	Labels map[string]string
	Taints []v1.Taint
	// Allocatable is what pods may request in total, including "pods". A missing
	// resource is not offered, but nil means that nothing is known and resources
	// are not checked.
	Allocatable v1.ResourceList
	// Pressure lists the pressure conditions that the node has. EvictStatic is true where static
	// pods are not exempt from what follows, on a standalone node.
	Pressure    []v1.NodeConditionType
	EvictStatic bool
	// AllowedUnsafeSysctls are allowed beside the safe ones; a name may end in '*'.
	AllowedUnsafeSysctls []string
	// AppArmor is true if the kernel enforces profiles.
	AppArmor bool
	// HugePages is true if the kernel can limit a pod's huge pages.
	HugePages bool
	// Check returns why the node cannot give the pod what it is entitled to have to itself, see
	// Allocator: nil when it can. Check itself is nil if pods get nothing to themselves.
	Check func(*v1.Pod) error
	// Release is the Kubernetes release that this node is of, such as "v1.37.2"; "": features that it declares are
	// not checked.
	Release string
	// ShuttingDown is true from when the machine begins to shut down.
	ShuttingDown bool
	// Fields says what the node has that some fields of a pod need, for pods from the
	// API server, and StaticFields for static ones: static pods may not refer to the
	// API server's namespaced objects, since the API server knows neither the pods nor
	// that this node has them (the kubelet's PreventStaticPodAPIReferences). On a
	// standalone node they may refer to objects in the manifests.
	Fields, StaticFields podfields.Features
}

// FieldsFor returns Fields or StaticFields, by where the pod comes from.
func (n Node) FieldsFor(pod *v1.Pod) podfields.Features {
	if pods.IsStatic(pod) {
		return n.StaticFields
	}
	return n.Fields
}

// Admit returns nil when the pod may start beside others, which are the pods that use the
// node, whatever their phase: one that has failed does so until it is stopped. The pod itself
// among them does not count. A critical pod is short of resources only if nothing else is in its way: others
// end for it.
func Admit(pod *v1.Pod, others []*v1.Pod, node Node) *pods.Rejection {
	others = without(others, pod)
	var short *pods.Rejection
	for _, check := range []func(*v1.Pod, []*v1.Pod, Node) *pods.Rejection{
		shutdown, pressure, features, fields, hugePages, sysctls, exclusive, appArmor, operatingSystem, resources, affinity, nodeName, ports, taints,
	} {
		switch r := check(pod, others, node); {
		case r == nil:
		case len(r.Short) > 0 && pods.IsCritical(pod):
			short = r
		default:
			return r
		}
	}
	return short
}

// pressure rejects a pod that a node which is short of something would have to evict soon, by the
// kubelet's rule: for want of memory those that request none, unless they say that they bear it; for want
// of anything else all but the critical ones.
func pressure(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	critical := pods.IsCritical(pod)
	if node.EvictStatic && pods.IsStatic(pod) {
		critical = pods.HasCriticalPriority(pod)
	}
	if len(node.Pressure) == 0 || critical {
		return nil
	}
	if len(node.Pressure) == 1 && node.Pressure[0] == v1.NodeMemoryPressure {
		taint := &v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule}
		if pods.QOSClass(pod) != v1.PodQOSBestEffort || corev1.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, taint, false) {
			return nil
		}
	}
	return &pods.Rejection{Reason: "Evicted", Message: fmt.Sprintf("The node had condition: %v. ", node.Pressure), Pressure: true}
}

func without(others []*v1.Pod, pod *v1.Pod) []*v1.Pod {
	var out []*v1.Pod
	for _, o := range others {
		if o.UID != pod.UID {
			out = append(out, o)
		}
	}
	return out
}

// shutdown takes no pods that would be ended at once.
func shutdown(_ *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if node.ShuttingDown {
		return &pods.Rejection{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down.", Shutdown: true}
	}
	return nil
}

// reasonUnsupported is the rejection reason for a pod that uses unsupported fields. The
// kubelet has no word for that: it honours them.
const reasonUnsupported = "UnsupportedPodFields"

// fields rejects a pod that asks for what this node cannot do at all.
func fields(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	refused := podfields.Refused(pod, node.FieldsFor(pod))
	if len(refused) == 0 {
		return nil
	}
	texts := make([]string, len(refused))
	for i, r := range refused {
		texts[i] = r.String()
	}
	return &pods.Rejection{Reason: reasonUnsupported, Message: "this node cannot do what the pod asks for: " + strings.Join(texts, "; ")}
}

// hugePages rejects a pod that asks for huge pages if nothing would enforce their
// limits.
func hugePages(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if node.HugePages {
		return nil
	}
	for name, q := range resource.PodRequests(pod, resource.PodResourcesOptions{}) {
		if pods.IsHugePages(name) && !q.IsZero() {
			return &pods.Rejection{Reason: reasonUnsupported, Message: fmt.Sprintf("this node cannot do what the pod asks for: %s: there is no cgroup of the pod with the kernel's hugetlb controller to limit them", name)}
		}
	}
	return nil
}

// features rejects a pod that needs what nodes declare, and this one does not. It comes before fields, which refuses
// the same pods for a reason that no kubelet has.
func features(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if node.Release == "" {
		return nil
	}
	if missing := declared.Missing(pod, node.Release); missing != "" {
		return &pods.Rejection{Reason: "PodFeatureUnsupported", Message: missing}
	}
	return nil
}

// exclusive comes before resources, as in the kubelet: a pod for which no CPU or device is left is
// rejected as UnexpectedAdmissionError and not as OutOfcpu.
func exclusive(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if node.Check == nil {
		return nil
	}
	return rejection(node.Check(pod))
}

// operatingSystem rejects a pod that says of itself, by its label or its field, that it is for another
// operating system, as the kubelet does. What it says of the node is the business of affinity.
func operatingSystem(pod *v1.Pod, _ []*v1.Pod, _ Node) *pods.Rejection {
	if os, ok := pod.Labels[v1.LabelOSStable]; ok && os != string(v1.Linux) {
		return &pods.Rejection{Reason: "PodOSSelectorNodeLabelDoesNotMatch", Message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if os := pod.Spec.OS; os != nil && os.Name != v1.Linux {
		return &pods.Rejection{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	return nil
}

// affinity compares nodeSelector and required node affinity with the node's labels.
func affinity(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels}}
	ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n)
	switch {
	case err != nil:
		return predicate("NodeAffinity", err.Error())
	case !ok:
		return ofNode(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"))
	}
	return nil
}

func nodeName(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if pod.Spec.NodeName != "" && pod.Spec.NodeName != node.Name {
		return predicate("NodeName", "node(s) didn't match the requested node name")
	}
	return nil
}

// taints rejects a pod that does not tolerate the node's NoExecute taints. Static
// pods are the node's own and tolerate all.
func taints(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if pods.IsStatic(pod) {
		return nil
	}
	_, untolerated := corev1.FindMatchingUntoleratedTaint(klog.Background(), node.Taints, pod.Spec.Tolerations,
		func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute }, false)
	if untolerated {
		return ofNode(predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"))
	}
	return nil
}

// appArmor rejects a pod that asks for confinement which the host would not
// enforce.
func appArmor(pod *v1.Pod, _ []*v1.Pod, node Node) *pods.Rejection {
	if node.AppArmor || !wantsAppArmor(pod) {
		return nil
	}
	return &pods.Rejection{Reason: "AppArmor", Message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func wantsAppArmor(pod *v1.Pod) bool {
	confines := func(p *v1.AppArmorProfile) bool { return p != nil && p.Type != v1.AppArmorProfileTypeUnconfined }
	if sc := pod.Spec.SecurityContext; sc != nil && confines(sc.AppArmorProfile) {
		return true
	}
	for _, c := range pods.Containers(pod) {
		if c.SecurityContext != nil && confines(c.SecurityContext.AppArmorProfile) {
			return true
		}
	}
	for key, profile := range pod.Annotations {
		if strings.HasPrefix(key, v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) && profile != "" && profile != v1.DeprecatedAppArmorBetaProfileNameUnconfined {
			return true
		}
	}
	return false
}

// predicate returns a rejection worded like those of the kubelet's scheduler
// predicates.
func predicate(name, why string) *pods.Rejection {
	return &pods.Rejection{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, why)}
}

// ofNode marks a rejection that a look at the node's object may overturn.
func ofNode(r *pods.Rejection) *pods.Rejection {
	r.OfNode = true
	return r
}

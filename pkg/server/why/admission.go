package why

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// rejectedPrefix begins the message of a pod that admission has rejected, with the kubelet's word.
const rejectedPrefix = "Pod was rejected: "

// rejected is about pods that may not start on this node.
func rejected(l *look) *Finding {
	message, ok := strings.CutPrefix(l.pod.Status.Message, rejectedPrefix)
	if l.pod.Status.Phase != v1.PodFailed || !ok {
		return nil
	}
	reason := l.pod.Status.Reason
	f := &Finding{Cause: "refused: " + reason + ": " + message, Fix: "change what the pod asks for, or the node", Where: l.where("spec")}
	switch {
	case reason == "UnsupportedPodFields":
		l.unsupported(f, after(message, "asks for: "))
	case reason == "NodePorts":
		l.portTaken(f)
	case strings.HasPrefix(reason, "OutOf"):
		l.outOf(f, strings.TrimPrefix(reason, "OutOf"))
	case reason == "NodeAffinity":
		l.mismatch(f)
	case reason == "NodeName":
		f.Fix, f.Where = "remove spec.nodeName: this node is "+l.in.Node, l.where("spec.nodeName")
	case reason == "TaintToleration":
		f.Fix = "give the pod a toleration in spec.tolerations, or take the taint from the node"
	case reason == "PodOSNotSupported":
		f.Cause = "refused: spec.os.name: " + message
		f.Fix, f.Where = "set spec.os.name to linux, or remove it", l.where("spec.os.name")
	case reason == "PodOSSelectorNodeLabelDoesNotMatch":
		f.Fix, f.Where = "remove the label "+v1.LabelOSStable+" from metadata.labels", l.where("metadata.labels")
	case reason == "SysctlForbidden":
		f.Cause = "refused: spec.securityContext.sysctls: " + message
		f.Fix, f.Where = "remove it, or list it in the agent's allowedUnsafeSysctls", l.sysctl(message)
	case reason == "AppArmor":
		f.Fix, f.Where = "remove appArmorProfile from securityContext, or enable AppArmor in the node's kernel", l.where("spec.securityContext.appArmorProfile")
	case reason == "Evicted":
		f.Fix = "free what the node is short of, as its conditions say"
	case reason == "NodeShutdown":
		f.Fix = "wait: the machine is being shut down"
	}
	if pods.IsStatic(l.pod) {
		f.AtOnce = "the manifest changes"
	}
	return f
}

// noRoom is about critical pods that wait for room instead of being rejected.
func noRoom(l *look) *Finding {
	message, short := strings.CutPrefix(l.pod.Status.Message, "Node didn't have enough resource: ")
	if l.pod.Status.Phase != v1.PodPending || !short {
		return nil
	}
	resource, _, _ := strings.Cut(message, ",")
	f := &Finding{AtOnce: "there is room"}
	l.outOf(f, resource)
	f.Cause = "Pending: not enough " + resource + " left: " + message
	return f
}

// unsupported is about fields that this node does not honour: "field: why; field: why".
func (l *look) unsupported(f *Finding, fields string) {
	field, why, _ := strings.Cut(fields, ": ")
	f.Cause = "refused: this node does not do " + field + ": " + why
	f.Where = l.where(field)
	f.Fix = "remove " + field
	// The table of fields names what does the same.
	for _, instead := range []string{"; use ", "; clone ", "; name "} {
		if _, how, ok := strings.Cut(why, instead); ok {
			how, _, _ = strings.Cut(how, "; spec.")
			f.Fix = "remove " + field + ", and " + strings.TrimSpace(strings.TrimPrefix(instead, ";")) + " " + how
			f.Cause = strings.Replace(f.Cause, instead+how, "", 1)
			return
		}
	}
}

// portTaken finds which other pod has one of the pod's host ports.
func (l *look) portTaken(f *Finding) {
	for _, want := range hostPorts(l.pod) {
		for _, other := range l.in.Pods {
			if other.UID == l.pod.UID || pods.IsFinished(other.Status.Phase) {
				continue
			}
			for _, has := range hostPorts(other) {
				if !want.clashes(has) {
					continue
				}
				f.Cause = fmt.Sprintf("refused: host port %d is %s's", want.port, other.Name)
				if place := l.in.Evidence.Where("Pod", pods.NameOf(other), has.field); place != "" {
					f.Cause += " (" + short(place) + ")"
				}
				f.Fix, f.Where = "give "+want.field+" a free port, or none", l.where(want.field)
				return
			}
		}
	}
	f.Cause = "refused: a host port that it wants was another pod's"
	for _, want := range hostPorts(l.pod) {
		f.Fix, f.Where = "take "+want.field+" away, or edit the manifest so that it is tried again", l.where(want.field)
		return
	}
}

// hostPort is a port of the node that a container asks for, and the field that says so.
type hostPort struct {
	protocol v1.Protocol
	ip       string
	port     int32
	field    string
}

func (h hostPort) clashes(o hostPort) bool {
	return h.protocol == o.protocol && h.port == o.port && (h.ip == o.ip || h.ip == "" || o.ip == "" || h.ip == anyIP || o.ip == anyIP)
}

const anyIP = "0.0.0.0"

func hostPorts(pod *v1.Pod) []hostPort {
	var all []hostPort
	for i := range pod.Spec.Containers {
		for j, p := range pod.Spec.Containers[i].Ports {
			h := hostPort{p.Protocol, p.HostIP, p.HostPort, fmt.Sprintf("spec.containers[%d].ports[%d].hostPort", i, j)}
			if pod.Spec.HostNetwork {
				h.port, h.field = p.ContainerPort, fmt.Sprintf("spec.containers[%d].ports[%d].containerPort", i, j)
			}
			if h.protocol == "" {
				h.protocol = v1.ProtocolTCP
			}
			if h.port > 0 {
				all = append(all, h)
			}
		}
	}
	return all
}

// outOf is about a resource that the node does not have left: who requests most of it is said.
func (l *look) outOf(f *Finding, resource string) {
	name := v1.ResourceName(resource)
	f.Cause = "refused: not enough " + resource + " left: " + after(l.pod.Status.Message, "resource: ")
	if name == v1.ResourcePods {
		f.Fix = "remove another pod, or raise the agent's maxPods"
		return
	}
	best, field := int64(-1), "spec.containers[0].resources.requests"
	for i := range l.pod.Spec.Containers {
		if q, ok := l.pod.Spec.Containers[i].Resources.Requests[name]; ok && q.MilliValue() > best {
			best, field = q.MilliValue(), fmt.Sprintf("spec.containers[%d].resources.requests.%s", i, resource)
		}
	}
	f.Fix, f.Where = "lower "+field+", or end pods that use it", l.where(field)
	var most *v1.Pod
	var share int64
	for _, p := range l.in.Pods {
		if p.UID == l.pod.UID || pods.IsFinished(p.Status.Phase) {
			continue
		}
		if n := requested(p, name); n > share {
			most, share = p, n
		}
	}
	if most != nil {
		f.Evidence = most.Name + " requests most of it"
	}
}

func requested(p *v1.Pod, name v1.ResourceName) (sum int64) {
	for i := range p.Spec.Containers {
		q := p.Spec.Containers[i].Resources.Requests[name]
		sum += q.MilliValue()
	}
	return sum
}

// mismatch is about labels that the node does not have.
func (l *look) mismatch(f *Finding) {
	for _, key := range slices.Sorted(maps.Keys(l.pod.Spec.NodeSelector)) {
		want := l.pod.Spec.NodeSelector[key]
		has, ok := l.in.Labels[key]
		if ok && has == want {
			continue
		}
		field := "spec.nodeSelector"
		f.Cause = fmt.Sprintf("refused: %s asks for %s=%s, and the node has no such label", field, key, want)
		if ok {
			f.Cause = fmt.Sprintf("refused: %s asks for %s=%s, and the node has %s", field, key, want, has)
		}
		f.Fix, f.Where = "change it, or label the node", l.where(field+"["+key+"]")
		return
	}
	field := "spec.affinity.nodeAffinity"
	f.Cause = "refused: the node's labels are not those of " + field
	f.Fix, f.Where = "change it, or label the node", l.where(field)
}

// sysctl returns the place of the one that a message quotes.
func (l *look) sysctl(message string) string {
	if sc := l.pod.Spec.SecurityContext; sc != nil {
		for i, s := range sc.Sysctls {
			if strings.Contains(message, fmt.Sprintf("%q", s.Name)) {
				return l.where(fmt.Sprintf("spec.securityContext.sysctls[%d].name", i))
			}
		}
	}
	return l.where("spec.securityContext.sysctls")
}

package admission

import (
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// hostPort is a port of the node that a container takes.
type hostPort struct {
	protocol v1.Protocol
	ip       string // anyIP for all addresses
	port     int32
}

const anyIP = "0.0.0.0"

// ports rejects a pod that wants a port of the node which another pod has: same
// number and protocol, and the same address or one of the two on all addresses.
func ports(pod *v1.Pod, others []*v1.Pod, _ Node) *pods.Rejection {
	wanted := hostPorts(pod)
	if len(wanted) == 0 {
		return nil
	}
	for _, o := range others {
		for _, taken := range hostPorts(o) {
			for _, w := range wanted {
				if w.protocol == taken.protocol && w.port == taken.port && (w.ip == taken.ip || w.ip == anyIP || taken.ip == anyIP) {
					return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
				}
			}
		}
	}
	return nil
}

// hostPorts lists the ports of the node that the pod's containers take while it
// runs; init containers that end do not count.
func hostPorts(pod *v1.Pod) []hostPort {
	var all []hostPort
	add := func(c *v1.Container) {
		for _, p := range c.Ports {
			h := hostPort{p.Protocol, p.HostIP, p.HostPort}
			if pod.Spec.HostNetwork {
				h.port = p.ContainerPort // the same port, though a manifest may leave it out
			}
			if h.port <= 0 {
				continue
			}
			if h.protocol == "" {
				h.protocol = v1.ProtocolTCP
			}
			if h.ip == "" {
				h.ip = anyIP
			}
			all = append(all, h)
		}
	}
	for kind, c := range pods.Containers(pod) {
		if kind != pods.InitContainer {
			add(c)
		}
	}
	return all
}

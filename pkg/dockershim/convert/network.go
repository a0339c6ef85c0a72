package convert

import (
	"math"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network"
)

// NetworkSandbox is what a network plug-in must know of a sandbox. A bandwidth that cannot be
// read is an error, worded for the client.
func NetworkSandbox(id string, c *cri.PodSandboxConfig) (network.Sandbox, error) {
	sb := network.Sandbox{ID: id, Name: c.Metadata.Name, Namespace: c.Metadata.Namespace, UID: c.Metadata.Uid}
	for _, p := range c.PortMappings {
		if p.HostPort > 0 {
			sb.Ports = append(sb.Ports, network.Port{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: strings.ToLower(p.Protocol.String()), HostIP: p.HostIp})
		}
	}
	sb.DNS = network.DNS{Servers: c.GetDnsConfig().GetServers(), Searches: c.GetDnsConfig().GetSearches(), Options: c.GetDnsConfig().GetOptions()}
	var err error
	if sb.Bandwidth.IngressRate, err = bandwidth(c.Annotations, annotationIngress); err != nil {
		return sb, err
	}
	sb.Bandwidth.EgressRate, err = bandwidth(c.Annotations, annotationEgress)
	// The kubelet's old plug-in set no bound to bursts; this is the most that the bandwidth
	// plug-in takes.
	for _, l := range []struct{ rate, burst *uint64 }{
		{&sb.Bandwidth.IngressRate, &sb.Bandwidth.IngressBurst}, {&sb.Bandwidth.EgressRate, &sb.Bandwidth.EgressBurst},
	} {
		if *l.rate > 0 {
			*l.burst = math.MaxInt32
		}
	}
	return sb, err
}

// Annotations of a pod that limit its traffic, and their bounds, as for the kubelet.
const (
	annotationIngress = "kubernetes.io/ingress-bandwidth"
	annotationEgress  = "kubernetes.io/egress-bandwidth"
	minBandwidth      = 1000
	maxBandwidth      = 1e15
)

// bandwidth reads a limit in bits per second; 0 means none.
func bandwidth(annotations map[string]string, key string) (uint64, error) {
	text, ok := annotations[key]
	if !ok {
		return 0, nil
	}
	q, err := bounds.ParseQuantity(text)
	if err != nil {
		return 0, grpccode.Invalid("config.annotations["+key+"]", "%q: %v", text, err)
	}
	if n := q.Value(); n < minBandwidth || n > maxBandwidth {
		return 0, grpccode.Invalid("config.annotations["+key+"]", "%q is not within 1k and 1P bit/s", text)
	}
	return uint64(q.Value()), nil
}

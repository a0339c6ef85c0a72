package agent

import (
	"fmt"
	"net"
	"slices"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// hostIPs returns the addresses that pods of this node report as theirs, primary
// first: of the interface with the default route, as the kubelet chooses it; on a
// host without a route, of the first interface that is up; else the loopback's.
func hostIPs() []string {
	if ip, err := utilnet.ChooseHostInterface(); err == nil {
		return []string{ip.String()}
	}
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				return []string{n.IP.String()}
			}
		}
	}
	return []string{"127.0.0.1"}
}

// nodeIPs returns the addresses of --node-ip; an unspecified one ("::", say) asks
// for the host's address of that family. As with the kubelet, they must be the
// host's own: the API server calls the node back at them.
func nodeIPs(given, ofHost []string) ([]string, error) {
	var out []string
	for _, s := range given {
		ip := net.ParseIP(s)
		switch {
		case ip == nil:
			return nil, fmt.Errorf("--node-ip: %q is not an IP address", s)
		case ip.IsUnspecified():
			chosen, err := utilnet.ResolveBindAddress(ip)
			if err != nil || (chosen.To4() == nil) != (ip.To4() == nil) {
				return nil, fmt.Errorf("--node-ip: the host has no address of the family of %s", s)
			}
			ip = chosen
		case ip.IsLoopback(), ip.IsMulticast(), ip.IsLinkLocalUnicast():
			return nil, fmt.Errorf("--node-ip: %s is a loopback, multicast or link-local address, at which no other machine reaches this one", s)
		case !slices.Contains(ofHost, ip.String()):
			return nil, fmt.Errorf("--node-ip: %s is not an address of this host", s)
		}
		out = append(out, ip.String())
	}
	return out, nil
}

// interfaceIPs returns all addresses of this host.
func interfaceIPs() []string {
	var out []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			out = append(out, n.IP.String())
		}
	}
	return out
}

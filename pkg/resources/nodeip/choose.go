package nodeip

import (
	"fmt"
	"net"
	"slices"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// facts are what a choice is made of. Texts are addresses in their canonical form.
type facts struct {
	preferIPv6 bool     // --node-ip is "::"
	hostname   string   // of the node, which may itself be an address
	resolved   []string // what the node's name resolves to
	ofHost     []string // the addresses of this host's interfaces
	byRoute    string   // that of the interface with the default route, "" without one
}

// choose returns the node's address, as the kubelet chooses it: the host name if it is one;
// else what the name resolves to, if that is an address of this host at which others reach it;
// else that of the default route's interface. "" if there is none of these. Pure.
func choose(f facts) string {
	if ip := net.ParseIP(f.hostname); ip != nil {
		return ip.String()
	}
	other := ""
	for _, s := range f.resolved {
		ip := net.ParseIP(s)
		if ip == nil || reachable(ip) != nil || !slices.Contains(f.ofHost, ip.String()) {
			continue
		}
		if (ip.To4() == nil) == f.preferIPv6 {
			return ip.String()
		}
		if other == "" {
			other = ip.String()
		}
	}
	if other != "" {
		return other
	}
	return f.byRoute
}

// makeshift is the address of a host without a route: the first that is not the loopback's, and
// without a network the loopback's.
func makeshift(ofHost []string) string {
	for _, s := range ofHost {
		if ip := net.ParseIP(s); ip != nil && ip.IsGlobalUnicast() {
			return s
		}
	}
	return "127.0.0.1"
}

// reachable returns why others cannot reach this host at an address.
func reachable(ip net.IP) error {
	if ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() {
		return fmt.Errorf("%s is a loopback, multicast or link-local address, at which no other machine reaches this one", ip)
	}
	return nil
}

// checked returns the addresses of --node-ip in their canonical form: one, or one of each
// family; an unspecified one of two asks for the host's address of that family. ofHost, unless
// it is nil, has to have them.
func checked(given, ofHost []string) ([]string, error) {
	if len(pods.Addresses(given, given)) != len(given) {
		return nil, fmt.Errorf("--node-ip: %s: a node has one address, or one of IPv4 and one of IPv6", strings.Join(given, ","))
	}
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
		case ofHost == nil:
		case reachable(ip) != nil:
			return nil, fmt.Errorf("--node-ip: %w", reachable(ip))
		case !slices.Contains(ofHost, ip.String()):
			return nil, fmt.Errorf("--node-ip: %s is not an address of this host", s)
		}
		out = append(out, ip.String())
	}
	return out, nil
}

// ofInterfaces returns all addresses of this host.
func ofInterfaces() []string {
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

package pods

import utilnet "k8s.io/utils/net"

// Addresses returns those of a pod's addresses that its status may have: the first of each family,
// and first that of the family of the node's primary address, IPv4 if there is none. The API server
// takes no other list. A runtime may know any number of them in any order, since network plug-ins
// may add interfaces. What is no address is left out; the rest is written in the usual form.
func Addresses(all, ofNode []string) []string {
	first, second := utilnet.IPv4, utilnet.IPv6
	if len(ofNode) > 0 && utilnet.IsIPv6String(ofNode[0]) {
		first, second = second, first
	}
	var out []string
	for _, family := range []utilnet.IPFamily{first, second} {
		for _, s := range all {
			if ip := utilnet.ParseIPSloppy(s); utilnet.IPFamilyOf(ip) == family {
				out = append(out, ip.String())
				break
			}
		}
	}
	return out
}

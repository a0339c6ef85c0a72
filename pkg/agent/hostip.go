package agent

import (
	"net"

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

// Package kubenet composes the network that the kubelet's kubenet was: a bridge,
// cbr0, on which pods get addresses of the node's pod CIDR, driven by the standard
// CNI plug-ins bridge, host-local and portmap. It is a cni.Configuration that
// becomes ready when the control plane has given the node its CIDR.
//
// Besides running the plug-ins it keeps two kinds of iptables rules: traffic of the bridge
// is forwarded although Docker's FORWARD policy is DROP, and traffic to anywhere outside
// the non-masquerade CIDR gets the node's address.
//
// What is made of all that on the machine, and was not there before, is on record: Reset removes
// it, and nothing else.
package kubenet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
)

// Bridge is the name of kubenet's bridge.
const Bridge = "cbr0"

// Hairpin modes, KubeletConfiguration.hairpinMode: how a pod reaches itself
// through its service. Since Linux 6.9 a promiscuous bridge does not return a pod's own
// packets to it when bridge-nf-call-iptables is on; hairpin-veth does.
const (
	PromiscuousBridge = "promiscuous-bridge"
	HairpinVeth       = "hairpin-veth"
	HairpinNone       = "none"
)

// Config is what a Network is built from.
type Config struct {
	Bridge      string // Bridge where empty
	HairpinMode string // promiscuous-bridge where empty
	// NonMasqueradeCIDR is where pods keep their own addresses: the cluster.
	// 0.0.0.0/0 turns masquerading off. Default 10.0.0.0/8.
	NonMasqueradeCIDR string
	MTU               int    // of the pods' interfaces; 0: the bridge's
	DataDir           string // of host-local; its default where empty
	CacheDir          string // of libcni; its default where empty
	// Record is the file of what was made; empty: it is not on record.
	Record string
}

// Network is the composed network. Its methods are safe for concurrent use.
type Network struct {
	cfg Config
	non netip.Prefix

	mu   sync.Mutex
	made made // of this start, where there is no record
	list *libcni.NetworkConfigList
}

// New checks the configuration. The network has no addresses until SetPodCIDR.
func New(cfg Config) (*Network, error) {
	if cfg.Bridge == "" {
		cfg.Bridge = Bridge
	}
	if cfg.HairpinMode == "" {
		cfg.HairpinMode = PromiscuousBridge
	}
	if !slices.Contains([]string{PromiscuousBridge, HairpinVeth, HairpinNone}, cfg.HairpinMode) {
		return nil, fmt.Errorf("hairpin mode %q: want %s, %s or %s", cfg.HairpinMode, PromiscuousBridge, HairpinVeth, HairpinNone)
	}
	if cfg.NonMasqueradeCIDR == "" {
		cfg.NonMasqueradeCIDR = "10.0.0.0/8"
	}
	non, err := netip.ParsePrefix(cfg.NonMasqueradeCIDR)
	if err != nil {
		return nil, fmt.Errorf("non-masquerade CIDR: %w", err)
	}
	return &Network{cfg: cfg, non: non.Masked()}, nil
}

// Network implements cni.Configuration.
func (n *Network) Network() (*libcni.NetworkConfigList, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.list == nil {
		return nil, errors.New("kubenet: the node has no pod CIDR yet")
	}
	return n.list, nil
}

// SetPodCIDR gives the network its addresses: one CIDR, or two of different families separated
// by a comma, as in CRI's UpdateRuntimeConfig. Setting the same CIDR again repairs the iptables
// rules. A different one, also than before a restart, is refused unless the network is unused: pods
// with addresses of the old one could still run. While it is unused nobody may use what Network returns.
func (n *Network) SetPodCIDR(podCIDR string, unused bool) error {
	cidrs, err := parseCIDRs(podCIDR)
	if err != nil {
		return err
	}
	conf, err := compose(n.cfg, cidrs)
	if err != nil {
		return err
	}
	list, err := libcni.ConfListFromBytes(conf)
	if err != nil {
		return fmt.Errorf("kubenet: composed configuration: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.make(cidrs, unused); err != nil {
		return fmt.Errorf("kubenet: %w", err)
	}
	n.list = list
	return nil
}

func parseCIDRs(s string) ([]netip.Prefix, error) {
	var cidrs []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		c, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("pod CIDR %q: %w", s, err)
		}
		cidrs = append(cidrs, c.Masked())
	}
	if len(cidrs) > 2 || len(cidrs) == 2 && cidrs[0].Addr().Is4() == cidrs[1].Addr().Is4() {
		return nil, fmt.Errorf("pod CIDR %q: want one, or one of each family", s)
	}
	return cidrs, nil
}

// compose writes the configuration list. It is pure.
func compose(cfg Config, cidrs []netip.Prefix) ([]byte, error) {
	ranges := [][]map[string]string{}
	routes := []map[string]string{}
	for _, c := range cidrs {
		ranges = append(ranges, []map[string]string{{"subnet": c.String()}})
		all := "0.0.0.0/0"
		if c.Addr().Is6() {
			all = "::/0"
		}
		routes = append(routes, map[string]string{"dst": all})
	}
	ipam := map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}
	if cfg.DataDir != "" {
		ipam["dataDir"] = cfg.DataDir
	}
	bridge := map[string]any{
		"type": "bridge", "bridge": cfg.Bridge, "isGateway": true, "ipMasq": false,
		"hairpinMode": cfg.HairpinMode == HairpinVeth,
		"promiscMode": cfg.HairpinMode == PromiscuousBridge,
		"ipam":        ipam,
	}
	if cfg.MTU > 0 {
		bridge["mtu"] = cfg.MTU
	}
	return json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": networkName(cfg.Bridge),
		"plugins": []any{
			bridge,
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}, "snat": true},
		},
	})
}

// networkName names the network, and host-local's directory of its addresses.
func networkName(bridge string) string { return "kubenet-" + bridge }

// Package kubenet composes the network that the kubelet's kubenet was: a bridge,
// cbr0, on which pods get addresses of the node's pod CIDR, driven by the standard
// CNI plug-ins bridge, host-local and portmap. It is a cni.Configuration that
// becomes ready when the control plane has given the node its CIDR.
//
// Besides running the plug-ins it keeps two kinds of iptables rules: traffic of the bridge
// is forwarded although Docker's FORWARD policy is DROP, and traffic to anywhere outside
// the non-masquerade CIDR gets the node's address.
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
	"github.com/coreos/go-iptables/iptables"
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
}

// Network is the composed network. Its methods are safe for concurrent use.
type Network struct {
	cfg Config
	non netip.Prefix

	mu    sync.Mutex
	cidrs []netip.Prefix
	list  *libcni.NetworkConfigList
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
// rules. A different one is refused: pods with addresses of the old one could still run.
func (n *Network) SetPodCIDR(podCIDR string) error {
	cidrs, err := parseCIDRs(podCIDR)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cidrs != nil && !slices.Equal(n.cidrs, cidrs) {
		return fmt.Errorf("kubenet: the pod CIDR is %v and cannot become %v while the agent runs", n.cidrs, cidrs)
	}
	conf, err := compose(n.cfg, cidrs)
	if err != nil {
		return err
	}
	list, err := libcni.ConfListFromBytes(conf)
	if err != nil {
		return fmt.Errorf("kubenet: composed configuration: %w", err)
	}
	for _, c := range cidrs {
		if err := ensureRules(n.cfg.Bridge, c, n.non); err != nil {
			return err
		}
	}
	n.cidrs, n.list = cidrs, list
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
		"cniVersion": "1.0.0", "name": "kubenet-" + cfg.Bridge,
		"plugins": []any{
			bridge,
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}, "snat": true},
		},
	})
}

// Cleanup removes the iptables rules of a network. The bridge stays, since it may have existed
// before.
func (n *Network) Cleanup() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, c := range n.cidrs {
		ipt, err := tables(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, r := range rules(n.cfg.Bridge, c, n.non) {
			errs = append(errs, ipt.DeleteIfExists(r.table, r.chain, r.spec...))
		}
	}
	return errors.Join(errs...)
}

type rule struct {
	table, chain string
	spec         []string
}

// rules returns the iptables rules that a CIDR on the bridge needs. It is pure.
func rules(bridge string, cidr, non netip.Prefix) []rule {
	rs := []rule{
		{"filter", "FORWARD", []string{"-i", bridge, "-m", "comment", "--comment", "kubenet: from pods", "-j", "ACCEPT"}},
		{"filter", "FORWARD", []string{"-o", bridge, "-m", "comment", "--comment", "kubenet: to pods", "-j", "ACCEPT"}},
	}
	if non.Bits() == 0 {
		return rs
	}
	spec := []string{"-s", cidr.String(), "-m", "comment", "--comment", "kubenet: SNAT for outbound traffic from cluster", "-m", "addrtype", "!", "--dst-type", "LOCAL"}
	switch {
	case non.Addr().Is4() == cidr.Addr().Is4():
		spec = append(spec, "!", "-d", non.String())
	default: // in a family without a non-masquerade CIDR, only traffic to pods is not masqueraded
		spec = append(spec, "!", "-d", cidr.String())
	}
	return append(rs, rule{"nat", "POSTROUTING", append(spec, "-j", "MASQUERADE")})
}

func tables(cidr netip.Prefix) (*iptables.IPTables, error) {
	proto := iptables.ProtocolIPv4
	if cidr.Addr().Is6() {
		proto = iptables.ProtocolIPv6
	}
	ipt, err := iptables.NewWithProtocol(proto)
	if err != nil {
		return nil, fmt.Errorf("kubenet: iptables for %s: %w", cidr, err)
	}
	return ipt, nil
}

func ensureRules(bridge string, cidr, non netip.Prefix) error {
	ipt, err := tables(cidr)
	if err != nil {
		return err
	}
	for _, r := range rules(bridge, cidr, non) {
		// First, so that no rule of somebody else's drops the traffic before it.
		if err := ipt.InsertUnique(r.table, r.chain, 1, r.spec...); err != nil {
			return fmt.Errorf("kubenet: insert rule for %s into %s of table %s: %w", cidr, r.chain, r.table, err)
		}
	}
	return nil
}

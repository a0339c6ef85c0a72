package kubenet

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/coreos/go-iptables/iptables"
)

// rule is a rule of iptables, or of ip6tables.
type rule struct {
	IPv6  bool     `json:"ipv6,omitempty"`
	Table string   `json:"table"`
	Chain string   `json:"chain"`
	Spec  []string `json:"spec"`
}

func (r rule) is(other rule) bool {
	return r.IPv6 == other.IPv6 && r.Table == other.Table && r.Chain == other.Chain && slices.Equal(r.Spec, other.Spec)
}

func among(rules []rule, r rule) bool { return slices.ContainsFunc(rules, r.is) }

// rulesOf returns the iptables rules that a CIDR on the bridge needs. It is pure.
func rulesOf(bridge string, cidr, non netip.Prefix) []rule {
	v6 := cidr.Addr().Is6()
	rs := []rule{
		{v6, "filter", "FORWARD", []string{"-i", bridge, "-m", "comment", "--comment", "kubenet: from pods", "-j", "ACCEPT"}},
		{v6, "filter", "FORWARD", []string{"-o", bridge, "-m", "comment", "--comment", "kubenet: to pods", "-j", "ACCEPT"}},
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
	return append(rs, rule{v6, "nat", "POSTROUTING", append(spec, "-j", "MASQUERADE")})
}

func (r rule) tables() (*iptables.IPTables, error) {
	proto := iptables.ProtocolIPv4
	if r.IPv6 {
		proto = iptables.ProtocolIPv6
	}
	ipt, err := iptables.NewWithProtocol(proto)
	if err != nil {
		return nil, fmt.Errorf("iptables for chain %s of table %s: %w", r.Chain, r.Table, err)
	}
	return ipt, nil
}

func (r rule) exists() (bool, error) {
	ipt, err := r.tables()
	if err != nil {
		return false, err
	}
	is, err := ipt.Exists(r.Table, r.Chain, r.Spec...)
	if err != nil {
		return false, fmt.Errorf("look for a rule in %s of table %s: %w", r.Chain, r.Table, err)
	}
	return is, nil
}

func (r rule) ensure() error {
	ipt, err := r.tables()
	if err != nil {
		return err
	}
	// First, so that no rule of somebody else's drops the traffic before it.
	if err := ipt.InsertUnique(r.Table, r.Chain, 1, r.Spec...); err != nil {
		return fmt.Errorf("insert a rule into %s of table %s: %w", r.Chain, r.Table, err)
	}
	return nil
}

func (r rule) remove() error {
	ipt, err := r.tables()
	if err != nil {
		return err
	}
	if err := ipt.DeleteIfExists(r.Table, r.Chain, r.Spec...); err != nil {
		return fmt.Errorf("delete a rule from %s of table %s: %w", r.Chain, r.Table, err)
	}
	return nil
}

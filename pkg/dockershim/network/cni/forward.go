package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/coreos/go-iptables/iptables"
)

// ForwardProblem says in one sentence why pods on the network's bridge cannot reach each other
// or the world; "" when no obstacle is known. Docker sets the policy of the FORWARD chain to
// DROP, which with bridge-nf-call-iptables also cuts traffic within bridges that are not
// Docker's.
func ForwardProblem(list *libcni.NetworkConfigList) string {
	bridge := bridgeOf(list)
	if bridge == "" {
		return ""
	}
	ipt, err := iptables.New()
	if err != nil {
		return ""
	}
	rules, err := ipt.List("filter", "FORWARD")
	if err != nil {
		return ""
	}
	within, _ := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return forwardProblem(bridge, rules, strings.TrimSpace(string(within)) == "1")
}

// bridgeOf returns the bridge that the list's bridge plug-in uses, or "" when it
// has none or when a firewall plug-in opens the way.
func bridgeOf(list *libcni.NetworkConfigList) string {
	bridge := ""
	for _, p := range list.Plugins {
		switch p.Network.Type {
		case "bridge":
			conf := struct {
				Bridge string `json:"bridge"`
			}{Bridge: "cni0"} // the plug-in's default
			if json.Unmarshal(p.Bytes, &conf) != nil {
				return ""
			}
			bridge = conf.Bridge
		case "firewall":
			return ""
		}
	}
	return bridge
}

// forwardProblem judges the rules of the FORWARD chain as iptables -S prints them.
func forwardProblem(bridge string, rules []string, filtersWithin bool) string {
	drops := false
	for _, r := range rules {
		if r == "-P FORWARD DROP" || r == "-P FORWARD REJECT" {
			drops = true
		}
		if strings.HasSuffix(r, "-j ACCEPT") && accepts(r, bridge) {
			return ""
		}
	}
	if !drops {
		return ""
	}
	what := "cannot reach other networks"
	if filtersWithin {
		what = "can reach neither each other nor other networks"
	}
	return fmt.Sprintf("the iptables FORWARD policy is DROP (Docker sets it) and no rule accepts traffic of bridge %s: its pods %s; "+
		"add the firewall plug-in to the CNI configuration or run: iptables -I FORWARD -i %s -j ACCEPT; iptables -I FORWARD -o %s -j ACCEPT",
		bridge, what, bridge, bridge)
}

// accepts reports whether an ACCEPT rule lets traffic from the bridge pass: it names the bridge
// as the way in, or no interface and no address at all.
func accepts(rule, bridge string) bool {
	fields := strings.Fields(rule)
	limited := false
	for i, f := range fields {
		switch f {
		case "-i":
			return i+1 < len(fields) && fields[i+1] == bridge && !(i > 0 && fields[i-1] == "!")
		case "-o", "-s", "-d", "-m", "-p":
			limited = true
		}
	}
	return !limited
}

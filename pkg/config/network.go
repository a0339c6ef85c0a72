package config

import (
	"regexp"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// Network plug-ins of the dockershim.
const (
	pluginDocker  = "docker"
	pluginCNI     = "cni"
	pluginKubenet = "kubenet"
)

// networkPlugin returns the plug-in to use where none was named. On a node of a cluster it is CNI,
// with or without a configuration: that comes with the cluster's DaemonSet, and a pod which started
// on Docker's bridge before it would never be reached by other nodes. On a standalone node it is left
// to the dockershim, which looks whether CNI is configured (docs/decisions/cluster-waits-for-cni.md).
func networkPlugin(named string, standalone bool) string {
	if named == "" && !standalone {
		return pluginCNI
	}
	return named
}

// validBridge are names that the kernel accepts for a device, and iptables takes as such: no wildcard,
// no option.
var validBridge = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$`)

func (c *Config) validateNetwork(k *checker) {
	if c.NetworkPlugin != "" {
		oneOf(k, "--network-plugin", c.NetworkPlugin, pluginDocker, pluginCNI, pluginKubenet)
	}
	k.want(validBridge.MatchString(c.KubenetBridge), "--kubenet-bridge", "must be the name of a network device, got %q", c.KubenetBridge)
	if mtu := c.NetworkPluginMTU; mtu != 0 {
		between(k, "--network-plugin-mtu", mtu, 68, 65535) // IPv4's least, the kernel's most
	}
	if c.PodCIDR != "" {
		err := options.CheckPodCIDR(c.PodCIDR)
		k.want(err == nil, "podCIDR", "%v", err)
	}
	k.want(c.PodCIDR != "" || !c.ownKubenet() || !c.Standalone(), "podCIDR", "must be set: --network-plugin=kubenet gives pods addresses of it")
}

// ownKubenet reports whether the built-in dockershim is to use kubenet.
func (c *Config) ownKubenet() bool {
	return c.NetworkPlugin == pluginKubenet && c.InProcessDockershim()
}

// networkWarnings names what was set about the network and is of no use.
func (c *Config) networkWarnings() []string {
	var list []string
	if place, set := c.origins["podCIDR"]; set && c.PodCIDR != "" {
		switch {
		case !c.Standalone():
			list = append(list, describe(place, "podCIDR")+" is not used in a cluster: the node object says which addresses pods get")
		case c.NetworkPlugin == pluginDocker && c.InProcessDockershim():
			list = append(list, describe(place, "podCIDR")+" is not used with --network-plugin=docker: Docker gives pods addresses of its bridge")
		}
	}
	if c.NetworkPluginMTU != 0 && !c.ownKubenet() {
		list = append(list, "--network-plugin-mtu is only used by kubenet: Docker and CNI networks have an MTU in their own configuration")
	}
	return list
}

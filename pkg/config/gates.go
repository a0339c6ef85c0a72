package config

import (
	"fmt"
	"maps"
	"slices"
)

// Gate is a feature that can be switched on or off (featureGates).
type Gate string

// The features that this agent can be told about. What else a kubelet can switch is
// here as it is there by default.
const (
	// DisableCPUQuotaWithExclusiveCPUs holds no CPU quota for containers that have
	// CPUs to themselves.
	DisableCPUQuotaWithExclusiveCPUs Gate = "DisableCPUQuotaWithExclusiveCPUs"
	// MemoryQoS protects and throttles memory by cgroup v2 (KEP-2570).
	MemoryQoS Gate = "MemoryQoS"
)

// gates are their defaults, the kubelet's of 1.36.
var gates = map[Gate]bool{DisableCPUQuotaWithExclusiveCPUs: true, MemoryQoS: false}

// Enabled reports whether a feature is on.
func (c *Config) Enabled(g Gate) bool {
	if on, set := c.FeatureGates[string(g)]; set {
		return on
	}
	return gates[g]
}

// gateWarnings names the features that were switched and cannot be.
func (c *Config) gateWarnings() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		if _, known := gates[Gate(name)]; !known {
			list = append(list, fmt.Sprintf("%s: %s cannot be switched here: it is as the kubelet has it by default, where this agent has it at all", c.origins.at("featureGates."+name), name))
		}
	}
	return list
}

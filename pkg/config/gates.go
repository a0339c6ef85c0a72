package config

import (
	"fmt"
	"maps"
	"slices"
)

// Gate is a feature that can be turned on or off (featureGates).
type Gate string

// The features that this agent lets you change. The kubelet's other features are as
// they are there by default.
const (
	// MemoryQoS protects and throttles memory with cgroup v2 (KEP-2570).
	MemoryQoS Gate = "MemoryQoS"
)

// gates are the defaults, those of the kubelet 1.37.
var gates = map[Gate]bool{MemoryQoS: true}

// stages are how far these features are there.
var stages = map[Gate]string{MemoryQoS: "BETA"}

// GateState is one of the features that can be changed, as it is.
type GateState struct {
	Name  Gate
	Stage string // ALPHA, BETA, "" for what is generally available
	On    bool
}

// Gates returns the features that can be changed, ordered by name.
func (c *Config) Gates() []GateState {
	var list []GateState
	for _, g := range slices.Sorted(maps.Keys(gates)) {
		list = append(list, GateState{g, stages[g], c.Enabled(g)})
	}
	return list
}

// Enabled reports whether a feature is on.
func (c *Config) Enabled(g Gate) bool {
	if on, set := c.FeatureGates[string(g)]; set {
		return on
	}
	return gates[g]
}

// gateWarnings names the features that were set and cannot be changed.
func (c *Config) gateWarnings() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		if _, known := gates[Gate(name)]; !known {
			list = append(list, fmt.Sprintf("%s: %s cannot be switched here: it is as the kubelet has it by default, where this agent has it at all", c.origins.at("featureGates."+name), name))
		}
	}
	return list
}

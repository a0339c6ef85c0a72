package options

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// TopologyManager fine-tunes the policies of the topology manager but none
// (topologyManagerPolicyOptions).
type TopologyManager struct {
	// PreferClosest prefers NUMA nodes that are near each other (prefer-closest-numa-nodes).
	PreferClosest bool
	// MaxNodes is how many NUMA nodes the machine may have (max-allowable-numa-nodes): the sets of
	// them double with each.
	MaxNodes int
}

// mostNodes is the kubelet's limit, which can only be raised.
const mostNodes = 8

// ParseTopologyManager reads the options.
func ParseTopologyManager(options map[string]string) (TopologyManager, error) {
	o := TopologyManager{MaxNodes: mostNodes}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		var err error
		switch name {
		case "prefer-closest-numa-nodes":
			o.PreferClosest, err = strconv.ParseBool(options[name])
		case "max-allowable-numa-nodes":
			o.MaxNodes, err = strconv.Atoi(options[name])
			if err == nil && o.MaxNodes < mostNodes {
				return o, fmt.Errorf("the minimum value of %q should not be less than %d", name, mostNodes)
			}
		default:
			return o, fmt.Errorf("unknown Topology Manager Policy option: %q", name)
		}
		if err != nil {
			return o, fmt.Errorf("bad value for option %q: %w", name, err)
		}
	}
	return o, nil
}

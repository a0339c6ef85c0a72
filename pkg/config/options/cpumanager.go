// Package options reads options of the configuration that have a grammar of their own. It is
// a room of its own so that neither the configuration has to know the parts that act on them,
// nor these the configuration.
package options

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// CPUManager fine-tunes the static CPU manager policy (cpuManagerPolicyOptions).
type CPUManager struct {
	// FullCores gives out whole cores only (full-pcpus-only).
	FullCores bool
	// StrictReservation keeps the reserved CPUs out of the shared ones as well
	// (strict-cpu-reservation).
	StrictReservation bool
}

// ParseCPUManager reads the options. An option that the kubelet knows and this agent
// does not support is an error that names it, unless the option is off.
func ParseCPUManager(options map[string]string) (CPUManager, error) {
	var o CPUManager
	for _, name := range slices.Sorted(maps.Keys(options)) {
		on, err := strconv.ParseBool(options[name])
		if err != nil {
			return o, fmt.Errorf("bad value for option %q: %w", name, err)
		}
		switch name {
		case "full-pcpus-only":
			o.FullCores = on
		case "strict-cpu-reservation":
			o.StrictReservation = on
		case "align-by-socket", "distribute-cpus-across-cores", "distribute-cpus-across-numa", "prefer-align-cpus-by-uncorecache":
			if on {
				return o, fmt.Errorf("option %q of the CPU manager is not implemented here", name)
			}
		default:
			return o, fmt.Errorf("unknown CPU Manager Policy option: %q", name)
		}
	}
	return o, nil
}

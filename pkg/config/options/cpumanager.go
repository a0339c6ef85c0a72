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
	// Distribute takes equally many CPUs of each NUMA node where one has too few (distribute-cpus-across-numa).
	Distribute bool
}

// ParseCPUManager reads the options. An option that is alpha in Kubernetes 1.37 is refused with
// any value, as the kubelet refuses it while CPUManagerPolicyAlphaOptions is off, which cannot be switched
// on here. Another that the kubelet knows and this agent does not support is an error that names
// it, unless the option is off.
func ParseCPUManager(options map[string]string) (CPUManager, error) {
	var o CPUManager
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if name == "align-by-socket" || name == "distribute-cpus-across-cores" {
			return o, fmt.Errorf("CPU Manager Policy Alpha-level Options not enabled, but option %q provided", name)
		}
		on, err := strconv.ParseBool(options[name])
		if err != nil {
			return o, fmt.Errorf("bad value for option %q: %w", name, err)
		}
		switch name {
		case "full-pcpus-only":
			o.FullCores = on
		case "strict-cpu-reservation":
			o.StrictReservation = on
		case "distribute-cpus-across-numa":
			o.Distribute = on
		case "prefer-align-cpus-by-uncorecache":
			if on {
				return o, fmt.Errorf("option %q of the CPU manager is not implemented here", name)
			}
		default:
			return o, fmt.Errorf("unknown CPU Manager Policy option: %q", name)
		}
	}
	return o, nil
}

package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// Features that this agent lets you change, beside those of its log. All others are as the kubelet has
// them by default.
const (
	// MemoryQoS protects and throttles memory with cgroup v2 (KEP-2570).
	MemoryQoS featuregate.Feature = "MemoryQoS"
	// DefaultPodSysctls allows defaultPodSysctls.
	DefaultPodSysctls featuregate.Feature = "DefaultPodSysctls"
)

// ownGates are the features that can be changed.
var ownGates = []featuregate.Feature{MemoryQoS, DefaultPodSysctls, logsapi.ContextualLogging, logsapi.LoggingAlphaOptions, logsapi.LoggingBetaOptions}

// absentGates are features that the kubelet has on by default and this agent lacks.
var absentGates = []featuregate.Feature{"DynamicResourceAllocation", "UserNamespacesSupport", "PodCertificateRequest"}

// GateState is one of the features that can be changed, as it is.
type GateState struct {
	Name  featuregate.Feature
	Stage string // ALPHA, BETA, "" for what is generally available
	On    bool
}

// Gates returns the features that can be changed, ordered by name.
func (c *Config) Gates() []GateState {
	var list []GateState
	on := c.FeatureGate()
	for _, f := range slices.Sorted(slices.Values(ownGates)) {
		list = append(list, GateState{f, string(knownGates[f].PreRelease), on.Enabled(f)})
	}
	return list
}

// FeatureGate returns which features are on. What the configuration says of them has been validated.
func (c *Config) FeatureGate() featuregate.FeatureGate {
	g, _ := gatesOf(c.FeatureGates)
	return g
}

// Enabled reports whether a feature is on.
func (c *Config) Enabled(f featuregate.Feature) bool { return c.FeatureGate().Enabled(f) }

// gatesOf applies what was set to the kubelet's defaults, by its rules: no feature that is unknown, none
// that is locked to something else, AllAlpha and AllBeta for all that are not named.
func gatesOf(set map[string]bool) (featuregate.FeatureGate, error) {
	g := featuregate.NewFeatureGate()
	if err := g.Add(maps.Clone(knownGates)); err != nil {
		return g, fmt.Errorf("table of features: %w", err)
	}
	// Its own warnings are given with the others (gateWarnings).
	return g, g.SetFromMapWithLogger(klog.Logger{}, set)
}

func (c *Config) validateGates(k *checker) {
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		_, err := gatesOf(map[string]bool{name: c.FeatureGates[name]})
		k.want(err == nil, "featureGates."+name, "%v", err)
	}
}

// gateWarnings names the features that were set and are not as was asked for, and those that the kubelet
// warns about.
func (c *Config) gateWarnings() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		if why := gateWarning(featuregate.Feature(name), c.FeatureGates[name]); why != "" {
			list = append(list, fmt.Sprintf("%s: %s %s", c.origins.at("featureGates."+name), name, why))
		}
	}
	return list
}

func gateWarning(f featuregate.Feature, on bool) string {
	spec, known := knownGates[f]
	switch {
	case !known && on: // AllAlpha or AllBeta, which validation lets pass
		return "switches only what can be switched here: " + joinGates(ownGates)
	case !known:
		return ""
	case on && (slices.Contains(absentGates, f) || strings.HasPrefix(string(f), "DRA")):
		return "is not in this agent"
	case slices.Contains(ownGates, f):
		return ""
	case on != spec.Default:
		return fmt.Sprintf("cannot be switched here: it is %t, as the kubelet has it by default, where this agent has it at all", spec.Default)
	case spec.PreRelease == featuregate.GA:
		return "is a GA feature gate: it will be removed in a future release"
	case spec.PreRelease == featuregate.Deprecated:
		return "is a deprecated feature gate: it will be removed in a future release"
	}
	return ""
}

func joinGates(list []featuregate.Feature) string {
	var names []string
	for _, f := range list {
		names = append(names, string(f))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// KnownGates returns the kubelet's features and what they are by default.
func KnownGates() map[featuregate.Feature]featuregate.FeatureSpec { return maps.Clone(knownGates) }

// Package readiness knows whether the container runtime and its network are ready, and brings
// the node's pod CIDR to the runtime, without which some networks never are:
//
//	Status, every 5 s, every second while something is not ready ─▶ Network: may a sandbox be made?
//	pod CIDR, as the node or the configuration has it ─▶ UpdateRuntimeConfig, until it is accepted
//
// CRI has no event for a network that becomes ready, so that a look at the status is the
// quickest way to know. Pods that wait for it are named to Config.Wake in that moment. The
// decisions are in decide.go.
package readiness

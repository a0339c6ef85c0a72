// Package cpumanager gives containers CPUs of their own: the kubelet's static CPU
// manager policy (cpuManagerPolicy: static). A container of a Guaranteed pod that
// requests whole CPUs gets these for itself; all other containers share what is
// left, which the reserved CPUs always belong to.
//
//	admission ─▶ Allocate ─▶ State ─▶ file cpu_manager_state
//	                           │ Changed
//	worker ────▶ Release ──────┤
//	                           ▼
//	            criconfig ◀─ CPUs     Updater ─▶ UpdateContainerResources of what runs
//
// What is given to whom is decided by pure functions of the topology and the state
// (take.go, assign.go); the state is on disk before anybody goes by it, so an agent
// that is killed at any point goes on with what it gave.
package cpumanager

// Package cpumanager gives containers CPUs of their own: the kubelet's static CPU manager
// policy (cpuManagerPolicy: static). A container of a Guaranteed pod that requests whole
// CPUs gets them for itself; all other containers share the rest, which always includes the
// reserved CPUs.
//
//	admission ─▶ Allocate ─▶ State ─▶ file cpu_manager_state
//	                           │ Changed
//	worker ────▶ Release ──────┤
//	                           ▼
//	            criconfig ◀─ CPUs     Updater ─▶ UpdateContainerResources of what runs
//
// Pure functions of topology and state decide who gets what (take.go, distribute.go, assign.go); the state
// is on disk before anybody uses it, so an agent that is killed at any point continues with
// what it gave.
package cpumanager

// Package memorymanager says on which NUMA nodes the memory of a container is: the kubelet's Static
// memory manager policy (memoryManagerPolicy). Each container of a Guaranteed pod has its memory and
// huge pages on as few nodes as hold them, by cpuset.mems; all others use any node.
//
//	topologymanager ─▶ Plan: Hints, Give ─▶ Commit ─▶ state ─▶ file memory_manager_state
//	worker ──────────▶ Release ───────────────────────┤
//	                                     criconfig ◀──┴ Nodes
//
// What is on record is which container has how much on which nodes. What each node has left follows
// from that, as a pure function (state.go); a node serves either containers that are on it alone, or
// those of one group of nodes.
package memorymanager

// Package topologymanager brings together what a container is given of several kinds of resources,
// so that CPUs, memory and devices are of the same NUMA nodes (the kubelet's topologyManagerPolicy).
//
//	            ┌──▶ Plan of CPUs ────┐ Hints
//	admission ──┼──▶ Plan of memory ──┼──────▶ merge ──▶ nodes ──▶ Give each ──▶ … ──▶ Commit all
//	            └──▶ Plan of devices ─┘          └─▶ TopologyAffinityError
//
// Each provider says from which sets of nodes it could serve a container, merge finds the set that
// suits all best, and each gives from there. A pod is planned as a whole, container after container,
// on what the providers have at that moment; nothing is given before all of it is planned. With the
// policy "none" the providers are not asked and give as they see fit.
package topologymanager

// Package numa is about the machine's NUMA nodes: which there are, how far from each other they
// are, what memory each has, and sets of them. It decides nothing; the managers of CPUs, memory
// and devices do, and the topology manager brings them together.
package numa

// Package stats measures what only a container runtime knows of its containers: the size of
// their writable layers, and their CPU rates. The rest, in base/cgroupstats, is what the
// kernel keeps. Docker is not asked: its own statistics cost a call for each container and
// take a second each. The dockershim makes CRI's statistics of it.
package stats

// Package cgroupstats reads what cgroups use from where the kernel keeps it: cgroup files of
// version 1 and 2, and /proc. The dockershim makes CRI's statistics of it, the agent its
// metrics of containers, pods and the machine.
package cgroupstats

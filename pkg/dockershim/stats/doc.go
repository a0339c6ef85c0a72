// Package stats reads what containers use from where the kernel keeps it: cgroup
// files of version 1 and 2, /proc/<pid>/net/dev, and the directories of writable
// layers. Docker is not asked: its own statistics cost a call for each container
// and take a second each. The dockershim makes CRI's statistics of it.
package stats

// Package cgroup manages the control groups of pods: one for all pods, one for each of the
// lower quality of service classes, one for each pod.
//
//	<cgroupRoot>/kubepods              limits of all pods: node allocatable; with
//	│                                  MemoryQoS the memory of all is protected
//	├── pod<UID>                       a Guaranteed pod
//	├── burstable                      shares by the sum of the requests of its pods
//	│   └── pod<UID>
//	└── besteffort                     2 shares
//	    └── pod<UID>
//
// The names are pure functions (name.go), as are the values (values.go, pod.go); kernel.go
// writes them through github.com/opencontainers/cgroups, with cgroup v1 or v2, through
// cgroupfs or systemd. The worker has a pod's cgroup made before the pod's sandbox, and
// removed once its containers are gone. Only what was last written is remembered: after a
// restart everything is written again, which changes nothing.
package cgroup
